"""Our own kitchens from a seed, for any task.

Families:
- `random`: as large and cluttered as the benchmark's test kitchens; things alone or in stacks, anywhere.
- `small`: hardly more stations than the task needs (3 to 5 for the paper's four), at most one distractor.
- `noisy`: the default kitchen with its stations at other cells, their stacks and the robot's start kept, among extra
  stations and distractors.
- `horizon50`, `horizon100`, `horizon200`: kitchens whose optimum is at least so many steps; see `horizons.py`.

A kitchen is a pure function of (task, family, seed). All starts occur: the robot at any station, something in its hand
or nothing, distractors of any kind, raw and uncut. Each kitchen has the stations that the task needs and can be solved:
three stations without a container on them are enough to bring any item anywhere, and any container to any station.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from typing import Protocol

from stgrpo.envs.robotouille.kitchen.domain import CONTAINERS, STATIONS
from stgrpo.envs.robotouille.kitchen.kitchen import Kitchen, Thing
from stgrpo.envs.robotouille.kitchen.tasks import Task
from stgrpo.envs.robotouille.layouts.horizons import Horizon
from stgrpo.envs.robotouille.layouts.placement import Cell, random_floor, random_items
from stgrpo.envs.robotouille.layouts.required_stations import required_stations

_KEPT = 256
_GRID = 5
_HIGHEST = 3
_SPARE = 3
# Half of the benchmark's stations are tables, since the task's own are forced in and the rest is of any kind.
_EXTRA_STATIONS = ("table", *STATIONS)


class Family(Protocol):
    """A way to make kitchens of a task.

    Attributes:
        bounded: whether the optimum is within the cap by construction.
    """

    bounded: bool = False

    def kitchen(self, task: Task, rng: random.Random) -> Kitchen:
        """Draws a kitchen.

        Raises:
            UserError: the family has none of this task.
        """
        ...

    def max_steps(self, task: Task, kitchen: Kitchen) -> int:
        """Returns the cap on the steps in a kitchen of this family: the task's, unless the family has its own."""
        return task.max_steps


@dataclass(frozen=True)
class Scattered(Family):
    """Things anywhere.

    Attributes:
        stations: least and greatest number of stations. A task that needs more has up to two more than it needs.
        distractors: the greatest number of things the task does not need.
        held: probability that the robot starts with something in its hand.
        stacked: probability that things may start on top of each other.
    """

    stations: tuple[int, int]
    distractors: int
    held: float
    stacked: float

    def kitchen(self, task: Task, rng: random.Random) -> Kitchen:
        """Draws a kitchen."""
        default = task.default()
        needed = [replace(thing, x=0, y=0, level=0) for thing in (*default.items, *default.containers)]
        least, most = self.sizes(task)
        held = rng.random() < self.held
        stacked = rng.random() < self.stacked or len(needed) - held > most
        kinds = _station_kinds(rng, _required(task), max(least, 0 if stacked else len(needed) - held), most)
        room = _HIGHEST * (len(kinds) - len(default.containers)) - len(default.items)
        room = min(len(kinds), room) if stacked else len(kinds) + held - len(needed)
        things = needed + _distractors(rng, min(self.distractors, room))
        rng.shuffle(things)
        cells, robot, facing = random_floor(rng, len(kinds), _side(default))
        stations = tuple(Thing(kind, *cell) for kind, cell in zip(kinds, cells, strict=True))
        in_hand = [replace(things.pop(), x=robot[0], y=robot[1])] if held else []
        if in_hand and in_hand[0].kind in CONTAINERS:
            cells = cells[1:]  # a container can be put down only where nothing stands
        placed = _place(rng, things, cells, _HIGHEST if stacked or len(things) > len(cells) else 1)
        items, containers = _parted(placed + in_hand)
        return Kitchen(stations, items, Thing("robot", *robot), facing, task.goal, containers)

    def sizes(self, task: Task) -> tuple[int, int]:
        """Returns the least and the greatest number of stations of a task's kitchens whose things all stand in stacks.

        The least is enough for the stations that the task needs, for its things with a distractor in stacks of three,
        and for three stations without a container.
        """
        default = task.default()
        piles = -(-(len(default.items) + 1) // _HIGHEST)
        least = max(self.stations[0], len(_required(task)), max(_SPARE, piles) + len(default.containers))
        return least, max(self.stations[1], least + 2)


@dataclass(frozen=True)
class Noisy(Family):
    """The default kitchen's own stations as they are, at other cells, and more around them.

    Attributes:
        stations: up to how many stations a kitchen has; there may always be two extra ones.
        distractors: the greatest number of things that stand about on the extra stations.
        stacked: probability that distractors may start on top of each other.
    """

    stations: int
    distractors: int
    stacked: float

    def kitchen(self, task: Task, rng: random.Random) -> Kitchen:
        """Draws a kitchen."""
        default = task.default()
        own = len(default.stations)
        extra = [rng.choice(_EXTRA_STATIONS) for _ in range(rng.randint(0, max(2, self.stations - own)))]
        highest = _HIGHEST if rng.random() < self.stacked else 1
        distractors = _distractors(rng, min(self.distractors, len(extra)))
        cells, robot, facing = random_floor(rng, own + len(extra), _side(default))
        free = [cell for cell in cells if cell != facing]
        moved = {default.facing: facing, (default.robot.x, default.robot.y): robot}
        moved |= {(s.x, s.y): free.pop() for s in default.stations if (s.x, s.y) != default.facing}

        def move(things: Sequence[Thing]) -> tuple[Thing, ...]:
            return tuple(replace(t, x=moved[t.x, t.y][0], y=moved[t.x, t.y][1]) for t in things)

        stations = move(default.stations) + tuple(Thing(kind, *cell) for kind, cell in zip(extra, free, strict=True))
        items = move(default.items) + tuple(_place(rng, distractors, free, highest))
        return Kitchen(stations, items, Thing("robot", *robot), facing, task.goal, move(default.containers))


_required = cache(required_stations)

FAMILIES: dict[str, Family] = {
    "random": Scattered(stations=(3, 14), distractors=10, held=0.25, stacked=0.25),
    "small": Scattered(stations=(3, 5), distractors=1, held=0.25, stacked=0.15),
    "noisy": Noisy(stations=14, distractors=10, stacked=0.25),
    "horizon50": Horizon(50),
    "horizon100": Horizon(100),
    "horizon200": Horizon(200),
}


@lru_cache(_KEPT)
def generate(task: Task, family: str, seed: int) -> Kitchen:
    """Returns the kitchen of a seed.

    The last ones are kept: a kitchen is looked at for its split, tried for a way to the goal, and then played in.

    Raises:
        UserError: the family has no kitchens of this task.
    """
    # A string seeds through SHA-512, so kitchens do not depend on the hash seed or the platform.
    return FAMILIES[family].kitchen(task, random.Random(f"{task.name}/{family}/{seed}"))


def _side(default: Kitchen) -> int:
    """Returns the side of the square on which the default kitchen stands, at least that of the paper's tasks."""
    return max(_GRID, 1 + max(max(station.x, station.y) for station in default.stations))


def _station_kinds(rng: random.Random, required: Sequence[str], least: int, most: int) -> list[str]:
    """Returns those that are needed, and others of any kind, in any order."""
    count = rng.randint(least, max(least, most))
    kinds = [*required, *(rng.choice(_EXTRA_STATIONS) for _ in range(count - len(required)))]
    rng.shuffle(kinds)
    return kinds


def _distractors(rng: random.Random, most: int) -> list[Thing]:
    return random_items(rng, rng.randint(0, max(0, most)))


def _place(rng: random.Random, things: Sequence[Thing], cells: Sequence[Cell], highest: int) -> list[Thing]:
    """Puts each container on a station of its own, and each item on one with a stack of less than `highest`."""
    height = dict.fromkeys(cells, 0)
    placed = []
    items, containers = _parted(things)
    for container in containers:
        cell = rng.choice([cell for cell in cells if not height[cell]])
        placed.append(replace(container, x=cell[0], y=cell[1]))
        height[cell] = highest
    for item in items:
        cell = rng.choice([cell for cell in cells if height[cell] < highest])
        placed.append(replace(item, x=cell[0], y=cell[1], level=height[cell]))
        height[cell] += 1
    return placed


def _parted(things: Sequence[Thing]) -> tuple[tuple[Thing, ...], tuple[Thing, ...]]:
    items = tuple(thing for thing in things if thing.kind not in CONTAINERS)
    return items, tuple(thing for thing in things if thing.kind in CONTAINERS)
