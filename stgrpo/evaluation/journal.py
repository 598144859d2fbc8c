"""Episodes that cost money, each on disk as soon as it is played: what broke off goes on without playing them again."""

import contextlib
import dataclasses
import os
import threading
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from stgrpo.errors import RunError, UserError
from stgrpo.evaluation.records import Episode, episode_facts, episode_from_facts, played
from stgrpo.files import from_json, reason_of, to_json, way_on
from stgrpo.workdir.keys import differences, same

Key = tuple[str, str, int]
"""Task, layout, and the number of the try in this layout."""


@dataclasses.dataclass(frozen=True)
class Usage:
    """What episodes cost: requests that were answered, and their tokens."""

    requests: int
    prompt_tokens: int
    completion_tokens: int

    def cost(self, prompt_price: float, completion_price: float) -> float:
        """Of all tokens, at prices for a million of them."""
        return (self.prompt_tokens * prompt_price + self.completion_tokens * completion_price) / 1e6


def usage(episodes: Iterable[Episode]) -> Usage:
    """Sums over all turns: in a journal each is one request."""
    turns = [turn for episode in episodes for turn in episode.turns]
    return Usage(len(turns), sum(t.n_prompt_tokens for t in turns), sum(t.n_tokens for t in turns))


class Journal:
    """A file of finished episodes; the first line says how they are played. Threads may add to it.

    Args:
        path: made if it is not there. A last line that a kill cut off is dropped.
        settings: JSON-able facts that decide what is played.

    Raises:
        UserError: the file is damaged, or holds episodes of other settings.
        RunError: the disk does not take it.
    """

    def __init__(self, path: Path, settings: Mapping[str, object]):
        self.path, self._lock, self._failed = path, threading.Lock(), ""
        self.episodes: dict[Key, Episode] = {}
        settings = from_json(to_json(settings))
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("a+b")
        lines = self._whole_lines()
        head = next(lines, None)
        if head is None:
            self._append({"settings": settings})
        elif not same(theirs := _settings_of(head), settings):
            what = f"{path} holds unfinished work with other settings ({differences(theirs, settings)})"
            raise UserError(f"{what}: finish that, or move the file away")
        for line in lines:
            self._read(line)

    def add(self, key: Key, episode: Episode) -> None:
        """Keeps an episode; it is on disk when this returns."""
        turns = [dataclasses.asdict(turn) for turn in episode.turns]
        self._append({"try": key[2], "episode": episode_facts(episode), "turns": turns})
        self.episodes[key] = episode

    def played(self, key: Key) -> Episode | None:
        """The episode of a try; None where there is none, or none but one that the server failed."""
        found = self.episodes.get(key)
        return found if found and played([found]) else None

    def close(self) -> None:
        """Closes the file; every line that was added is on disk."""
        with contextlib.suppress(OSError):
            self._file.close()

    def delete(self) -> None:
        """Closes the journal and removes its file, once what it was for stands elsewhere."""
        self.close()
        self.path.unlink(missing_ok=True)

    def _append(self, line: Mapping[str, object]) -> None:
        # What UTF-8 has no bytes for is written as JSON's own escape.
        data = to_json(line, ensure_ascii=False).encode(errors="backslashreplace") + b"\n"
        with self._lock:
            if self._failed:
                raise RunError(self._failed)
            try:
                self._file.write(data)
                self._file.flush()
                os.fsync(self._file.fileno())
            except OSError as error:
                # Whatever came after a line that was cut off would be lost with it.
                self._failed = f"{self.path} takes no more ({reason_of(error)}): what is in it stands; {way_on(error)}"
                raise RunError(self._failed) from error

    def _whole_lines(self) -> Iterator[Any]:
        """Reads from the start; cuts off a line without an end."""
        self._file.seek(0)
        position = 0
        for number, line in enumerate(self._file, start=1):
            if not line.endswith(b"\n"):
                self._file.truncate(position)
                return
            position += len(line)
            try:
                yield from_json(line)
            except ValueError as error:
                raise UserError(f"{self.path}:{number} is not JSON ({error}): delete that line") from error

    def _read(self, line: Mapping[str, Any]) -> None:
        try:
            episode = episode_from_facts(line["episode"], line["turns"])
            self.episodes[episode.task, episode.layout, line["try"]] = episode
        except (KeyError, TypeError) as error:
            raise UserError(f"{self.path} was written by another version ({error}): move it away") from error


def _settings_of(head: object) -> dict[str, object]:
    found = head.get("settings") if isinstance(head, dict) else None
    return found if isinstance(found, dict) else {"settings": found}
