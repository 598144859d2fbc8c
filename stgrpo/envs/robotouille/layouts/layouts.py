"""Names of layouts, and their division into training, validation and test.

Two kitchens are equal up to renaming if they have the same stations with the same stacks, the robot at the same one and
with the same thing in its hand: names and cells are only numbering. The split of a kitchen is a function of this alone,
so that no kitchen is in two splits under whatever names, and the benchmark's test kitchens are in none.
"""

import hashlib
from collections.abc import Callable, Iterator
from functools import cache

from stgrpo.envs.robotouille.kitchen.kitchen import Kitchen, Thing
from stgrpo.envs.robotouille.kitchen.tasks import Task, get_task
from stgrpo.envs.robotouille.layouts.generator import FAMILIES, generate
from stgrpo.errors import UserError, nearest
from stgrpo.protocol import SPLITS

_PER_MILLE = {"test": 120, "validation": 40}
_PATIENCE = 4000
"""A search ends after so many seeds in a row without a new kitchen: the family is then taken to be exhausted."""

_STARTS = 1 << 31
_STRIDE = 0x9E3779B1
"""Seeds begin far apart among the numbers below `_STARTS`: a large share of it that is no simple fraction."""

Key = str


def layout_kitchen(task: Task, layout: str) -> Kitchen:
    """Returns the kitchen of a layout id.

    Raises:
        UserError: there is no such layout.
    """
    family, _, number = layout.partition(":")
    if layout == "default":
        return task.default()
    if family == "test" and number in map(str, task.testing_seeds):
        return task.test(int(number))
    if family in FAMILIES and number.isdigit():
        return generate(task, family, int(number))
    families = ", ".join(f'"{name}:SEED"' for name in FAMILIES)
    tests = f' or "test:SEED" of {", ".join(map(str, task.testing_seeds))}' if task.testing_seeds else ""
    raise UserError(f'layout {layout!r} of {task.name}: unknown; use "default", {families} (SEED ≥ 0){tests}')


def layout_cap(task: Task, layout: str, kitchen: Kitchen) -> int:
    """Returns the cap on the steps in the kitchen of a layout id."""
    family = FAMILIES.get(layout.partition(":")[0])
    return family.max_steps(task, kitchen) if family else task.max_steps


def canonical_key(kitchen: Kitchen) -> Key:
    """Returns the same text for kitchens that are equal up to renaming, and different texts for others."""
    cells = {(s.x, s.y): s.kind for s in kitchen.stations}
    things = [*kitchen.items, *kitchen.containers, *kitchen.meals]
    stacks = []
    for cell, kind in cells.items():
        stack = sorted((t for t in things if (t.x, t.y) == cell), key=lambda t: t.level)
        robot = "robot " if cell == kitchen.facing else ""
        stacks.append(f"{robot}{kind}: {' '.join(map(_word, stack))}")
    held = [_word(t) for t in things if (t.x, t.y) == (kitchen.robot.x, kitchen.robot.y)]
    return "\n".join([f"hand: {' '.join(held)}", *sorted(stacks)])


def _word(thing: Thing) -> str:
    return f"{thing.kind}({','.join(sorted(thing.predicates))})"


def split_of(task: str, key: Key) -> str:
    """Returns the split to which a kitchen belongs, or "benchmark" if it equals one of the benchmark's tests."""
    if key in _benchmark_keys(task):
        return "benchmark"
    digest = hashlib.sha256(f"{task}\n{key}".encode()).digest()
    bucket = int.from_bytes(digest[:8], "big") % 1000
    if bucket < _PER_MILLE["test"]:
        return "test"
    return "validation" if bucket < _PER_MILLE["test"] + _PER_MILLE["validation"] else "train"


@cache
def _benchmark_keys(task: str) -> frozenset[Key]:
    definition = get_task(task)
    return frozenset(canonical_key(definition.test(seed)) for seed in definition.testing_seeds)


def enumerate_layouts(
    task: Task, family: str, *, split: str, seed: int, accept: Callable[[str], bool]
) -> Iterator[str]:
    """Yields the ids of distinct kitchens of a split that `accept` takes, from a start derived from the seed.

    Ends where the family is exhausted.
    """
    if family not in FAMILIES:
        raise UserError(f"layout family {family!r}: unknown; {nearest(family, FAMILIES)}")
    if split not in SPLITS:
        raise UserError(f"split {split!r}: unknown; use one of {', '.join(SPLITS)}")
    number, missed = seed * _STRIDE % _STARTS, 0
    seen: set[Key] = set()
    while missed < _PATIENCE:
        layout = f"{family}:{number}"
        key = canonical_key(generate(task, family, number))
        number, missed = number + 1, missed + 1
        if key in seen or split_of(task.name, key) != split:
            continue
        seen.add(key)
        if accept(layout):
            missed = 0
            yield layout
