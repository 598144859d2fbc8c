"""The games of the data set: a folder as `alfworld-download` leaves it, or a pack of all of them in one file.

A pack is JSON lines, compressed by xz: first a list of lists of canContain facts, then one object a game with its
split, name, trial, task in words, goal, facts, and the number of its list in the first line.
"""

import lzma
import os
from collections.abc import Iterator, Mapping
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Protocol

from stgrpo.envs.alfworld.game.room import TASKS
from stgrpo.errors import UserError
from stgrpo.files import from_json, reason_of, to_json

SPLITS = ("train", "valid_seen", "valid_unseen")
VARIABLE = "ALFWORLD_DATA"
_FILE = "game.tw-pddl"
_FOLDER = "json_2.1.1"
_DOWNLOADED = "~/.cache/alfworld"  # where `alfworld-download` puts them by itself
_GET = (
    "`pip install alfworld && alfworld-download` gets them, then set --config.env.data=FOLDER or "
    f"{VARIABLE}=FOLDER; rooms of our own need none: layouts made:SEED, --config.env.family=made"
)


class Games(Protocol):
    """Games by split and number."""

    def names(self, split: str) -> tuple[str, ...]:
        """Returns TASK-.../TRIAL of each game of a split, sorted; their places are their numbers."""
        ...

    def game(self, split: str, number: int) -> Mapping[str, Any] | Path:
        """Returns a game, as `load` takes it."""
        ...


class GameFolder:
    """The folder that holds json_2.1.1, or that folder itself. Games that the package leaves out are left out."""

    def __init__(self, folder: Path):
        self._root = folder / _FOLDER if (folder / _FOLDER).is_dir() else folder

    def names(self, split: str) -> tuple[str, ...]:
        """See `Games.names`."""
        return _names(self._root / split)

    def game(self, split: str, number: int) -> Path:
        """Returns the path of a game file."""
        return self._root / split / self.names(split)[number] / _FILE


@cache
def _names(folder: Path) -> tuple[str, ...]:
    files = sorted(folder.glob(f"*/*/{_FILE}"))
    return tuple(f"{file.parts[-3]}/{file.parts[-2]}" for file in files if _is_played(file))


def _is_played(file: Path) -> bool:
    """Whether the package plays a game: one of the six types, and known to have a solution."""
    kind, thing = file.parts[-3].split("-")[:2]
    return kind in TASKS and "Sliced" not in thing and b'"solvable": false' not in file.read_bytes()


class GamePack:
    """All games in one file, read at once."""

    def __init__(self, file: Path):
        self._file = file

    def names(self, split: str) -> tuple[str, ...]:
        """See `Games.names`."""
        return tuple(self._splits.get(split, ()))

    def game(self, split: str, number: int) -> dict[str, str]:
        """Returns the texts that `load` reads, as a game file has them."""
        return _unpacked(self._splits[split][self.names(split)[number]], self._can_contain)

    @cached_property
    def _lines(self) -> tuple[list[list[str]], list[dict[str, Any]]]:
        try:
            with lzma.open(self._file, "rt", encoding="utf-8") as file:
                return from_json(next(file)), [from_json(line) for line in file]
        except (OSError, lzma.LZMAError, EOFError, StopIteration, ValueError) as error:
            raise UserError(f"{self._file} is no pack of games ({reason_of(error)}): {_GET}") from error

    @property
    def _can_contain(self) -> list[list[str]]:
        return self._lines[0]

    @cached_property
    def _splits(self) -> dict[str, dict[str, dict[str, Any]]]:
        found: dict[str, dict[str, dict[str, Any]]] = {}
        for game in self._lines[1]:
            found.setdefault(game["split"], {})[f"{game['name']}/{game['trial']}"] = game
        return {split: dict(sorted(games.items())) for split, games in found.items()}


def _unpacked(packed: Mapping[str, Any], can_contain: list[list[str]]) -> dict[str, str]:
    facts = "\n".join(f"({fact})" for fact in [*packed["facts"], *can_contain[packed["can"]]])
    return {
        "pddl_problem": f"(:init\n{facts}\n)\n{packed['goal']}",
        "grammar": '"rhs": ' + to_json(f"Your task is to: {packed['task']}"),
    }


def open_games(data: str) -> Games:
    """Returns the games of a folder or of a pack.

    Args:
        data: its path; empty for that in the environment variable ALFWORLD_DATA, or where they are downloaded to.

    Raises:
        UserError: there are none.
    """
    given = data or os.environ.get(VARIABLE, "")
    path = Path(given or _DOWNLOADED).expanduser()
    if not given and not any(_split_folders(path)):
        raise UserError(f"the games of ALFWorld are not at hand: {_GET}")
    return _opened(path)


@cache
def _opened(path: Path) -> Games:
    if path.is_file():
        return GamePack(path)
    if not any(_split_folders(path)):
        raise UserError(f"{path} holds no games of ALFWorld ({_FOLDER}/SPLIT/NAME/TRIAL/{_FILE}): {_GET}")
    return GameFolder(path)


def _split_folders(path: Path) -> Iterator[Path]:
    return (root / split for root in (path, path / _FOLDER) for split in SPLITS if (root / split).is_dir())
