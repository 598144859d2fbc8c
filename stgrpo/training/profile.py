"""Some steps of a stage recorded by JAX's profiler: what hosts and devices did when, under the names of our parts."""

import logging
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import jax
from ml_collections import ConfigDict

from stgrpo import processes
from stgrpo.console import one_line, say
from stgrpo.workdir import WorkDir

log = logging.getLogger(__name__)


class Profile:
    """Records the steps of a window, as they come; whatever goes wrong with it is a warning and no end of training.

    Use it as a context: what is under way when the stage ends is written too.
    """

    def __init__(self, stage: str, window: range, folder: Path | None):
        """Records nothing yet.

        Args:
            stage: whose steps.
            window: their numbers, from 1.
            folder: where the record goes; None to record nothing.
        """
        self._stage, self._window, self._folder = stage, window, folder
        self._under_way: Path | None = None

    def __enter__(self) -> "Profile":
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    @contextmanager
    def step(self, number: int) -> Generator[None]:
        """Marks what is done within as a step, and records it if it is in the window."""
        if number in self._window and self._folder is not None and self._under_way is None:
            self._start(self._folder)
        with jax.profiler.StepTraceAnnotation(self._stage, step_num=number):
            yield
        if number + 1 not in self._window:
            self._stop()

    def _start(self, folder: Path) -> None:
        options = jax.profiler.ProfileOptions()
        options.python_tracer_level = 0  # every call of a function would drown what we name
        try:
            folder.mkdir(parents=True, exist_ok=True)
            jax.profiler.start_trace(folder, profiler_options=options)
        except Exception as error:  # noqa: BLE001 - of any kind, and no reason to end a training
            self._give_up(error)
        else:
            self._under_way = folder

    def _stop(self) -> None:
        if self._under_way is None:
            return
        folder, self._under_way = self._under_way, None
        try:
            jax.profiler.stop_trace()
        except Exception as error:  # noqa: BLE001 - the same
            self._give_up(error)
        else:
            say(f"{self._stage}: profile of steps {_shown(self._window)} in {folder}")

    def _give_up(self, error: Exception) -> None:
        self._folder = None
        log.warning("%s: no profile of steps %s (%s)", self._stage, _shown(self._window), one_line(str(error)))


def open_profile(config: ConfigDict, workdir: WorkDir, stage: str, steps: range) -> Profile:
    """The profile of a stage, by the config.

    Args:
        config: the experiment.
        workdir: folder of the run; records go into profile/STAGE-FIRST-LAST, with several processes on each of which
            records into process-ID in it.
        stage: name of the stage that begins or goes on.
        steps: numbers of those it does now, from 1; what of the window is not among them is not recorded.
    """
    c = config.profile
    if c.stage != stage:
        return Profile(stage, range(0), None)
    asked = range(c.first, c.first + c.steps)
    window = range(max(asked.start, steps.start), min(asked.stop, steps.stop))
    if window != asked and processes.is_first():
        log.warning("%s", _missing(stage, asked, steps, window))
    mine = bool(window) and (c.processes == "all" or processes.is_first())
    folder = workdir.path / "profile" / f"{stage}-{_shown(window)}"
    if c.processes == "all" and processes.count() > 1:
        folder /= f"process-{processes.index()}"
    return Profile(stage, window, folder if mine else None)


def _missing(stage: str, asked: range, steps: range, window: range) -> str:
    what = f"only steps {_shown(window)} are" if window else "nothing is"
    wish = f"profile.first={asked.start} and profile.steps={len(asked)}"
    return f"{wish}: {what} recorded, since {stage} now does steps {_shown(steps)}; choose some of these"


def _shown(steps: range) -> str:
    return f"{steps[0]}-{steps[-1]}" if len(steps) > 1 else "".join(map(str, steps)) or "none"
