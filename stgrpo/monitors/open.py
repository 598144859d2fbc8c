"""The monitor of a stage: metrics.jsonl, and the writers that the config names, which cannot end a training."""

import importlib
import importlib.util
import logging
from collections.abc import Callable, Iterator, Mapping

from ml_collections import ConfigDict

from stgrpo import processes
from stgrpo.errors import UserError, nearest
from stgrpo.files import from_json, read_lines
from stgrpo.monitors.base import LineWriter, MetricWriter, Nowhere, RunInfo
from stgrpo.monitors.json_lines import JsonLines
from stgrpo.monitors.tensorboard import TensorBoard
from stgrpo.monitors.wandb import WeightsAndBiases
from stgrpo.workdir import WorkDir

log = logging.getLogger(__name__)
PACKAGES = {"tensorboard": "tensorboardX", "wandb": "wandb"}
METHODS = ("start", "write", "table", "close")


class Monitor:
    """Takes the figures of one stage to metrics.jsonl and then to all other writers.

    One of the others that fails is warned of and left out from then on; every later line of metrics.jsonl has
    `monitor_errors`, how many are.
    """

    def __init__(self, writers: Mapping[str, MetricWriter], run: RunInfo, lines: LineWriter | None = None):
        """Starts all writers.

        Args:
            writers: beside metrics.jsonl, by the name in the config.
            run: what the writers are told of the run.
            lines: what writes metrics.jsonl.
        """
        self._lines, self._writers, self._failed, self._stage = lines or JsonLines(), dict(writers), 0, run.stage
        self._lines.start(run)
        self._tell(lambda writer: writer.start(run), run.step)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Takes the figures of a step; its tables come before.

        Raises:
            RunError: one is not finite, or metrics.jsonl cannot be written.
        """
        if self._failed:
            values = {**values, "monitor_errors": self._failed}
        self._lines.write(step, values)
        self._tell(lambda writer: writer.write(step, values), step)

    def table(self, step: int, name: str, columns: Mapping[str, object]) -> None:
        """Takes a table for people to read; its lines are in NAME.jsonl. See `MetricWriter.table`.

        Raises:
            RunError: NAME.jsonl cannot be written.
        """
        self._lines.table(step, name, columns)
        self._tell(lambda writer: writer.table(step, name, columns), step)

    def sync(self) -> None:
        """Returns when the lines outlive the machine: before a checkpoint that is not to be ahead of them.

        Raises:
            RunError: the disk does not take them.
        """
        self._lines.sync()

    def close(self) -> None:
        """Closes all writers."""
        self._lines.close()
        self._tell(lambda writer: writer.close(), None)

    def __enter__(self) -> "Monitor":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _tell(self, what: Callable[[MetricWriter], None], step: int | None) -> None:
        for name, writer in list(self._writers.items()):
            try:
                what(writer)
            except Exception as error:  # noqa: BLE001 - of any kind: these packages raise what they like
                del self._writers[name]
                self._failed += 1
                when = "at its end" if step is None else f"at step {step}"
                reason = " ".join(str(error).split()) or type(error).__name__
                log.warning("monitor %s failed %s of %s and is left out: %s", name, when, self._stage, reason)


def open_monitor(config: ConfigDict, workdir: WorkDir, stage: str, step: int) -> Monitor:
    """The monitor of a stage.

    Args:
        config: the experiment.
        workdir: folder of the run, where files go.
        stage: name of the stage that begins or goes on.
        step: the last one that stands, see `RunInfo`.

    Raises:
        UserError: a writer is unknown, cannot be imported, or needs a package that is not installed.
    """
    file = workdir.path / "environment.json"
    environment = from_json(file.read_text(encoding="utf-8")) if file.is_file() else {}
    run = RunInfo(stage, step, workdir.path, from_json(config.to_json()), environment)
    if not processes.is_first():
        return Monitor({}, run, Nowhere())
    return Monitor({name: make_writer(config, name) for name in config.monitor.writers}, run)


def write_figures(config: ConfigDict, workdir: WorkDir, stage: str, figures: Mapping[int, Mapping[str, float]]) -> None:
    """Writes all figures of a stage without steps of its own, unless metrics.jsonl has just these.

    Args:
        config: the experiment.
        workdir: folder of the run, where files go.
        stage: whose figures replace those it wrote before.
        figures: by the step that they are of.
    """
    there = [line for line in read_lines(workdir.metrics) if line["stage"] == stage]
    wanted = [{"stage": stage, "step": step, **figures[step]} for step in sorted(figures)]
    if there == wanted:
        return
    with open_monitor(config, workdir, stage, -1) as monitor:
        for step in sorted(figures):
            monitor.write(step, figures[step])


def make_writer(config: ConfigDict, name: str) -> MetricWriter:
    """A writer that has not started.

    Args:
        config: the experiment.
        name: an entry of `monitor.writers`.

    Raises:
        UserError: it is unknown, cannot be imported, or needs a package that is not installed.
    """
    c = config.monitor
    if ":" in name:
        return _own_writer(name)
    if name not in PACKAGES:
        raise UserError(f"monitor.writers={name!r} is unknown: {nearest(name, (*PACKAGES, 'module:Class'))}")
    if importlib.util.find_spec(PACKAGES[name]) is None:
        fix = f'pip install "stgrpo[{name}]"'
        raise UserError(f"monitor.writers={name!r} needs the package {PACKAGES[name]}: {fix}, or leave it out")
    return TensorBoard() if name == "tensorboard" else WeightsAndBiases(c.project, c.name, c.mode)


def _own_writer(path: str) -> MetricWriter:
    module, _, name = path.partition(":")
    try:
        found = getattr(importlib.import_module(module), name)
    except Exception as error:
        where = "give module:Class, with its folder in PYTHONPATH"
        raise UserError(f"monitor.writers={path!r} cannot be imported ({error}): {where}") from error
    if missing := [m for m in METHODS if not callable(getattr(found, m, None))]:
        raise UserError(f"monitor.writers={path!r} has no {missing[0]}: it needs {', '.join(METHODS)}")
    return found()


def writer_errors(config: ConfigDict) -> Iterator[str]:
    """What is wrong with the writers of a config, each in a line."""
    for name in dict.fromkeys(config.monitor.writers):
        try:
            make_writer(config, name)
        except UserError as error:
            yield str(error)
