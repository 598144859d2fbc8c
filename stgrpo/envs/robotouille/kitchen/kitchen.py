"""A kitchen as written down: what stands where, who holds what, and the goal.

Beside the benchmark's environment JSON (`kitchen_json`) there is a compact line of our own,

    robot 0,1 at 0,0 holding potato | table 0,0 bottombun topbun | stove 1,1 | pot 2,3

with a station, its cell and its stack from bottom to top in each part; predicates that hold of a thing at the start
follow it in brackets, `patty(iscooked)`. The cell of the robot and the cell it faces come first.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from stgrpo.envs.robotouille.kitchen.domain import KINDS
from stgrpo.errors import UserError


@dataclass(frozen=True)
class Thing:
    """An object of the kitchen; `level` is its height in a stack, `id` the name by which the goal may call it."""

    kind: str
    x: int
    y: int
    level: int = 0
    predicates: tuple[str, ...] = ()
    id: str = ""


@dataclass(frozen=True)
class GoalAtom:
    """One requirement: a predicate over kinds of objects, each with an id.

    A numeric id is a variable: the same kind and id is the same object, different ids of a kind are different objects.
    Any other id is that of a certain object of the kitchen.
    """

    predicate: str
    kinds: tuple[str, ...]
    ids: tuple[str, ...]


@dataclass(frozen=True)
class Goal:
    """What has to hold at the end, and how an agent is told."""

    text: str
    atoms: tuple[GoalAtom, ...]


@dataclass(frozen=True)
class Kitchen:
    """A start state and a goal. `facing` is the cell of the station at which the robot stands."""

    stations: tuple[Thing, ...]
    items: tuple[Thing, ...]
    robot: Thing
    facing: tuple[int, int]
    goal: Goal
    containers: tuple[Thing, ...] = ()
    meals: tuple[Thing, ...] = ()

    def things(self) -> tuple[tuple[str, str, Thing], ...]:
        """Returns (name, type, thing) in the order in which an agent sees them.

        Each type is sorted by cell and numbered by kind from 1, as the benchmark does.
        """
        fields = {"station": self.stations, "item": self.items, "player": (self.robot,)}
        fields |= {"container": self.containers, "meal": self.meals}
        named = []
        for type_, members in fields.items():
            counts: dict[str, int] = {}
            for thing in sorted(members, key=lambda thing: (thing.x, thing.y)):
                counts[thing.kind] = counts.get(thing.kind, 0) + 1
                named.append((f"{thing.kind}{counts[thing.kind]}", type_, thing))
        return tuple(named)


def parse_goal(text: str, atoms: str) -> Goal:
    """Reads a goal such as `item_on(bread:1,table:2) atop(cheese:3,bread:1)`."""
    parsed = []
    for word in atoms.split():
        predicate, _, args = word.rstrip(")").partition("(")
        pairs = [arg.partition(":") for arg in args.split(",")]
        parsed.append(GoalAtom(predicate, tuple(pair[0] for pair in pairs), tuple(pair[2] for pair in pairs)))
    return Goal(text, one_kind_an_id(parsed))


def one_kind_an_id(atoms: Sequence[GoalAtom]) -> tuple[GoalAtom, ...]:
    """Gives a numeric id the same kind wherever it stands.

    The benchmark looks a variable up by its number alone: where a goal uses one number with two kinds, it means an
    object of that kind which the goal mentions first. (Its lettuce sandwich has `cheese:3` for `lettuce:3`.)
    """
    pairs = [pair for atom in atoms for pair in zip(atom.kinds, atom.ids, strict=True) if pair[1].isdigit()]
    kinds = dict.fromkeys(kind for kind, _ in pairs)
    meant = {id_: next(kind for kind in kinds if (kind, id_) in pairs) for _, id_ in pairs}
    return tuple(
        replace(atom, kinds=tuple(meant.get(id_, kind) for kind, id_ in zip(atom.kinds, atom.ids, strict=True)))
        for atom in atoms
    )


_WORD = re.compile(r"([a-z]+)(?:\(([a-z,]+)\))?$")


def _thing(word: str, x: int, y: int, level: int) -> Thing:
    match = _WORD.match(word)
    if match is None:
        raise UserError(f"kitchen: {word!r} is not a thing; write kind or kind(predicate,...)")
    return Thing(match[1], x, y, level, tuple(match[2].split(",")) if match[2] else ())


def _cell(text: str) -> tuple[int, int]:
    x, y = map(int, text.split(","))
    return x, y


def parse_kitchen(text: str, goal: Goal) -> Kitchen:
    """Reads the compact notation of this module."""
    robot, *parts = [part.split() for part in text.split("|")]
    (x, y), facing = _cell(robot[1]), _cell(robot[3])
    things = [_thing(word, x, y, 0) for word in robot[5:]]
    stations = []
    for kind, cell, *words in parts:
        at = _cell(cell)
        stations.append(Thing(kind, *at))
        things += [_thing(word, *at, level) for level, word in enumerate(words)]
    items, containers, meals = (tuple(t for t in things if t.kind in KINDS[k]) for k in ("item", "container", "meal"))
    return Kitchen(tuple(stations), items, Thing("robot", x, y), facing, goal, containers, meals)
