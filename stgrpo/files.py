"""Files that a killed process leaves whole: one that is replaced at once, and one that grows by a line a step."""

import contextlib
import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path

from stgrpo.errors import RunError, UserError


class LineLog:
    """A JSON-lines file that a resumed run continues as if it had never stopped.

    On opening, lines of this stage after `step` are dropped, and with them whatever a killed process left half-written.
    """

    def __init__(self, path: Path, stage: str, step: int):
        self._stage = stage
        kept = [line for line in read_lines(path) if line["stage"] != stage or line["step"] <= step]
        write_atomically(path, "".join(json.dumps(line) + "\n" for line in kept))
        self._file = path.open("a", encoding="utf-8")

    def write(self, step: int, values: Mapping[str, object]) -> None:
        """Appends one object with the stage and the step in front.

        Raises:
            RunError: a value is not finite, which JSON has no number for, or the disk does not take the line.
        """
        try:
            line = json.dumps({"stage": self._stage, "step": step, **values}, allow_nan=False)
        except ValueError as error:
            wrong = [f"{k}={v}" for k, v in values.items() if isinstance(v, float) and not math.isfinite(v)]
            what = ", ".join(wrong) or str(error)
            raise RunError(f"{self._stage} step {step}: {what}, no finite number to log: the run stops here") from error
        try:
            self._file.write(line + "\n")
            self._file.flush()
        except OSError as error:
            way_on = "make room, and the same command goes on from the last checkpoint"
            raise RunError(f"{self._file.name} takes no more ({error.strerror}): {way_on}") from error

    def close(self) -> None:
        """Closes the file; nothing is buffered."""
        with contextlib.suppress(OSError):  # every line was flushed, or its error was raised
            self._file.close()


def read_lines(path: Path) -> Iterator[dict]:
    """The whole lines of a JSON-lines file; a last line that was cut off by a kill is left out."""
    if not path.is_file():
        return
    lines = path.read_text(encoding="utf-8").split("\n")
    for number, line in enumerate(lines[:-1], start=1):
        try:
            yield json.loads(line)
        except json.JSONDecodeError as error:
            raise UserError(f"{path}:{number} is not JSON ({error}): delete that line") from error


def write_atomically(path: Path, text: str) -> None:
    """The file has its old content or the new one, whenever the process is killed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(path.name + ".part")
    unfinished.write_text(text, encoding="utf-8")
    unfinished.replace(path)
