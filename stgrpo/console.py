"""What a person sees: one clear line a step, a progress bar with the time left on a terminal, silence nowhere."""

import math
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from stgrpo import processes
from stgrpo.processes import watchdog


def say(text: str) -> None:
    """One line on standard output, past any progress bar."""
    if sys.stdout.isatty():
        from tqdm import tqdm

        tqdm.write(text)
    else:
        print(text, flush=True)


def one_line(text: str, longest: int = 500) -> str:
    """What somebody else said, as part of a line: what cannot be shown is replaced, what is too long is cut."""
    text = text[: 20 * longest]
    line = " ".join("".join(c if c.isprintable() or c.isspace() else "\ufffd" for c in text).split())
    return line if len(line) <= longest else line[:longest] + " ..."


class ProgressBar:
    """Counts steps of a stage.

    On a terminal it is a bar with the time left; elsewhere a line a step, or one every two seconds where steps are
    faster, so that a log stays readable.
    """

    def __init__(self, stage: str, total: int, start: int = 0):
        self._stage, self._total, self._start, self._begin = stage, total, start, time.monotonic()
        self._bar, self._last = None, -math.inf
        if sys.stdout.isatty():
            from tqdm import tqdm

            self._bar = tqdm(total=total, initial=start, desc=stage, dynamic_ncols=True)

    def step(self, done: int, values: Mapping[str, float] | None = None) -> None:
        """Says that `done` of the total are done, with figures to show."""
        watchdog.moved(f"{self._stage}, after {done} of {self._total},")
        shown = "  ".join(f"{k} {v:.4g}" for k, v in (values or {}).items())
        if self._bar is not None:
            self._bar.set_postfix_str(shown, refresh=False)
            self._bar.update(done - self._bar.n)
            return
        now = time.monotonic()
        if done >= self._total or now - self._last >= 2.0:
            rate = (now - self._begin) / max(1, done - self._start)
            left = f"{rate * (self._total - done):.0f} s left" if done < self._total else f"{now - self._begin:.0f} s"
            print(f"{self._stage} {done}/{self._total}  {shown}  ({left})", flush=True)
            self._last = now

    def close(self) -> None:
        """Leaves the bar as it is, where there is one."""
        if self._bar is not None:
            self._bar.close()


class ProgramLog:
    """Programs that a stage compiles, as they are met: counted, named in a file, announced once on the console.

    Args:
        stage: of whom; in front of each line.
        path: of the file, which further stages add to.
    """

    def __init__(self, stage: str, path: Path):
        self._stage, self._path, self._met = stage, path, set()

    @property
    def count(self) -> int:
        """Programs met so far."""
        return len(self._met)

    def met(self, name: str) -> None:
        """Adds a program that is about to run, unless it was met before."""
        watchdog.moved(f"{self._stage}: {name}")
        if name in self._met:
            return
        if not self._met:
            say(f"{self._stage}: programs are compiled when they are first needed; their names are in {self._path}")
        self._met.add(name)
        if not processes.is_first():
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {self._stage}: program {self.count}, {name}\n")


def table(rows: Iterable[tuple[str, ...]], header: tuple[str, ...]) -> Iterator[str]:
    """Lines of a plain table, columns as wide as they need."""
    rows = [header, *rows]
    widths = [max(len(row[i]) for row in rows) for i in range(len(header))]
    for number, row in enumerate(rows):
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        if number == 0:
            yield "  ".join("-" * width for width in widths)
