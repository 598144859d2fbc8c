"""Runs of two processes of which one is killed at random, against one that was not: python tests/processes/kills.py.

The other process must end by itself within a minute; then the same command goes on, in both. Prints one JSON line;
exits with 1 at the first difference, and says the seed that leads to it.
"""

import argparse
import json
import pathlib
import random
import resource
import shutil
import signal
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "helpers"))
from several import lines, running

from stgrpo.monitors.base import repeatable

# A policy whose rewards are not all 0, so that every number of a step depends on those before it.
WORDS = ("--config=configs/tiny.py:smoke", "--config.sft.steps=200", "--config.sft.batch=16")
LIMIT = 60.0  # seconds for the process that is left
ENDS = (0, 1, -signal.SIGABRT, -signal.SIGSEGV)
"""Of that one. By a signal where process 0 is gone: JAX aborts it, and writing the stacks may then break off."""


def go(stage: str, workdir: pathlib.Path, count: int = 2) -> float:
    """One stage to its end; gives its seconds."""
    begun = time.monotonic()
    with running([stage, *WORDS, f"--workdir={workdir}"], count, 2 // count) as run:
        status, said = run.wait()
    assert status == [0] * count, f"{workdir} does not go on: {status} {said}"
    return time.monotonic() - begun


def killed(workdir: pathlib.Path, rng: random.Random, lasts: float) -> bool:
    """Starts GRPO and kills one of its processes; False where it ended first. The other one ends by itself."""
    with running(["grpo", *WORDS, f"--workdir={workdir}", "--distributed_timeout=40"], 2) as run:
        victim = rng.randrange(2)
        time.sleep(rng.uniform(0.0, lasts))
        run.processes[victim].kill()
        begun = time.monotonic()
        status, said = run.wait(LIMIT)
    assert time.monotonic() - begun < LIMIT
    assert status[1 - victim] in ENDS, (status, said)
    return status != [0, 0]


def trial(folder: pathlib.Path, kills: int, rng: random.Random, lasts: float) -> int:
    """One run, killed so often; gives the kills that met it at work."""
    workdir, met = pathlib.Path(shutil.copytree(folder / "before", folder / "killed")), 0
    for _ in range(kills):
        met += killed(workdir, rng, lasts)
    go("grpo", workdir)
    ours, theirs = ([repeatable(line) for line in lines(where, "grpo")] for where in (workdir, folder / "whole"))
    assert ours == theirs, f"metrics differ in {workdir}"
    assert (workdir / "samples.jsonl").read_bytes() == (folder / "whole" / "samples.jsonl").read_bytes(), workdir
    shutil.rmtree(workdir)
    return met


def main() -> None:
    """Kills and compares."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--a-run", type=int, default=2, help="kills that a run takes before it may end")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--after", help="a work directory of this script's experiment whose SFT is done")
    options = parser.parse_args()
    folder, rng = pathlib.Path(tempfile.mkdtemp(prefix="kills-")), random.Random(options.seed)
    begun, met, runs = time.monotonic(), 0, 0
    if options.after:
        shutil.copytree(options.after, folder / "whole")
    for stage in ("collect", "sft"):  # where they are done, they are skipped
        go(stage, folder / "whole", 1)
    shutil.copytree(folder / "whole", folder / "before")
    lasts = go("grpo", folder / "whole")
    while met < options.kills:
        try:
            met, runs = met + trial(folder, min(options.a_run, options.kills - met), rng, lasts), runs + 1
        except AssertionError as error:
            sys.exit(f"seed {options.seed}, kill {met}: {error}")
    shutil.rmtree(folder)
    used = sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])
    print(json.dumps({"kills": met, "runs": runs, "seconds": round(time.monotonic() - begun), "cpu_s": round(used)}))


if __name__ == "__main__":
    main()
