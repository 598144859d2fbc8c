"""Our own kitchens from a seed: `random` as large and cluttered as the benchmark's, `small` with 3 to 5 stations.

A kitchen is a pure function of (task, family, seed). All starts occur: the robot at any station, something in its hand
or nothing, things alone or in stacks, distractors of any kind, raw and uncut.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

from stgrpo.envs.robotouille.domain import ITEMS, STATIONS
from stgrpo.envs.robotouille.kitchen import Kitchen, Thing
from stgrpo.envs.robotouille.tasks import Task

_GRID = 5
_HIGHEST = 3
_RAW = {
    "patty": ("iscookable",),
    "chicken": ("iscookable",),
    "lettuce": ("iscuttable",),
    "tomato": ("iscuttable",),
    "onion": ("iscuttable",),
}
Cell = tuple[int, int]


@dataclass(frozen=True)
class Family:
    """The ranges a family draws from.

    Attributes:
        stations: least and greatest number of stations.
        distractors: the greatest number of things the task does not need.
        held: probability that the robot starts with something in its hand.
        stacked: probability that things may start on top of each other.
    """

    stations: tuple[int, int]
    distractors: int
    held: float
    stacked: float


FAMILIES = {
    "random": Family(stations=(3, 14), distractors=10, held=0.25, stacked=0.25),
    "small": Family(stations=(3, 5), distractors=1, held=0.25, stacked=0.15),
}


def generate(task: Task, family: str, seed: int) -> Kitchen:
    """Returns the kitchen of a seed."""
    # A string seeds through SHA-512, so kitchens do not depend on the hash seed or the platform.
    rng = random.Random(f"{task.name}/{family}/{seed}")
    ranges = FAMILIES[family]
    default = task.default()
    needed = [replace(item, x=0, y=0, level=0) for item in default.items]
    held = rng.random() < ranges.held
    stacked = rng.random() < ranges.stacked or len(needed) - held > ranges.stations[1]
    places = max(ranges.stations[0], 0 if stacked else len(needed) - held)
    kinds = _station_kinds(rng, ranges, places)
    items = needed + _distractors(rng, ranges, len(kinds) if stacked else len(kinds) + held - len(needed))
    rng.shuffle(items)
    cells, robot, facing = _floor(rng, len(kinds))
    stations = tuple(Thing(kind, *cell) for kind, cell in zip(kinds, cells, strict=True))
    in_hand = [replace(items.pop(), x=robot[0], y=robot[1])] if held else []
    placed = _place(rng, items, cells, stacked)
    return Kitchen(stations, tuple(placed + in_hand), Thing("robot", *robot), facing, task.goal)


def _station_kinds(rng: random.Random, ranges: Family, least: int) -> list[str]:
    """At least one table, on which every goal of these tasks is met; the others of any kind."""
    count = rng.randint(least, max(least, ranges.stations[1]))
    # Half of the benchmark's stations are tables, since the task's own are forced in and the rest is of any kind.
    kinds = ["table", *(rng.choice(("table", *STATIONS)) for _ in range(count - 1))]
    rng.shuffle(kinds)
    return kinds


def _distractors(rng: random.Random, ranges: Family, room: int) -> list[Thing]:
    count = rng.randint(0, max(0, min(ranges.distractors, room)))
    kinds = [rng.choice(ITEMS) for _ in range(count)]
    return [Thing(kind, 0, 0, 0, _RAW.get(kind, ())) for kind in kinds]


def _place(rng: random.Random, items: Sequence[Thing], cells: Sequence[Cell], stacked: bool) -> list[Thing]:
    """Puts every item on a free station, or, where stacks are allowed, on one with a stack of less than three."""
    height = dict.fromkeys(cells, 0)
    placed = []
    for item in items:
        cell = rng.choice([cell for cell in cells if height[cell] < (_HIGHEST if stacked else 1)])
        placed.append(replace(item, x=cell[0], y=cell[1], level=height[cell]))
        height[cell] += 1
    return placed


def _floor(rng: random.Random, count: int) -> tuple[list[Cell], Cell, Cell]:
    """Returns cells for stations, the robot's cell and the cell it faces.

    The robot can walk to every station, so that the kitchen is also one for engines in which walls count.
    """
    while True:
        free = [(x, y) for x in range(_GRID) for y in range(_GRID)]
        robot = free.pop(rng.randrange(len(free)))
        rng.shuffle(free)
        cells: list[Cell] = []
        for cell in free:
            if len(cells) < count and _reachable(robot, [*cells, cell]):
                cells.append(cell)
        beside = [cell for cell in cells if cell in _neighbours(robot)]
        if len(cells) == count and beside:
            return cells, robot, rng.choice(beside)


def _neighbours(cell: Cell) -> list[Cell]:
    x, y = cell
    around = [(x + 1, y), (x - 1, y), (x, y + 1), (x, y - 1)]
    return [(a, b) for a, b in around if 0 <= a < _GRID and 0 <= b < _GRID]


def _reachable(robot: Cell, stations: Sequence[Cell]) -> bool:
    walls, seen, stack = set(stations), {robot}, [robot]
    while stack:
        for cell in _neighbours(stack.pop()):
            if cell not in seen:
                seen.add(cell)
                if cell not in walls:
                    stack.append(cell)
    return walls <= seen
