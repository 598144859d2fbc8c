"""What all families of kitchens are made of: cells for stations, and things nobody asked for."""

import random
from collections.abc import Sequence

from stgrpo.envs.robotouille.kitchen.domain import ITEMS
from stgrpo.envs.robotouille.kitchen.kitchen import Thing

Cell = tuple[int, int]

_RAW = {
    "patty": ("iscookable",),
    "chicken": ("iscookable",),
    "lettuce": ("iscuttable",),
    "tomato": ("iscuttable",),
    "onion": ("iscuttable",),
}


def random_items(rng: random.Random, count: int, kinds: Sequence[str] = ITEMS) -> list[Thing]:
    """Returns items of any of the kinds, raw and uncut, that are nowhere yet."""
    drawn = [rng.choice(kinds) for _ in range(count)]
    return [Thing(kind, 0, 0, 0, _RAW.get(kind, ())) for kind in drawn]


def random_floor(rng: random.Random, count: int, size: int) -> tuple[list[Cell], Cell, Cell]:
    """Returns cells for `count` stations on a square of `size` cells a side, the robot's cell and the one it faces.

    The robot can walk to every station. Here each is one move away whatever stands between, but the benchmark draws its
    kitchens as rooms.
    """
    while True:
        free = [(x, y) for x in range(size) for y in range(size)]
        robot = free.pop(rng.randrange(len(free)))
        rng.shuffle(free)
        cells: list[Cell] = []
        for cell in free:
            if len(cells) < count and _reachable(robot, [*cells, cell], size):
                cells.append(cell)
        beside = [cell for cell in cells if cell in _neighbours(robot, size)]
        if len(cells) == count and beside:
            return cells, robot, rng.choice(beside)


def _neighbours(cell: Cell, size: int) -> list[Cell]:
    x, y = cell
    around = [(x + 1, y), (x - 1, y), (x, y + 1), (x, y - 1)]
    return [(a, b) for a, b in around if 0 <= a < size and 0 <= b < size]


def _reachable(robot: Cell, stations: Sequence[Cell], size: int) -> bool:
    """Says whether one can walk from the robot's cell to beside each station; a cell is a bit, row after row."""
    walls = sum(1 << (x + y * size) for x, y in stations)
    first_column = sum(1 << (y * size) for y in range(size))
    last_column, room = first_column << (size - 1), (1 << size * size) - 1
    seen, before = 1 << (robot[0] + robot[1] * size), 0
    while seen != before:
        before, floor = seen, seen & ~walls
        seen |= floor << size & room | floor >> size | (floor & ~last_column) << 1 | (floor & ~first_column) >> 1
    return not walls & ~seen
