"""Kitchens whose optimum is known to be long: everything that is to be carried lies buried in piles.

The bottom of each thing to be made stands alone on a table. All other ingredients are in piles on stations that are no
tables, each pile with an ingredient at its foot and things in between that nobody asked for. There is an empty station
besides. Let M be the number of things in piles.

- M lifts and M puts are needed. The goal wants every ingredient in a stack on a table, and there is no other one of its
  kind; so each must be lifted, and all above it, which are all things in piles.
- They are enough. The piles are filled in the reverse of an order in which the ingredients can be put together: only
  things that nobody asked for can lie above the next one, and these go to the empty station.

With the moves between them that is 4 M - 1 steps, or 4 M where the robot does not start at a pile that can be first.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil, isqrt

from stgrpo.envs.robotouille.kitchen.domain import ITEMS, STATIONS
from stgrpo.envs.robotouille.kitchen.kitchen import Goal, Kitchen, Thing
from stgrpo.envs.robotouille.kitchen.tasks import TASKS, Task
from stgrpo.envs.robotouille.layouts.placement import random_floor, random_items
from stgrpo.envs.robotouille.layouts.required_stations import required_stations
from stgrpo.errors import UserError

_LONGEST = 1.2
_HIGHEST = 15
_EMPTY = (1, 3)
_GRID = 5
Variable = tuple[str, str]


@dataclass(frozen=True)
class Horizon:
    """Kitchens with an optimum of at least `steps` steps and at most 1.2 times as many.

    They exist of tasks that only carry ready ingredients, if these are enough for piles of at most fifteen things.
    """

    steps: int
    bounded = True

    def max_steps(self, task: Task, kitchen: Kitchen) -> int:
        """Returns one and a half times the optimum, where this is counted as 4 M."""
        return 6 * (len(kitchen.items) - len(_goal_stacks(task.goal)))

    def kitchen(self, task: Task, rng: random.Random) -> Kitchen:
        """Draws a kitchen.

        Raises:
            UserError: there is none of this task.
        """
        self._check(task)
        default = list(task.default().items)
        stacks = [[_take(default, kind) for kind, _ in stack] for stack in _goal_stacks(task.goal)]
        feet = [(stack[0],) for stack in stacks]
        order = _interleaved(rng, [stack[1:] for stack in stacks])
        lifts = rng.randint(*self._lifts())
        wanted = {thing.kind for stack in stacks for thing in stack}
        others = random_items(rng, lifts - len(order), [kind for kind in ITEMS if kind not in wanted])
        piles = _piles(rng, order, others)
        free = [rng.choice(STATIONS) for _ in range(rng.randint(*_EMPTY))]
        places = [("table", foot) for foot in feet]
        places += [(rng.choice([kind for kind in STATIONS if kind != "table"]), tuple(pile)) for pile in piles]
        places += [(kind, ()) for kind in free]
        cells, robot, facing = random_floor(rng, len(places), max(_GRID, 1 + isqrt(2 * len(places))))
        stations, items = [], []
        for (kind, stack), (x, y) in zip(places, cells, strict=True):
            stations.append(Thing(kind, x, y))
            items += [replace(thing, x=x, y=y, level=level) for level, thing in enumerate(stack)]
        return Kitchen(tuple(stations), tuple(items), Thing("robot", *robot), facing, task.goal)

    def _lifts(self) -> tuple[int, int]:
        """Returns the least and the greatest number M."""
        return ceil((self.steps + 1) / 4), int(_LONGEST * self.steps / 4)

    def _has(self, task: Task) -> bool:
        default, stacks = task.default(), _goal_stacks(task.goal)
        if set(required_stations(task)) != {"table"} or default.containers:
            return False
        wanted = sorted(kind for stack in stacks for kind, _ in stack)
        carried = len(wanted) - len(stacks)
        least, most = self._lifts()
        return wanted == sorted(thing.kind for thing in default.items) and most / _HIGHEST <= carried <= least

    def _check(self, task: Task) -> None:
        if not self._has(task):
            fits = ", ".join(name for name, other in TASKS.items() if self._has(other))
            raise UserError(
                f"layouts: {task.name!r} has none with {self.steps} optimal steps by construction; use one of {fits}"
            )


def _goal_stacks(goal: Goal) -> list[list[Variable]]:
    """Returns the stacks that a goal wants, bottom first: chains of `atop`, then what is only at the same station.

    An item that has to be clear comes last.
    """
    variables = [(atom.predicate, *zip(atom.kinds, atom.ids, strict=True)) for atom in goal.atoms]
    above = {under: item for predicate, item, *rest in variables if predicate == "atop" for under in rest}
    clear = {item for predicate, item, *_ in variables if predicate == "clear"}
    stacks = []
    for predicate, item, *rest in variables:
        if predicate == "item_on":
            stack = [item]
            while stack[-1] in above:
                stack.append(above[stack[-1]])
            others = [other for name, other, *at in variables if name == "item_at" and at == rest]
            stacks.append(stack + sorted((o for o in others if o not in stack), key=lambda other: other in clear))
    return stacks


def _piles(rng: random.Random, order: Sequence[Thing], others: Sequence[Thing]) -> list[list[Thing]]:
    """Returns piles from which the ingredients can be taken in this order, with the other things above some of them."""
    things = len(order) + len(others)
    least = ceil(things / _HIGHEST)
    count = rng.randint(least, max(least, min(len(order), things // 3)))
    piles: list[list[Thing]] = [[] for _ in range(count)]
    for number, thing in enumerate(reversed(order)):
        pile = piles[number] if number < count else rng.choice(piles)
        pile.append(thing)
    for thing in others:
        pile = rng.choice([pile for pile in piles if len(pile) < _HIGHEST])
        pile.insert(rng.randint(1, len(pile)), thing)
    return piles


def _take(items: list[Thing], kind: str) -> Thing:
    """Takes the first item of this kind out of a list."""
    return items.pop(next(number for number, item in enumerate(items) if item.kind == kind))


def _interleaved(rng: random.Random, stacks: Sequence[Sequence[Thing]]) -> list[Thing]:
    """Returns the members of all stacks in a random order that keeps the order within each."""
    turns = [number for number, stack in enumerate(stacks) for _ in stack]
    rng.shuffle(turns)
    rest = [iter(stack) for stack in stacks]
    return [next(rest[number]) for number in turns]
