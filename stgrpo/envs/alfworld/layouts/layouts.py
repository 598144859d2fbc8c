"""Names of layouts: games of the data set by split and number, rooms of our own by family and seed.

Rooms of our own are of one split each, by a hash of what is in which kind of receptacle, numbers left out: no room is
in two splits under other names.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from stgrpo.envs.alfworld.game.engine import AlfworldProblem, State
from stgrpo.envs.alfworld.game.load import load
from stgrpo.envs.alfworld.game.room import TASKS, Room
from stgrpo.envs.alfworld.layouts.games import SPLITS as GAME_SPLITS
from stgrpo.envs.alfworld.layouts.games import Games, open_games
from stgrpo.envs.alfworld.layouts.generator import FAMILIES as MADE
from stgrpo.envs.alfworld.layouts.generator import made_game
from stgrpo.envs.layouts import check_named
from stgrpo.errors import UserError, nearest
from stgrpo.protocol import SPLITS

GAMES = "games"
"""The family of the data set's games."""
FAMILIES = (*MADE, GAMES)
BENCHMARKS = ("valid_seen", "valid_unseen")
_GAMES_OF = dict(zip(SPLITS, ("train", *BENCHMARKS), strict=True))
_PER_MILLE = {"test": 120, "validation": 40}
_PATIENCE = 2000
"""A search ends after so many seeds in a row without a new room: the family is then taken to be exhausted."""
_STARTS = 1 << 31
_STRIDE = 0x9E3779B1
"""Seeds begin far apart among the numbers below `_STARTS`."""


class Layouts:
    """All layouts; the data set is opened when one of its games is needed.

    Args:
        data: path of the data set; empty for that in ALFWORLD_DATA.
        wording: of the games; empty for that of each game's own grammar.
    """

    def __init__(self, data: str = "", wording: str = ""):
        self._data, self._wording = data, wording

    @property
    def _games(self) -> Games:
        return open_games(self._data)

    def make(self, task: str, layout: str) -> AlfworldProblem:
        """Builds the problem of a layout.

        Raises:
            UserError: there is no such task or layout, or the data set is not at hand.
        """
        problem = load(self.source(task, layout), layout=layout, wording=self._wording)
        if problem.task != task:
            raise UserError(f"layout {layout!r} is a game of {problem.task}, not of {task}: ask for that task")
        return problem

    def source(self, task: str, layout: str) -> Mapping[str, Any] | Path:
        """Returns the game of a layout, as `load` takes it.

        Raises:
            UserError: there is no such task or layout, or the data set is not at hand.
        """
        if task not in TASKS:
            raise UserError(f"task {task!r}: unknown; {nearest(task, TASKS)}")
        kind, _, number = layout.partition(":")
        if not number.isdecimal() or kind not in (*MADE, *GAME_SPLITS):
            names = ", ".join(f'"{name}:SEED"' for name in MADE) + ", " + ", ".join(f'"{s}:I"' for s in GAME_SPLITS)
            raise UserError(f"layout {layout!r}: unknown; use {names}")
        if kind in MADE:
            return made_game(task, kind, int(number))
        count = len(self._games.names(kind))
        if int(number) >= count:
            raise UserError(f"layout {layout!r}: there are {count} games; use a number below that")
        return self._games.game(kind, int(number))

    def of_task(self, split: str, task: str) -> tuple[str, ...]:
        """Returns the games of one task in a split of the data set; the names of the folders say which they are."""
        names = enumerate(self._games.names(split))
        return tuple(f"{split}:{number}" for number, name in names if name.startswith(f"{task}-"))

    def candidates(self, task: str, family: str, split: str, seed: int) -> Iterator[str]:
        """Yields layouts of a family and split, no two alike, until there are no more.

        Args:
            task: one of the tasks.
            family: one of FAMILIES.
            split: "train", "validation" or "test".
            seed: where the list begins.

        Raises:
            UserError: there is no such task, family or split, or the data set is not at hand.
        """
        for what, value, known in (("task", task, TASKS), ("family", family, FAMILIES), ("split", split, SPLITS)):
            if value not in known:
                raise UserError(f"{what} {value!r}: unknown; {nearest(value, known)}")
        if family != GAMES:
            check_named(self._data)
            yield from self._made(task, family, split, seed)
        elif names := self.of_task(_GAMES_OF[split], task):
            start = seed * _STRIDE % len(names)
            yield from names[start:] + names[:start]

    def _made(self, task: str, family: str, split: str, seed: int) -> Iterator[str]:
        number, missed = seed * _STRIDE % _STARTS, 0
        seen = set()
        while missed < _PATIENCE:
            layout = f"{family}:{number}"
            number, missed = number + 1, missed + 1
            digest = _digest(self.make(task, layout).room)
            if digest not in seen and _split(digest) == split:
                seen.add(digest)
                missed = 0
                yield layout


def solvable(problem: AlfworldProblem, expert: Callable[[State], str | None]) -> bool:
    """Says whether a game has something to do and an expert, by its action in a state, wins it within the cap."""
    state = problem.initial_state()
    if problem.is_goal(state):
        return False
    for _ in range(problem.max_steps):
        action = expert(state)
        if action is None:
            return False
        state = problem.step(state, action)
        if problem.is_goal(state):
            return True
    return False


def _digest(room: Room) -> bytes:
    """The same for rooms that differ in numbers and in what stands beside what alone, and tasks put in other words."""
    receptacles = sorted(
        (kind, sorted(room.object_types[thing] for thing in room.objects_in(room.start, place)))
        for place, kind in enumerate(room.receptacle_types)
    )
    goal = room.goal
    return hashlib.sha256(repr((goal.task, goal.thing, goal.place, receptacles)).encode()).digest()


def _split(digest: bytes) -> str:
    bucket = int.from_bytes(digest[:8], "big") % 1000
    if bucket < _PER_MILLE["test"]:
        return "test"
    return "validation" if bucket < _PER_MILLE["test"] + _PER_MILLE["validation"] else "train"
