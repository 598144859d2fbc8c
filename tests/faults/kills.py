"""Runs that are killed at random and go on, again and again, against one that was not: python tests/faults/kills.py.

Half of the kills come at a random moment, half just before a random call that changes a folder or syncs a file:
where something could be left half-made. Each is a SIGKILL to a fork of this process, which saves importing JAX anew.
Prints one JSON line; exits with 1 at the first difference, and says the seed that leads to it.
"""

import argparse
import hashlib
import itertools
import json
import os
import pathlib
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable

os.environ.setdefault("JAX_PLATFORMS", "cpu")
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "helpers"))
from compiling import FAST

os.environ["XLA_FLAGS"] = FAST

import jax  # before the forks, once for all; no device is touched here

from stgrpo import cli
from stgrpo.monitors.base import repeatable
from stgrpo.stages import collect, evaluate, grpo, report, sft  # noqa: F401 - the same
from stgrpo.training.metadata import load_metadata
from stgrpo.training.step_folders import damage, has_steps, step_folders
from stgrpo.workdir.folder import PROTOCOLS

SMOKE = f"--config={pathlib.Path(__file__).resolve().parents[2] / 'configs' / 'tiny.py'}:smoke"
STAGES = ("collect", "sft", "grpo", "evaluate")
CALLS_OF = {"sft": 250, "grpo": 250, "evaluate": 40}
"""About how many of these calls a stage makes."""
CALLS = ("replace", "rename", "fsync", "unlink", "rmdir", "mkdir", "ftruncate")


def in_a_fork(job: Callable[[], None], log: pathlib.Path) -> int:
    """Starts a job in a child and gives its number."""
    child = os.fork()
    if child:
        return child
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(output, 1)
    os.dup2(output, 2)
    try:
        job()
    except SystemExit as stop:
        os._exit(int(stop.code or 0))
    except BaseException:
        import traceback

        traceback.print_exc()
        os._exit(3)
    os._exit(0)


def run(stage: str, workdir: pathlib.Path, cache: pathlib.Path, ready: Callable[[], None] = lambda: None) -> None:
    """One stage, in this process; compiled programs come from a folder."""
    jax.config.update("jax_compilation_cache_dir", str(cache))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    cli._use_compilation_cache = lambda: None
    ready()
    cli.main([stage, SMOKE, f"--workdir={workdir}"])


def dies_before(number: int) -> Callable[[], None]:
    """Makes this process kill itself before its so-and-so-many-th change on disk."""
    made = [0]

    def counted(call: Callable) -> Callable:
        def replacement(*arguments, **options):
            made[0] += 1
            if made[0] == number:
                os.kill(os.getpid(), signal.SIGKILL)
            return call(*arguments, **options)

        return replacement

    def ready() -> None:
        for name in CALLS:
            setattr(os, name, counted(getattr(os, name)))

    return ready


def untimed(file: pathlib.Path) -> list[dict]:
    """The lines of a file without what is of the process that wrote it."""
    return [repeatable(json.loads(line)) for line in file.read_text().splitlines()]


def outcome(workdir: pathlib.Path) -> dict[str, object]:
    """All that a run is for."""
    found: dict[str, object] = {file.name: untimed(file) for file in workdir.glob("*.jsonl")}
    for file in sorted(workdir.glob("evaluation/*.json*")):
        if file.name == PROTOCOLS:
            found[file.name] = [{k: v for k, v in line.items() if k != "date"} for line in untimed(file)]
            continue
        found[file.name] = hashlib.sha256(file.read_bytes()).hexdigest()
    for stage in ("sft", "grpo"):
        steps = step_folders(workdir / "checkpoints" / stage) if has_steps(workdir / "checkpoints" / stage) else []
        assert not any(map(damage, steps)), steps
        found[stage] = [(step.name, load_metadata(step).fingerprint) for step in steps]
    found["left over"] = sorted(
        str(p) for p in workdir.rglob("*") if ".part" in p.name or "orbax-checkpoint-tmp" in p.name
    )
    return found


def newest(workdir: pathlib.Path) -> dict[str, int]:
    """The newest whole step of each stage; 0 where there is none."""
    found = {}
    for stage in ("sft", "grpo"):
        folder = workdir / "checkpoints" / stage
        steps = step_folders(folder) if has_steps(folder) else []
        found[stage] = max((int(step.name) for step in steps if not damage(step)), default=0)
    return found


class Trial:
    """Kills one stage again and again, from where the stage before it ended, and lets it end.

    Args:
        folder: for all files; has a work directory as it was before each stage, and after the last.
        rng: chooses where to kill.
    """

    def __init__(self, folder: pathlib.Path, rng: random.Random):
        self.folder, self.rng, self.lasts = folder, rng, {}
        self.log, self.cache, self.kills, self.ended = folder / "log", folder / "cache", 0, 0

    def go(self, stage: str, workdir: pathlib.Path) -> None:
        """One stage to its end."""
        child = in_a_fork(lambda: run(stage, workdir, self.cache), self.log)
        self.check(os.waitpid(child, 0)[1], workdir)

    def check(self, status: int, workdir: pathlib.Path) -> None:
        """Only a kill ends a stage early."""
        if os.WIFEXITED(status) and os.WEXITSTATUS(status):
            raise AssertionError(f"{workdir} does not go on: {self.log.read_text()[-3000:]}")

    def undisturbed(self) -> None:
        """The run that the others are held to; what it compiles is kept."""
        workdir = self.folder / "whole"
        for number, stage in enumerate(STAGES):
            if number:
                shutil.copytree(workdir, self.folder / f"before-{stage}")
            start = time.monotonic()
            self.go(stage, workdir)
            self.lasts[stage] = 0.7 * (time.monotonic() - start)  # compiled programs are found from now on
        shutil.copytree(workdir, self.folder / "before-report")

    def disturbed(self, stage: str, kills: int) -> None:
        """One stage, killed so often."""
        after = STAGES[STAGES.index(stage) + 1] if stage != STAGES[-1] else "report"
        workdir = self.folder / f"killed-{stage}-{self.kills}"
        shutil.copytree(self.folder / f"before-{stage}", workdir)
        before = newest(workdir)
        for _ in range(kills):
            if not self.kill(stage, workdir):
                break
            now = newest(workdir)
            assert all(now[name] >= before[name] for name in now), (
                f"a step is gone in {workdir}: {before} was, {now} is"
            )
            before = now
        self.go(stage, workdir)
        got, expected = outcome(workdir), outcome(self.folder / f"before-{after}")
        differ = [name for name in expected | got if got.get(name) != expected.get(name)]
        assert not differ, f"{differ} differ in {workdir}"
        shutil.rmtree(workdir)

    def kill(self, stage: str, workdir: pathlib.Path) -> bool:
        """Starts a stage and kills it; False where it ended first."""
        at_a_call = self.rng.random() < 0.5
        ready = dies_before(self.rng.randint(1, CALLS_OF[stage])) if at_a_call else lambda: None
        child = in_a_fork(lambda: run(stage, workdir, self.cache, ready), self.log)
        if not at_a_call:
            time.sleep(self.rng.uniform(0.0, self.lasts[stage]))
            os.kill(child, signal.SIGKILL)
        status = os.waitpid(child, 0)[1]
        self.check(status, workdir)
        self.kills, self.ended = self.kills + os.WIFSIGNALED(status), self.ended + os.WIFEXITED(status)
        return os.WIFSIGNALED(status)


def main() -> None:
    """Kills and compares."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--a-run", type=int, default=5, help="kills that a stage takes before it may end")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    folder, begun = pathlib.Path(tempfile.mkdtemp(prefix="kills-")), time.monotonic()
    trial, turns = Trial(folder, random.Random(options.seed)), itertools.cycle(STAGES[1:])
    trial.undisturbed()
    while trial.kills < options.kills:
        try:
            trial.disturbed(next(turns), min(options.a_run, options.kills - trial.kills))
        except AssertionError as error:
            sys.exit(f"seed {options.seed}, kill {trial.kills}: {error}")
    shutil.rmtree(folder)
    used = sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    seconds = round(time.monotonic() - begun)
    print(json.dumps({"kills": trial.kills, "ended_first": trial.ended, "seconds": seconds, "cpu_s": round(used)}))


if __name__ == "__main__":
    main()
