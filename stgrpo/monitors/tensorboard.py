"""Event files for TensorBoard."""

import time
from collections.abc import Mapping

from stgrpo.files import to_json
from stgrpo.monitors.base import RunInfo, table_rows


class TensorBoard:
    """A `MetricWriter` to tensorboard/STAGE in the work directory: `tensorboard --logdir=RUN/tensorboard` shows it.

    Events are written by the caller. The package's own SummaryWriter has a thread for it, which dies of an error unseen
    and leaves its queue to fill up, until the stage that writes waits for ever.
    """

    def start(self, run: RunInfo) -> None:
        """Begins a file of its own, which voids all later steps in those before it, and shows the config as text."""
        from tensorboardX import summary
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto.event_pb2 import Event, SessionLog
        from tensorboardX.proto.summary_pb2 import Summary

        self._event, self._summary, self._made = Event, Summary, summary
        folder = run.folder / "tensorboard" / run.stage
        folder.mkdir(parents=True, exist_ok=True)
        # Readers take the files by name, which has only whole seconds.
        self._file = EventsWriter(str(folder / "events"), f".{time.time_ns()}")
        self._add(run.step + 1, session_log=SessionLog(status=SessionLog.START))
        config = to_json(run.config, indent=2)
        self._add(run.step + 1, summary=summary.text("config", f"```json\n{config}\n```"))

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Adds a point to the curve of each figure."""
        parts = [part for name, value in values.items() for part in self._made.scalar(name, value).value]
        self._add(step, summary=self._summary(value=parts))

    def table(self, step: int, name: str, columns: Mapping[str, object]) -> None:
        """Adds a table under "Text"."""
        self._add(step, summary=self._made.text(name, markdown(columns)))

    def close(self) -> None:
        """Ends the file."""
        self._file.close()

    def _add(self, step: int, **content: object) -> None:
        self._file.write_event(self._event(wall_time=time.time(), step=step, **content))
        self._file.flush()


def markdown(columns: Mapping[str, object]) -> str:
    """A table in Markdown."""
    lines = [list(columns), ["---"] * len(columns), *table_rows(columns)]
    return "\n".join("| " + " | ".join(map(_cell, line)) + " |" for line in lines)


def _cell(value: object) -> str:
    return str(value).replace("|", "\\|").replace("\n", "<br>")
