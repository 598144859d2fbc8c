"""The files that are always written and that everything else is made from: metrics.jsonl, and one for each table."""

from collections.abc import Mapping

from stgrpo.files import LineLog
from stgrpo.monitors.base import RunInfo


class JsonLines:
    """A `MetricWriter` whose errors end the stage: what a run can say of itself is in these files.

    Raises:
        RunError: a figure is not finite, or the disk is full.
    """

    def start(self, run: RunInfo) -> None:
        """Drops what is void from metrics.jsonl."""
        self._run = run
        self._files = {"metrics": self._open("metrics")}

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Appends a line to metrics.jsonl."""
        self._files["metrics"].write(step, values)

    def table(self, step: int, name: str, columns: Mapping[str, object]) -> None:
        """Appends a line to NAME.jsonl, the columns as they are."""
        if name not in self._files:
            self._files[name] = self._open(name)
        self._files[name].write(step, columns)

    def sync(self) -> None:
        """Returns when all lines are on disk."""
        for file in self._files.values():
            file.sync()

    def close(self) -> None:
        """Closes all files."""
        for file in self._files.values():
            file.close()

    def _open(self, name: str) -> LineLog:
        return LineLog(self._run.folder / f"{name}.jsonl", self._run.stage, self._run.step)
