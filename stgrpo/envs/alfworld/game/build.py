"""From a game's record to its room: names, numbers, goal."""

import re
from collections import Counter
from collections.abc import Callable, Iterable
from typing import NamedTuple

from stgrpo.envs.alfworld.game.record import Facts, GameRecord
from stgrpo.envs.alfworld.game.room import CLEAN as CLEANED
from stgrpo.envs.alfworld.game.room import COOL, HOT, LOOK, NOTHING, TASKS, Goal, Room, World
from stgrpo.errors import UserError

_ABLE = ("pickupable", "toggleable", "sliceable", "isreceptacleobject", "cleanable", "heatable", "coolable")
_MARKS = {"isclean": CLEANED, "ishot": HOT, "iscool": COOL}
_THING = re.compile(r"objecttype \?\w+ (\w+)type\b")
_PLACE = re.compile(r"receptacletype \?\w+ (\w+)type\b")
_PREDICATE = re.compile(r"\(\s*(\w+)[\s)]")
# The predicates of each form of goal, beside the types: what tells the forms apart, and all that they may have.
_COMMON = {"exists", "and", "objecttype", "receptacletype", "inreceptacle"}
_FORMS = {
    frozenset(_COMMON): (TASKS[0], "", 1),
    frozenset({"cleanable", "isclean"} | _COMMON): (TASKS[2], CLEANED, 1),
    frozenset({"heatable", "ishot"} | _COMMON): (TASKS[3], HOT, 1),
    frozenset({"coolable", "iscool"} | _COMMON): (TASKS[4], COOL, 1),
    frozenset({"not"} | _COMMON): (TASKS[5], "", 2),
}
_LOOK_FORM = set(
    "exists and objecttype inreceptacle toggleable istoggled receptacleatlocation atlocation holds".split()
)


def build_room(record: GameRecord) -> Room:
    """Builds the room of a game.

    Raises:
        UserError: its facts do not make one, or its goal is of none of the six types.
    """
    goal = _goal(record)
    try:
        return _Builder(record.facts).room(goal, record.task_line)
    except (KeyError, IndexError, ValueError) as error:
        what = f"{error.args[0]!r}" if error.args else "a fact"
        raise UserError(
            f"{record.name} is no game of ALFWorld (its facts do not fit together at {what}): "
            "get the games anew with `alfworld-download`"
        ) from error


def _goal(record: GameRecord) -> Goal:
    things, places = _THING.findall(record.goal), _PLACE.findall(record.goal)
    predicates = frozenset(_PREDICATE.findall(record.goal))
    if predicates == _LOOK_FORM and len(things) == 2:
        return Goal(LOOK, things[1], things[0])
    if predicates in _FORMS and things and places:
        task, mark, count = _FORMS[predicates]
        return Goal(task, things[0], places[0], mark, count)
    raise UserError(f"{record.name} has a goal of none of the six types: use games of {', '.join(TASKS)}")


def entity_names(ids: Iterable[str]) -> dict[str, str]:
    """Returns what the package calls things by their ids: those of a kind are counted down along the sorted ids.

    Args:
        ids: in small letters, such as "cabinet_bar__plus_00_dot_15_bar_..."; others have no name.
    """
    kinds = {name: _kind(name) for name in sorted(ids) if "_bar_" in name}
    left = Counter(kinds.values())
    names = {}
    for name, kind in kinds.items():
        names[name] = f"{kind} {left[kind]}"
        left[kind] -= 1
    return names


def _kind(name: str) -> str:
    return name.split("_bar_", 1)[0] + ("basin" if "basin" in name else "")


class EntityNumbers(NamedTuple):
    """The numbers of objects, receptacles and locations, by their ids."""

    objects: dict[str, int]
    receptacles: dict[str, int]
    locations: dict[str, int]

    @classmethod
    def of(cls, facts: Facts) -> "EntityNumbers":
        """Numbers the things of a game along their sorted ids."""
        places = [facts.get(name, []) for name in ("receptacleatlocation", "objectatlocation", "atlocation")]
        return cls(
            _numbered(fact[0] for fact in facts.get("objecttype", [])),
            _numbered(fact[0] for fact in facts.get("receptacleatlocation", [])),
            _numbered(fact[-1] for every in places for fact in every),
        )


def _numbered(ids: Iterable[str]) -> dict[str, int]:
    return {name: number for number, name in enumerate(sorted(set(ids)))}


class _Builder:
    """Makes the parts of a room of the facts of its game."""

    def __init__(self, facts: Facts):
        self._facts = facts
        self._names = entity_names({name for every in facts.values() for fact in every for name in fact})
        self._objects, self._receptacles, self._locations = EntityNumbers.of(facts)

    def room(self, goal: Goal, task_line: str) -> Room:
        object_types = self._types("objecttype", self._objects)
        receptacle_types = self._types("receptacletype", self._receptacles)
        location_of = self._mapping("receptacleatlocation")
        return Room(
            objects=tuple(self._names[name] for name in self._objects),
            object_types=object_types,
            receptacles=tuple(self._names[name] for name in self._receptacles),
            receptacle_types=receptacle_types,
            locations=tuple(self._names[name] for name in self._locations),
            location_of=tuple(self._locations[location_of[name]] for name in self._receptacles),
            able={able: self._having(able, self._objects) for able in _ABLE},
            openable=self._having("openable", self._receptacles),
            accepts=self._accepts(receptacle_types, object_types),
            contents=self._contents(),
            goal=goal,
            task_line=task_line,
            start=self._start(),
        )

    def _types(self, predicate: str, known: dict[str, int]) -> tuple[str, ...]:
        types = self._mapping(predicate)
        return tuple(types[name].removesuffix("type") for name in known)

    def _mapping(self, predicate: str) -> dict[str, str]:
        return {fact[0]: fact[1] for fact in self._facts[predicate]}

    def _having(self, predicate: str, known: dict[str, int]) -> frozenset[int]:
        """The things that have a property; one that is nowhere in the room does not matter."""
        return frozenset(known[name] for (name,) in self._facts.get(predicate, []) if name in known)

    def _accepts(self, receptacle_types: tuple[str, ...], object_types: tuple[str, ...]) -> tuple[frozenset[int], ...]:
        pairs = {(r.removesuffix("type"), o.removesuffix("type")) for r, o in self._facts.get("cancontain", [])}
        things = list(enumerate(object_types))
        by_type = {
            kind: frozenset(thing for thing, other in things if (kind, other) in pairs)
            for kind in set(receptacle_types)
        }
        return tuple(by_type[kind] for kind in receptacle_types)

    def _contents(self) -> dict[int, list[int]]:
        found: dict[int, list[int]] = {}
        for inner, outer in self._facts.get("inreceptacleobject", []):
            found.setdefault(self._objects[outer], []).append(self._objects[inner])
        return {outer: sorted(inner) for outer, inner in found.items()}

    def _start(self) -> World:
        ((_, at),) = self._facts["atlocation"]
        objects, receptacles, locations = self._objects, self._receptacles, self._locations
        return World(
            at=locations[at],
            held=NOTHING,
            opened=self._having("opened", receptacles),
            inside=self._pairs("inreceptacle", objects.__getitem__, receptacles.__getitem__),
            near=self._pairs("objectatlocation", objects.__getitem__, locations.__getitem__),
            left=frozenset(),
            marks=frozenset(
                (mark, thing) for predicate, mark in _MARKS.items() for thing in self._having(predicate, objects)
            ),
        )

    def _pairs(
        self, predicate: str, first: Callable[[str], int], second: Callable[[str], int]
    ) -> frozenset[tuple[int, int]]:
        return frozenset((first(a), second(b)) for a, b in self._facts.get(predicate, []))
