"""Compiles the rules and one kitchen into bit masks.

Every atom that can change has a bit; a set of facts is a Python int. Ground actions are made on demand: candidates, no
more than masks, for one place of the robot, what is there and what it holds, as nothing else of the whole product of
bindings can be valid; the rest of an action when it is first found valid. So even kitchens with tens of thousands of
groundings are ready in a fraction of a millisecond.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product

from stgrpo.envs.robotouille.domain import (
    ACTIONS,
    CHANGING,
    PREDICATE,
    PREDICATES,
    TYPE_OF_LETTER,
    TYPES,
    Action,
    Literal,
    Predicate,
    Special,
    parse_literals,
)
from stgrpo.envs.robotouille.kitchen import Kitchen

Atom = tuple[str, tuple[str, ...]]
SITUATION = ("loc", "nothing", "has_item", "has_container")
"""Where the robot is and what it holds."""
HERE = ("item_at", "container_at")
"""What is at a station, the last argument. Of these, actions only ask for those of the robot's own."""


@dataclass(frozen=True)
class GroundSpecial:
    """A lasting effect with its masks. `results` has one (add, delete) pair, or one a meal it may create."""

    name: str
    conditions: int
    possible: bool
    effects: tuple[int, int]
    results: tuple[tuple[int, int], ...]
    repeats: int
    delay: int


@dataclass(frozen=True)
class GroundAction:
    """An action over objects: valid if all of `need` and none of `forbid` holds."""

    text: str
    need: int
    forbid: int
    add: int
    delete: int
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


class Grounding:
    """The objects, atoms and ground actions of one kitchen."""

    def __init__(self, kitchen: Kitchen):
        things = kitchen.things()
        self.types = {name: type_ for name, type_, _ in things}
        self.ids = {thing.id: name for name, _, thing in things if thing.id}
        for number in range(_meals_possible(kitchen)):
            self.types.setdefault(f"water{number + 1}", "meal")
        self.objects = {type_: tuple(n for n, t in self.types.items() if t == type_) for type_ in TYPES}
        self.robot = self.objects["player"][0]
        start = _start(kitchen)
        self.static = frozenset(atom for atom in start if atom[0] not in CHANGING)
        self._static_args: dict[str, list[tuple[str, ...]]] = {}
        for name, args in sorted(self.static):
            self._static_args.setdefault(name, []).append(args)
        atoms = (atom for p in PREDICATES if p.name in CHANGING for atom in self._atoms_of(p))
        self.bits: dict[Atom, int] = {atom: 1 << index for index, atom in enumerate(atoms)}
        self.atoms = tuple(self.bits)
        self.start = sum(self.bits[atom] for atom in start if atom[0] in CHANGING)
        self.situation = sum(bit for atom, bit in self.bits.items() if atom[0] in SITUATION)
        self._loc = sum(self._bits_of("loc"))
        self._near = {loc: self.situation for loc in self._bits_of("loc")}
        for (name, args), bit in self.bits.items():
            if name in HERE:
                self._near[self.bits["loc", (self.robot, args[-1])]] |= bit
        self.created = tuple(self.bits["iswater", (meal,)] for meal in self.objects["meal"])
        self.specials: dict[str, GroundSpecial] = {}
        self._made: list[dict[tuple[str, ...], _Candidate]] = [{} for _ in _SCHEMAS]
        self._candidates: dict[int, tuple[_Candidate, ...]] = {}

    def _atoms_of(self, predicate: Predicate) -> Iterator[Atom]:
        for args in product(*(self.objects[type_] for type_ in predicate.types)):
            if len(args) == 1 or args[0] != args[1]:
                yield predicate.name, args

    def _bits_of(self, predicate: str) -> list[int]:
        return [bit for (name, _), bit in self.bits.items() if name == predicate]

    def true_atoms(self, facts: int) -> Iterator[Atom]:
        """Yields the atoms of a set of facts, without those that hold for good."""
        while facts:
            low = facts & -facts
            yield self.atoms[low.bit_length() - 1]
            facts ^= low

    def valid(self, facts: int) -> dict[str, GroundAction]:
        """Returns the valid actions of a state by their text, in display order."""
        found = (c for c in self._fitting(facts) if facts & c.need == c.need and not facts & c.forbid)
        return {action.text: action for action in (c.ground or self._ground(c) for c in found)}

    def _fitting(self, facts: int) -> tuple[_Candidate, ...]:
        """Returns the bindings that fit the robot's place and hand and what is there, in display order."""
        near = facts & self._near[facts & self._loc]
        candidates = self._candidates.get(near)
        if candidates is None:
            known = dict(self._static_args)
            for name, args in self.true_atoms(near):
                known.setdefault(name, []).append(args)
            candidates = self._candidates[near] = tuple(self._bind(known))
        return candidates

    def _bind(self, known: Mapping[str, list[tuple[str, ...]]]) -> Iterator[_Candidate]:
        for schema, made in zip(_SCHEMAS, self._made, strict=True):
            for args in map(tuple, schema.bindings(known, self.objects)):
                candidate = made.get(args)
                if candidate is None:
                    need, forbid = self._mask(schema.open, args), self._mask(schema.forbidden, args)
                    candidate = made[args] = _Candidate(need, forbid, schema.action, args)
                yield candidate

    def special(self, name: str) -> GroundSpecial:
        """Returns a lasting effect by its name, also where its action was never looked at (a state from elsewhere)."""
        if name not in self.specials:
            known = dict(self._static_args)
            for predicate, args in self.atoms:
                if predicate in SITUATION or predicate in HERE:
                    known.setdefault(predicate, []).append(args)
            for candidate in self._bind(known):
                if candidate.action.specials:
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
        candidate.ground = GroundAction(text, candidate.need, candidate.forbid, add, delete, specials)
        return candidate.ground

    def _masks(self, literals: tuple[Literal, ...], bound: Mapping[str, str]) -> tuple[int, int]:
        masks = {True: 0, False: 0}
        for literal in literals:
            masks[literal.value] |= self.bits[literal.predicate, tuple(bound[p] for p in literal.args)]
        return masks[True], masks[False]

    def _ground_special(self, special: Special, bound: Mapping[str, str]) -> GroundSpecial:
        conditions, possible, names = 0, True, []
        for literal in _parsed(special.conditions):
            atom = (literal.predicate, tuple(bound[p] for p in literal.args))
            conditions |= self.bits.get(atom, 0)
            possible &= atom in self.bits or atom in self.static
            names.append(f"{atom[0]}({','.join(atom[1])})")
        name = f"{bound[special.argument]} {'&'.join(names)} {special.effects} {special.results}"
        if name not in self.specials:
            meals = self.objects["meal"] if special.creates else ("",)
            results = _parsed(special.results)
            masks = tuple(self._masks(results, {**bound, "m1": meal} if meal else bound) for meal in meals)
            effects = self._masks(_parsed(special.effects), bound)
            self.specials[name] = GroundSpecial(
                name, conditions, possible, effects, masks, special.repeats, special.delay
            )
        return self.specials[name]


def _meals_possible(kitchen: Kitchen) -> int:
    """Returns a bound on the meals there can ever be: the given ones, and what the sinks can still fill.

    A pot can be set to fill at each sink while it is empty, and is empty again only once its water is in a bowl, which
    stays full: so there are at most as many fillings at a sink as pots and bowls.
    """
    sinks = sum(station.kind == "sink" for station in kitchen.stations)
    pots = any(container.kind == "pot" for container in kitchen.containers)
    return len(kitchen.meals) + (sinks * len(kitchen.containers) if pots else 0)


def _start(kitchen: Kitchen) -> set[Atom]:
    """Returns all atoms true at the start."""
    things = kitchen.things()
    by_cell = {(t.x, t.y): name for name, type_, t in things if type_ == "station"}
    robot = next(name for name, type_, _ in things if type_ == "player")
    facts: set[Atom] = {("loc", (robot, by_cell[kitchen.facing]))}
    for name, type_, thing in things:
        if f"is{thing.kind}" in PREDICATE:
            facts.add((f"is{thing.kind}", (name,)))
        facts.update((predicate, (name,)) for predicate in thing.predicates)
        if type_ == "item" and (thing.x, thing.y) in by_cell:
            facts.add(("item_at", (name, by_cell[thing.x, thing.y])))
        elif type_ == "container" and (thing.x, thing.y) in by_cell:
            facts.add(("container_at", (name, by_cell[thing.x, thing.y])))
        elif type_ in ("item", "container") and (thing.x, thing.y) == (kitchen.robot.x, kitchen.robot.y):
            facts.add((f"has_{type_}", (robot, name)))
    facts |= _start_stacks(things, by_cell) | _start_meals(things)
    used = {args[-1] for name, args in facts if name in ("item_at", "container_at")}
    facts |= {("station_empty", (s,)) for s in by_cell.values() if s not in used}
    facts |= {("vacant", (s,)) for s in by_cell.values() if s != by_cell[kitchen.facing]}
    if not any(name in ("has_item", "has_container") for name, _ in facts):
        facts.add(("nothing", (robot,)))
    return facts


def _start_stacks(things: tuple, by_cell: Mapping[tuple[int, int], str]) -> set[Atom]:
    facts: set[Atom] = set()
    stacks: dict[str, list[tuple[int, str]]] = {}
    for name, type_, thing in things:
        if type_ == "item" and (thing.x, thing.y) in by_cell:
            stacks.setdefault(by_cell[thing.x, thing.y], []).append((thing.level, name))
    for station, stack in stacks.items():
        names = [name for _, name in sorted(stack, key=lambda pair: pair[0])]
        facts |= {("item_on", (names[0], station)), ("clear", (names[-1],))}
        facts |= {("atop", (above, below)) for below, above in zip(names, names[1:], strict=False)}
    return facts


def _start_meals(things: tuple) -> set[Atom]:
    containers = {(t.x, t.y): name for name, type_, t in things if type_ == "container"}
    facts = {("in", (n, containers[t.x, t.y])) for n, type_, t in things if type_ == "meal" if (t.x, t.y) in containers}
    filled = {args[1] for _, args in facts}
    return facts | {("container_empty", (name,)) for name in containers.values() if name not in filled}
