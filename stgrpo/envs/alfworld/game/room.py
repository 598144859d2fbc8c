"""A game's room: all that never changes in it. Objects, receptacles and locations are numbers here.

The numbers follow the sorted ids of the game file, which is the order of the package's lists.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

CLEAN, HOT, COOL, SLICED, TOGGLED = "clean", "hot", "cool", "sliced", "toggled"
NOTHING = -1
"""In the place of an object that is not there: empty hands, an action without one."""
KNIVES = ("knife", "butterknife")


class Treatment(NamedTuple):
    """What a thing can undergo at a station.

    Attributes:
        verb: the command's.
        stations: types of receptacles that do it.
        mark: what the thing is afterwards.
        undoes: a mark that it loses; "" for none.
    """

    verb: str
    stations: tuple[str, ...]
    mark: str
    undoes: str


TREATMENTS = (
    Treatment("clean", ("sink", "sinkbasin"), CLEAN, ""),
    Treatment("heat", ("microwave",), HOT, COOL),
    Treatment("cool", ("fridge",), COOL, HOT),
)
TREATMENT_OF = {treatment.verb: treatment for treatment in TREATMENTS}


class World(NamedTuple):
    """What changes, as the package keeps it.

    Attributes:
        at: the agent's location.
        held: the object in its hands, or NOTHING.
        opened: receptacles.
        inside: (object, receptacle); an object can be in two at once.
        near: (object, location), where objects lie or were last put down.
        left: (object, receptacle), where objects were taken from and not put back.
        marks: (mark, object).
    """

    at: int
    held: int
    opened: frozenset[int]
    inside: frozenset[tuple[int, int]]
    near: frozenset[tuple[int, int]]
    left: frozenset[tuple[int, int]]
    marks: frozenset[tuple[str, int]]


class Action(NamedTuple):
    """A command as the rules have it.

    Attributes:
        verb: "go", "open", "close", "take", "move", "clean", "heat", "cool", "use", "slice", "search" (examine a
            receptacle), "inspect" (examine an object), "look", "inventory" or "help"; "begin" and "unknown" are none,
            but have a text.
        thing: the object, or NOTHING.
        place: the receptacle; of "slice" the knife.
    """

    verb: str
    thing: int = NOTHING
    place: int = NOTHING


@dataclass(frozen=True)
class Goal:
    """What a game asks for.

    Attributes:
        task: one of the six types.
        thing: type of the object.
        place: type of the receptacle it goes to; for "look" that of the lamp.
        mark: that the thing must have.
        count: how many are to be in one receptacle.
    """

    task: str
    thing: str
    place: str
    mark: str = ""
    count: int = 1

    @property
    def is_look(self) -> bool:
        """Whether a thing is to be looked at under a lamp, and not put anywhere."""
        return self.task == LOOK


LOOK = "look_at_obj_in_light"
TASKS = (
    "pick_and_place_simple",
    LOOK,
    "pick_clean_then_place_in_recep",
    "pick_heat_then_place_in_recep",
    "pick_cool_then_place_in_recep",
    "pick_two_obj_and_place",
)


@dataclass(frozen=True, eq=False)
class Room:
    """The constants of one game.

    Attributes:
        objects: their names, such as "mug 1".
        object_types: as "mug".
        receptacles: their names.
        receptacle_types: as "sidetable".
        locations: their names, as "loc 7".
        location_of: of each receptacle.
        able: objects by property: "pickupable", "toggleable", "sliceable", "isreceptacleobject", "cleanable",
            "heatable", "coolable".
        openable: receptacles.
        accepts: by receptacle, the objects that may be put there.
        contents: by object, the objects inside it, sorted.
        goal: what is asked for.
        task_line: the same in words.
        start: how it begins.
    """

    objects: tuple[str, ...]
    object_types: tuple[str, ...]
    receptacles: tuple[str, ...]
    receptacle_types: tuple[str, ...]
    locations: tuple[str, ...]
    location_of: tuple[int, ...]
    able: Mapping[str, frozenset[int]]
    openable: frozenset[int]
    accepts: tuple[frozenset[int], ...]
    contents: Mapping[int, Sequence[int]]
    goal: Goal
    task_line: str
    start: World

    @property
    def goal_in_words(self) -> str:
        """What is asked for."""
        return self.task_line.removeprefix("Your task is to: ")

    @cached_property
    def at_location(self) -> tuple[tuple[int, ...], ...]:
        """The receptacles at each location."""
        places: list[list[int]] = [[] for _ in self.locations]
        for receptacle, location in enumerate(self.location_of):
            places[location].append(receptacle)
        return tuple(map(tuple, places))

    @cached_property
    def treatments_at(self) -> tuple[tuple[Treatment, ...], ...]:
        """What each receptacle does to things."""
        return tuple(tuple(t for t in TREATMENTS if kind in t.stations) for kind in self.receptacle_types)

    def is_closed(self, world: World, receptacle: int) -> bool:
        """Whether nobody sees what is in it."""
        return receptacle in self.openable and receptacle not in world.opened

    def objects_in(self, world: World, receptacle: int) -> list[int]:
        """What is in or on a receptacle, sorted."""
        return sorted([thing for thing, place in world.inside if place == receptacle])
