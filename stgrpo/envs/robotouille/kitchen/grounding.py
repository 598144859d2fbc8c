"""Compiles the rules and one kitchen into bit masks.

Every atom that can change has a bit; a set of facts is a Python int. Ground actions are made on demand: candidates, no
more than masks, for one place of the robot, what is there and what it holds, as nothing else of the whole product of
bindings can be valid; the rest of an action when it is first found valid. So even kitchens with tens of thousands of
groundings are ready in a fraction of a millisecond.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, reduce
from itertools import count, product
from operator import or_
from typing import NamedTuple

from stgrpo.envs.robotouille.kitchen.domain import (
    ACTIONS,
    CHANGING,
    PREDICATES,
    TYPE_OF_LETTER,
    TYPES,
    Action,
    Literal,
    Predicate,
    Special,
    parse_literals,
)
from stgrpo.envs.robotouille.kitchen.initial_state import Atom, meals_possible, start_atoms
from stgrpo.envs.robotouille.kitchen.kitchen import Kitchen

_REMEMBERED = 1 << 14
SITUATION = ("loc", "nothing", "has_item", "has_container")
"""Where the robot is and what it holds."""
HERE = ("item_at", "container_at")
"""What is at a station, the last argument. Of these, actions only ask for those of the robot's own."""


@dataclass(frozen=True, eq=False)
class GroundSpecial:
    """A lasting effect with its masks. `results` has one (add, delete) pair, or one a meal it may create.

    A kitchen has one object for each, so that they are compared and hashed by identity.
    """

    name: str
    conditions: int
    possible: bool
    effects: tuple[int, int]
    results: tuple[tuple[int, int], ...]
    repeats: int
    delay: int

    @property
    def touches(self) -> int:
        """The bits that an update reads or writes, but for those of what it may create."""
        masks = [mask for pair in (self.effects, *self.results) for mask in pair]
        return reduce(or_, masks, self.conditions)


@dataclass(frozen=True)
class GroundAction:
    """An action over objects: what it makes true, what is kept, and the effects it launches or continues."""

    text: str
    add: int
    keep: int
    specials: tuple[GroundSpecial, ...] = ()


@dataclass(slots=True)
class _Candidate:
    """A binding of an action to what the robot holds and has before it; grounded once it is found valid."""

    need: int
    forbid: int
    action: Action
    args: tuple[str, ...]
    ground: GroundAction | None = None


class _Schema:
    """An action with each parameter replaced by its place among them.

    `fixed` are preconditions by which bindings are found, the most telling first: where the robot is and what it holds,
    what is at its station, what holds for good. `open` ones become bits.
    """

    def __init__(self, action: Action):
        self.action = action
        place = {parameter: index for index, parameter in enumerate(action.parameters)}

        def literals(kind: str) -> list[tuple[str, tuple[int, ...]]]:
            chosen = [literal for literal in action.preconditions if _role(literal) == kind]
            return [(literal.predicate, tuple(place[arg] for arg in literal.args)) for literal in chosen]

        self.fixed = [*literals("situation"), *literals("here"), *literals("static")]
        self.open, self.forbidden = literals("open"), literals("forbidden")
        self.asks_for = {name for name, _ in literals("static")}
        self.looks_at = {name for name, _ in self.fixed} - self.asks_for
        bound = {index for _, places in self.fixed for index in places}
        self.types = [TYPE_OF_LETTER[parameter[0]] for parameter in action.parameters]
        self.free = [index for index in range(len(place)) if index not in bound]

    def bindings(self, known: Mapping[str, list[tuple[str, ...]]], objects: Mapping) -> Iterator[Sequence[str]]:
        """Yields the bindings that agree with what is known, in the order of the objects."""
        if not all(predicate in known for predicate, _ in self.fixed):
            return
        bindings = [[""] * len(self.types)]
        for predicate, places in self.fixed:
            bindings = [
                extended
                for bound in bindings
                for args in known[predicate]
                if (extended := _extend(bound, places, args)) is not None
            ]
        for bound in bindings:
            for args in product(*(objects[self.types[index]] for index in self.free)):
                for index, arg in zip(self.free, args, strict=True):
                    bound[index] = arg
                if len(set(bound)) == len(bound):
                    yield bound


def _role(literal: Literal) -> str:
    if not literal.value:
        return "forbidden"
    if literal.predicate in SITUATION:
        return "situation"
    if literal.predicate in HERE:
        return "here"
    return "open" if literal.predicate in CHANGING else "static"


def _extend(bound: list[str], places: tuple[int, ...], args: tuple[str, ...]) -> list[str] | None:
    extended = bound.copy()
    for place, arg in zip(places, args, strict=True):
        if extended[place] not in ("", arg):
            return None
        extended[place] = arg
    return extended


_SCHEMAS = tuple(map(_Schema, ACTIONS))
_parsed = cache(parse_literals)


class Choices(NamedTuple):
    """The valid actions of a state: their texts in display order, and what each does."""

    texts: tuple[str, ...]
    actions: dict[str, GroundAction]


class _Possible(NamedTuple):
    """An action that the kitchen's objects allow, its bindings by what it looks at, and all that were made."""

    schema: _Schema
    looks_at: int
    found: dict[int, tuple[tuple[_Candidate, ...], int]]
    made: dict[tuple[str, ...], _Candidate]


class _Here(NamedTuple):
    """The candidates for one place of the robot, hand and things there, and their valid ones by the facts they read."""

    candidates: tuple[_Candidate, ...]
    reads: int
    valid: dict[int, Choices]


class Grounding:
    """The objects, atoms and ground actions of one kitchen.

    Attributes:
        types: the type of each object, those that may come into being included, in the order of display.
        objects: the names of the objects by type.
        given: the names of the things that the kitchen starts with, by kind.
        ids: the names of the things that the goal may call by their own id.
        robot: its name.
        static: the atoms that hold for good.
        bits: the bit of each atom that can change; `atoms` has them in the order of their bits.
        start: the facts at the start.
        situation: the bits that say where the robot is and what it holds.
        created: the bit of each meal that says that it exists.
        specials: the lasting effects that were looked at so far, by name.
    """

    def __init__(self, kitchen: Kitchen):
        things = kitchen.things()
        self.types = {name: type_ for name, type_, _ in things}
        self.given: dict[str, tuple[str, ...]] = {}
        for name, _, thing in things:
            self.given[thing.kind] = (*self.given.get(thing.kind, ()), name)
        self.ids = {thing.id: name for name, _, thing in things if thing.id}
        for number in range(meals_possible(kitchen)):
            self.types.setdefault(f"water{number + 1}", "meal")
        self.objects = {type_: tuple(n for n, t in self.types.items() if t == type_) for type_ in TYPES}
        self.robot = self.objects["player"][0]
        start = start_atoms(kitchen)
        self.static = frozenset(atom for atom in start if atom[0] not in CHANGING)
        self._static_args: dict[str, list[tuple[str, ...]]] = {}
        for name, args in sorted(self.static):
            self._static_args.setdefault(name, []).append(args)
        self.atoms: tuple[Atom, ...] = ()
        masks = {p.name: self._add_atoms(p) for p in PREDICATES if p.name in CHANGING}
        self.bits: dict[Atom, int] = dict(zip(self.atoms, map((1).__lshift__, count()), strict=False))
        self.start = sum(self.bits[atom] for atom in start if atom[0] in CHANGING)
        self.situation = sum(masks[name] for name in SITUATION)
        self._loc = masks["loc"]
        self._near = {self.bits["loc", (self.robot, s)]: self._bits_at(s) for s in self.objects["station"]}
        self.created = tuple(self.bits["iswater", (meal,)] for meal in self.objects["meal"])
        self.specials: dict[str, GroundSpecial] = {}
        self._possible = [
            _Possible(schema, sum(masks[name] for name in schema.looks_at), {}, {})
            for schema in _SCHEMAS
            if schema.asks_for <= self._static_args.keys() and all(self.objects[type_] for type_ in schema.types)
        ]
        self._here: dict[int, _Here] = {}

    def _add_atoms(self, predicate: Predicate) -> int:
        """Appends the atoms of a predicate to the list, and returns the mask of their bits."""
        name, first = predicate.name, len(self.atoms)
        found = product(*(self.objects[type_] for type_ in predicate.types))
        self.atoms += tuple((name, args) for args in found if len(args) == 1 or args[0] != args[1])
        return (1 << len(self.atoms)) - (1 << first)

    def _bits_at(self, station: str) -> int:
        """Returns the bits by which the robot's actions at a station are found: its situation, and what is there."""
        things = (("item_at", "item"), ("container_at", "container"))
        here = sum(self.bits[name, (thing, station)] for name, type_ in things for thing in self.objects[type_])
        return self.situation | here

    def true_atoms(self, facts: int) -> Iterator[Atom]:
        """Yields the atoms of a set of facts, without those that hold for good."""
        while facts:
            low = facts & -facts
            yield self.atoms[low.bit_length() - 1]
            facts ^= low

    def valid(self, facts: int) -> Choices:
        """Returns the valid actions of a state."""
        near = facts & self._near[facts & self._loc]
        here = self._here.get(near)
        if here is None:
            if len(self._here) >= _REMEMBERED:
                self._here.clear()
            here = self._here[near] = self._look_around(near)
        read = facts & here.reads
        choices = here.valid.get(read)
        if choices is None:
            found = (c for c in here.candidates if read & c.need == c.need and not read & c.forbid)
            actions = {action.text: action for action in (c.ground or self._ground(c) for c in found)}
            choices = here.valid[read] = Choices(tuple(actions), actions)
        return choices

    def _look_around(self, near: int) -> _Here:
        """Returns the bindings that fit the robot's place and hand and what is there, in display order."""
        known, candidates, reads = self._known(self.true_atoms(near)), [], 0
        for possible in self._possible:
            seen = near & possible.looks_at
            found = possible.found.get(seen)
            if found is None:
                found = possible.found[seen] = self._bind(possible, known)
            candidates += found[0]
            reads |= found[1]
        return _Here(tuple(candidates), reads, {})

    def _known(self, atoms: Iterable[Atom]) -> dict[str, list[tuple[str, ...]]]:
        known = dict(self._static_args)
        for name, args in atoms:
            known.setdefault(name, []).append(args)
        return known

    def _bind(
        self, possible: _Possible, known: Mapping[str, list[tuple[str, ...]]]
    ) -> tuple[tuple[_Candidate, ...], int]:
        """Returns the bindings of an action that agree with what is known, and the bits they read."""
        schema, candidates, reads = possible.schema, [], 0
        for args in map(tuple, schema.bindings(known, self.objects)):
            candidate = possible.made.get(args)
            if candidate is None:
                need, forbid = self._mask(schema.open, args), self._mask(schema.forbidden, args)
                candidate = possible.made[args] = _Candidate(need, forbid, schema.action, args)
            candidates.append(candidate)
            reads |= candidate.need | candidate.forbid
        return tuple(candidates), reads

    def special(self, name: str) -> GroundSpecial:
        """Returns a lasting effect by its name, also where its action was never looked at (a state from elsewhere)."""
        if name not in self.specials:
            known = self._known(atom for atom in self.atoms if atom[0] in SITUATION or atom[0] in HERE)
            for possible in self._possible:
                if possible.schema.action.specials:
                    for candidate in self._bind(possible, known)[0]:
                        self._ground(candidate)
        return self.specials[name]

    def _mask(self, literals: list[tuple[str, tuple[int, ...]]], args: Sequence[str]) -> int:
        mask = 0
        for predicate, places in literals:
            mask |= self.bits.get((predicate, tuple([args[place] for place in places])), 0)
        return mask

    def _ground(self, candidate: _Candidate) -> GroundAction:
        action = candidate.action
        bound = dict(zip(action.parameters, candidate.args, strict=True))
        add, delete = self._masks(_parsed(action.effects), bound)
        specials = tuple(self._ground_special(special, bound) for special in action.specials)
        text = action.text.format(**bound)
        candidate.ground = GroundAction(text, add, ~delete, specials)
        return candidate.ground

    def _masks(self, literals: tuple[Literal, ...], bound: Mapping[str, str]) -> tuple[int, int]:
        masks = {True: 0, False: 0}
        for literal in literals:
            masks[literal.value] |= self.bits[literal.predicate, tuple(bound[p] for p in literal.args)]
        return masks[True], masks[False]

    def _ground_special(self, special: Special, bound: Mapping[str, str]) -> GroundSpecial:
        atoms = [(li.predicate, tuple(bound[p] for p in li.args)) for li in _parsed(special.conditions)]
        conditions = sum(self.bits.get(atom, 0) for atom in atoms)
        possible = all(atom in self.bits or atom in self.static for atom in atoms)
        name = effect_name(special, bound[special.argument], atoms)
        if name not in self.specials:
            meals = self.objects["meal"] if special.creates else ("",)
            results = _parsed(special.results)
            masks = tuple(self._masks(results, {**bound, "m1": meal} if meal else bound) for meal in meals)
            effects = self._masks(_parsed(special.effects), bound)
            self.specials[name] = GroundSpecial(
                name, conditions, possible, effects, masks, special.repeats, special.delay
            )
        return self.specials[name]


def write_atom(atom: Atom) -> str:
    """Returns an atom as text, `name(arg1,arg2)`."""
    name, args = atom
    return f"{name}({','.join(args)})"


def effect_name(special: Special, argument: str, conditions: Iterable[Atom]) -> str:
    """Returns the name by which a lasting effect is known in a state: what it does, to what, and while what holds."""
    return f"{argument} {'&'.join(map(write_atom, conditions))} {special.effects} {special.results}"
