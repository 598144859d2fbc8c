"""All units of a sweep on this machine, one after the other or several at a time, each in a process of its own."""

import dataclasses
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TextIO

from stgrpo.console import say
from stgrpo.errors import UserError
from stgrpo.sweeps.state import FAILED, State, is_done, log_file, write_state
from stgrpo.sweeps.units import Unit

POLL_S = 0.2
TELL_S = 60.0
"""Between two words on units that are at work."""
PARENT = "STGRPO_SWEEP_PROCESS"
"""Environment variable that tells a unit's process who started it; it ends, and saves, when that one is gone."""


@dataclasses.dataclass(frozen=True)
class Job:
    """A unit at work.

    Attributes:
        unit: which.
        process: that does it.
        slot: its number among those at work at one time.
        began: when, by the monotonic clock.
        log: what it says goes there.
    """

    unit: Unit
    process: subprocess.Popen[bytes]
    slot: int
    began: float
    log: TextIO


Start = Callable[[Unit, Mapping[str, str], TextIO], subprocess.Popen[bytes]]
"""Begins a unit with an environment, its output going to a file."""


def run_units(
    folder: Path, units: Sequence[Unit], shares: Sequence[Mapping[str, str]], start: Start | None = None
) -> list[Unit]:
    """Does what is left to do; one that fails loses only those that begin with it.

    Args:
        folder: of the sweep.
        units: parents before children.
        shares: of each that may be at work at one time, what its environment is changed by; see `gpu_shares`.
        start: begins one; by default `stgrpo sweep --only`.

    Returns:
        The units that are not done at the end.
    """
    waiting = [unit for unit in units if not is_done(folder, unit)]
    _say_left(len(units), len(units) - len(waiting))
    work = _Work(folder, waiting, shares, start or _starter(folder))
    try:
        while work.is_left():
            work.step()
            time.sleep(POLL_S if work.at_work else 0)
    finally:
        work.stop()
    return [unit for unit in units if unit in work.lost]


class _Work:
    """Units that wait, are at work, and are lost."""

    def __init__(self, folder: Path, waiting: Sequence[Unit], shares: Sequence[Mapping[str, str]], start: Start):
        self._folder, self._waiting, self._shares, self._start = folder, list(waiting), shares, start
        self.at_work: list[Job] = []
        self.lost: list[Unit] = []
        self._said = time.monotonic()

    def is_left(self) -> bool:
        """Whether something waits or is at work."""
        return bool(self._waiting or self.at_work)

    def step(self) -> None:
        """Looks who has ended, gives up who cannot begin any more, begins who can, and says a word now and then."""
        for job in [job for job in self.at_work if job.process.poll() is not None]:
            self.at_work.remove(job)
            if not _end(self._folder, job):
                self.lost.append(job.unit)
        for unit in list(self._waiting):  # parents come before children
            if unit.parent in {other.name for other in self.lost}:
                self._waiting.remove(unit)
                self.lost.append(unit)
        for unit in self._ready()[: len(self._shares) - len(self.at_work)]:
            self._begin(unit)
        if time.monotonic() - self._said > TELL_S:
            self._said = time.monotonic()
            for job in self.at_work:
                say(f"sweep: {job.unit.name}: {_last_line(Path(job.log.name)) or 'no word yet'}")

    def _ready(self) -> list[Unit]:
        """Those that wait for nobody."""
        pending = {unit.name for unit in self._waiting} | {job.unit.name for job in self.at_work}
        return [unit for unit in self._waiting if unit.parent not in pending]

    def _begin(self, unit: Unit) -> None:
        slot = min(set(range(len(self._shares))) - {job.slot for job in self.at_work})
        file = log_file(self._folder, unit.name)
        file.parent.mkdir(parents=True, exist_ok=True)
        log = file.open("a", encoding="utf-8")
        environment = {**os.environ, **self._shares[slot], PARENT: str(os.getpid())}
        say(f"sweep: {unit.name} begins ({', '.join(unit.stages)}); what it says is in {file}")
        self.at_work.append(Job(unit, self._start(unit, environment, log), slot, time.monotonic(), log))
        self._waiting.remove(unit)

    def stop(self) -> None:
        """Asks what is at work to end, and waits: trainings save first."""
        for job in self.at_work:
            job.process.terminate()
        for job in self.at_work:
            job.process.wait()
            job.log.close()


def gpu_shares(jobs: int, environment: Mapping[str, str]) -> list[dict[str, str]]:
    """What the environment of each of some jobs is changed by, so that they share the GPUs of this machine evenly.

    Raises:
        UserError: there are more jobs than GPUs.
    """
    if jobs == 1 or environment.get("JAX_PLATFORMS", "") == "cpu":
        return [{}] * jobs
    given = environment.get("CUDA_VISIBLE_DEVICES")
    found = sorted(Path("/dev").glob("nvidia[0-9]*"), key=lambda path: int(path.name.removeprefix("nvidia")))
    gpus = [path.name.removeprefix("nvidia") for path in found] if given is None else [g for g in given.split(",") if g]
    if not gpus:
        return [{}] * jobs
    if jobs > len(gpus):
        raise UserError(f"--jobs={jobs} is more than the {len(gpus)} GPUs here: use --jobs={len(gpus)}")
    return [{"CUDA_VISIBLE_DEVICES": ",".join(gpus[slot::jobs])} for slot in range(jobs)]


def _starter(folder: Path) -> Start:
    def start(unit: Unit, environment: Mapping[str, str], log: TextIO) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "stgrpo", "sweep", f"--workdir={folder}", f"--only={unit.name}"]
        return subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    return start


def _end(folder: Path, job: Job) -> bool:
    """Says how a unit ended and keeps it; whether it is done."""
    job.log.close()
    status, seconds = job.process.returncode, time.monotonic() - job.began
    if status == 0 and is_done(folder, job.unit):
        say(f"sweep: {job.unit.name} is done in {seconds:.0f} s")
        return True
    said = _last_line(Path(job.log.name)) or "it said nothing"
    said = said.removeprefix("stgrpo: ")
    if status < 0:
        said = f"ended by signal {-status} after: {said}"
    say(f"sweep: {job.unit.name} is not done, status {status}: {said}")
    if (folder / job.unit.name / "config.json").is_file():
        write_state(folder, job.unit, State(FAILED, round(seconds, 1), said))
    return False


def _say_left(count: int, done: int) -> None:
    word = f", {done} of them done already" if done else ""
    say(f"sweep: {count} {'part' if count == 1 else 'parts'} to do{word}")


def _last_line(file: Path) -> str:
    """The last line of a log; of a progress bar its last state."""
    with file.open("rb") as opened:
        opened.seek(max(0, file.stat().st_size - 4000))
        text = opened.read().decode(errors="replace").replace("\r", "\n")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:300] if lines else ""
