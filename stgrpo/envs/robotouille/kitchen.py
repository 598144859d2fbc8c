"""A kitchen as written down: what stands where, who holds what, and the goal.

Two notations are read: the benchmark's environment JSON, and a compact line of our own,

    robot 0,1 at 0,0 holding potato | table 0,0 bottombun topbun | stove 1,1 | pot 2,3

with a station, its cell and its stack from bottom to top in each part; predicates that hold of a thing at the start
follow it in brackets, `patty(iscooked)`. The cell of the robot and the cell it faces come first.
"""

import json
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from stgrpo.envs.robotouille.domain import KINDS, PREDICATE
from stgrpo.errors import UserError

FIELDS = {"station": "stations", "item": "items", "player": "players", "container": "containers", "meal": "meals"}


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
    return Goal(text, _one_kind_an_id(parsed))


def _one_kind_an_id(atoms: Sequence[GoalAtom]) -> tuple[GoalAtom, ...]:
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


def parse_kitchen(text: str, goal: Goal) -> Kitchen:
    """Reads the compact notation of this module."""
    robot, *parts = [part.split() for part in text.split("|")]
    x, y = map(int, robot[1].split(","))
    facing = tuple(map(int, robot[3].split(",")))
    things = [_thing(word, x, y, 0) for word in robot[5:]]
    stations = []
    for kind, cell, *words in parts:
        at = tuple(map(int, cell.split(",")))
        stations.append(Thing(kind, *at))
        things += [_thing(word, *at, level) for level, word in enumerate(words)]
    items, containers, meals = (tuple(t for t in things if t.kind in KINDS[k]) for k in ("item", "container", "meal"))
    return Kitchen(tuple(stations), items, Thing("robot", x, y), (facing[0], facing[1]), goal, containers, meals)


def _from_entry(entry: Mapping) -> Thing:
    return Thing(
        entry["name"],
        entry["x"],
        entry["y"],
        entry.get("stack-level") or 0,
        tuple(entry.get("predicates", ())),
        str(entry.get("id", "")),
    )


def _read(source: Mapping | str | Path) -> Mapping:
    if isinstance(source, Mapping):
        return source
    try:
        return json.loads(Path(source).read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError) as error:
        raise UserError(f"environment {str(source)!r}: {error}; give the path of an environment JSON") from error


def _draw_wildcards(fields: Mapping[str, tuple[Thing, ...]], seed: int) -> dict[str, tuple[Thing, ...]]:
    """Makes each thing that is called by its type alone ("station", "item", "container") one of a kind of this type."""
    rng = random.Random(f"wildcards/{seed}")  # a string seeds alike on every platform
    return {
        type_: tuple(replace(t, kind=rng.choice(KINDS[type_])) if t.kind == type_ else t for t in things)
        for type_, things in fields.items()
    }


def kitchen_from_json(source: Mapping | str | Path, *, seed: int = 0) -> Kitchen:
    """Reads an environment in the benchmark's JSON format, from a dict or a file.

    Args:
        source: its content, or the path of the file.
        seed: of the kinds of wildcards; without them it has no effect.

    Raises:
        UserError: it is not such an environment, or needs what this engine does not have (a second player).
    """
    data = _read(source)
    try:
        fields = {type_: tuple(map(_from_entry, data.get(name) or ())) for type_, name in FIELDS.items()}
        direction = data["players"][0]["direction"] if data["players"] else (0, 0)
        atoms = [GoalAtom(g["predicate"], tuple(g["args"]), tuple(map(str, g["ids"]))) for g in data["goal"]]
        goal = Goal(data["goal_description"], _one_kind_an_id(atoms))
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(f"environment JSON: {error!r} is missing or malformed; see the benchmark's examples") from error
    if len(fields["player"]) != 1:
        raise UserError(f"environment JSON: {len(fields['player'])} players, but exactly 1 is supported; leave one")
    fields = _draw_wildcards(fields, seed)
    robot = fields["player"][0]
    kitchen = Kitchen(
        fields["station"],
        fields["item"],
        robot,
        (robot.x + direction[0], robot.y + direction[1]),
        goal,
        fields["container"],
        fields["meal"],
    )
    _check(kitchen)
    return kitchen


def _check(kitchen: Kitchen) -> None:
    for name, type_, thing in kitchen.things():
        if thing.kind not in KINDS[type_]:
            valid = ", ".join(KINDS[type_])
            raise UserError(f"environment JSON: {thing.kind!r} ({name}) is no {type_}; use one of {valid}")
    for predicate in [a.predicate for a in kitchen.goal.atoms] + [p for t in kitchen.items for p in t.predicates]:
        if predicate not in PREDICATE:
            raise UserError(f"environment JSON: unknown predicate {predicate!r}; use one of {', '.join(PREDICATE)}")
    cells = {(station.x, station.y) for station in kitchen.stations}
    if kitchen.facing not in cells:
        raise UserError(f"environment JSON: the robot faces {kitchen.facing}, where no station is; turn or move it")
