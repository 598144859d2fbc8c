"""Compiles the rules and one kitchen into bit masks.

Every atom that can change has a bit; a set of facts is a Python int. Ground actions are made on demand, for one
position of the robot and one content of its hand at a time: nothing else of the whole product of bindings can be valid,
so that even kitchens with tens of thousands of groundings are ready in a fraction of a millisecond.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product

from stgrpo.envs.robotouille.domain import (
    ACTIONS,
    CHANGING,
    PREDICATE,
    PREDICATES,
    TYPE_OF_LETTER,
    TYPES,
    WAIT,
    Action,
    Literal,
    Special,
    parse_literals,
)
from stgrpo.envs.robotouille.kitchen import Kitchen

Atom = tuple[str, tuple[str, ...]]
SITUATION = ("loc", "nothing", "has_item", "has_container")
"""Where the robot is and what it holds: the predicates by which ground actions are looked up."""


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
        self.bits: dict[Atom, int] = {}
        for predicate in PREDICATES:
            if predicate.name in CHANGING:
                for args in product(*(self.objects[t] for t in predicate.types)):
                    if len(set(args)) == len(args):
                        self.bits[predicate.name, args] = 1 << len(self.bits)
        self.atoms = tuple(self.bits)
        self.start = sum(self.bits[atom] for atom in start if atom[0] in CHANGING)
        self.situation = sum(bit for atom, bit in self.bits.items() if atom[0] in SITUATION)
        self.created = tuple(self.bits["iswater", (meal,)] for meal in self.objects["meal"])
        self.specials: dict[str, GroundSpecial] = {}
        self._actions: dict[int, tuple[GroundAction, ...]] = {}

    def true_atoms(self, facts: int) -> Iterator[Atom]:
        """Yields the atoms of a set of facts, without those that hold for good."""
        while facts:
            low = facts & -facts
            yield self.atoms[low.bit_length() - 1]
            facts ^= low

    def actions(self, facts: int) -> tuple[GroundAction, ...]:
        """Returns all ground actions that fit the robot's place and hand, in display order."""
        situation = facts & self.situation
        actions = self._actions.get(situation)
        if actions is None:
            known = dict(self._static_args)
            for name in SITUATION:
                known[name] = []
            for name, args in self.true_atoms(situation):
                known[name].append(args)
            actions = tuple(self._ground(action, bound) for action in ACTIONS for bound in self._bind(action, known))
            self._actions[situation] = actions
        return actions

    def _bind(self, action: Action, known: Mapping[str, list[tuple[str, ...]]]) -> Iterator[dict[str, str]]:
        """Yields the bindings that agree with what is known, in the order of the objects."""
        fixed = [literal for literal in action.preconditions if literal.value and not self._open(literal)]
        bindings: list[dict[str, str]] = [{}]
        for literal in fixed:
            bindings = [
                bound | dict(zip(literal.args, args, strict=True))
                for bound in bindings
                for args in known.get(literal.predicate, ())
                if all(bound.get(p, a) == a for p, a in zip(literal.args, args, strict=True))
            ]
        rest = [p for p in action.parameters if bindings and p not in bindings[0]]
        for bound in bindings:
            for args in product(*(self.objects[TYPE_OF_LETTER[p[0]]] for p in rest)):
                full = bound | dict(zip(rest, args, strict=True))
                if len(set(full.values())) == len(full):
                    yield full

    @staticmethod
    def _open(literal: Literal) -> bool:
        return literal.predicate in CHANGING and literal.predicate not in SITUATION

    def _ground(self, action: Action, bound: Mapping[str, str]) -> GroundAction:
        if action.text == WAIT:
            return GroundAction(WAIT, 0, 0, 0, 0)
        need = forbid = 0
        for literal in action.preconditions:
            bit = self.bits.get((literal.predicate, tuple(bound[p] for p in literal.args)), 0)
            need, forbid = (need | bit, forbid) if literal.value else (need, forbid | bit)
        add, delete = self._masks(parse_literals(action.effects), bound)
        specials = tuple(self._ground_special(special, bound) for special in action.specials)
        return GroundAction(action.text.format(**bound), need & ~self.situation, forbid, add, delete, specials)

    def _masks(self, literals: tuple[Literal, ...], bound: Mapping[str, str]) -> tuple[int, int]:
        masks = {True: 0, False: 0}
        for literal in literals:
            masks[literal.value] |= self.bits[literal.predicate, tuple(bound[p] for p in literal.args)]
        return masks[True], masks[False]

    def _ground_special(self, special: Special, bound: Mapping[str, str]) -> GroundSpecial:
        conditions, possible, names = 0, True, []
        for literal in parse_literals(special.conditions):
            atom = (literal.predicate, tuple(bound[p] for p in literal.args))
            conditions |= self.bits.get(atom, 0)
            possible &= atom in self.bits or atom in self.static
            names.append(f"{atom[0]}({','.join(atom[1])})")
        name = f"{bound[special.argument]} {'&'.join(names)} {special.effects} {special.results}"
        if name not in self.specials:
            meals = self.objects["meal"] if special.creates else ("",)
            results = parse_literals(special.results)
            masks = tuple(self._masks(results, {**bound, "m1": meal} if meal else bound) for meal in meals)
            effects = self._masks(parse_literals(special.effects), bound)
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
    for cell, station in by_cell.items():
        stack = [(thing.level, name) for name, type_, thing in things if type_ == "item" and (thing.x, thing.y) == cell]
        names = [name for _, name in sorted(stack, key=lambda pair: pair[0])]
        if names:
            facts |= {("item_on", (names[0], station)), ("clear", (names[-1],))}
            facts |= {("atop", (above, below)) for below, above in zip(names, names[1:], strict=False)}
    return facts


def _start_meals(things: tuple) -> set[Atom]:
    containers = {(t.x, t.y): name for name, type_, t in things if type_ == "container"}
    facts = {("in", (n, containers[t.x, t.y])) for n, type_, t in things if type_ == "meal" if (t.x, t.y) in containers}
    filled = {args[1] for _, args in facts}
    return facts | {("container_empty", (name,)) for name in containers.values() if name not in filled}
