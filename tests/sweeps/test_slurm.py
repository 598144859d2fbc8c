"""The script for Slurm: an array for each level, each after the one before; its tasks do one unit each."""

import os
import pathlib
import shutil
import subprocess
import sys

import pytest

from stgrpo.sweeps.slurm import slurm_script
from stgrpo.sweeps.units import Unit

UNITS = [
    Unit("shared/a", "x", ("collect",)),
    Unit("points/x=1,y=(a)", "x", ("run",), ("collect",), "shared/a", 1),
    Unit("points/x=2,y=(a)", "x", ("run",), ("collect",), "shared/a", 1),
]
FAKE = """#!/usr/bin/env bash
printf '%s|' "$(basename "$0")" "$@" >>"$SAID"
echo >>"$SAID"
[[ $(basename "$0") != sbatch ]] || echo "$((40 + $(grep -c '^sbatch' "$SAID")));cluster"
[[ $(basename "$0") != srun ]] || exit "${STATUS:-0}"
"""


@pytest.fixture
def script(tmp_path):
    file = tmp_path / "a sweep.sh"
    file.write_text(slurm_script(tmp_path / "my folder", UNITS, jobs=4))
    return file


def run(script, *arguments, **environment):
    bin = script.parent / "bin"
    bin.mkdir(exist_ok=True)
    for name in ("sbatch", "srun", "scontrol"):
        (bin / name).write_text(FAKE)
        (bin / name).chmod(0o755)
    said = script.parent / "said"
    said.write_text("")
    env = os.environ | {"PATH": f"{bin}:{os.environ['PATH']}", "SAID": str(said)} | environment
    done = subprocess.run(["bash", script, *arguments], env=env, capture_output=True, text=True)
    return done, [line.split("|")[:-1] for line in said.read_text().splitlines()]


def test_an_array_for_each_level_after_the_one_before(script):
    done, (first, second) = run(script, "--gpus-per-node=1", "--time=1:00:00")
    assert done.returncode == 0 and done.stdout == "submitted 1 as job 41\nsubmitted 2 as job 42\n"
    assert first[-4:] == ["--array=0-0%4", str(script), "--do", "shared/a"] and "--gpus-per-node=1" in first
    assert second[-5:] == ["--array=0-1%4", str(script), "--do", "points/x=1,y=(a)", "points/x=2,y=(a)"]
    assert "--dependency=afterany:41" in second and not any("dependency" in word for word in first)
    assert (script.parent / "my folder" / "logs").is_dir()


def test_a_task_does_its_unit_and_one_that_was_asked_to_end_is_queued_again(script):
    task = {"SLURM_ARRAY_TASK_ID": "1", "SLURM_JOB_ID": "77"}
    names = [unit.name for unit in UNITS[1:]]
    done, said = run(script, "--do", *names, **task)
    workdir = f"--workdir={script.parent / 'my folder'}"
    assert done.returncode == 0
    assert said == [["srun", "--ntasks=1", "stgrpo", "sweep", workdir, "--only=points/x=2,y=(a)"]]
    done, said = run(script, "--do", *names, STATUS="75", **task)
    assert done.returncode == 75 and said[1] == ["scontrol", "requeue", "77"]
    done, said = run(script, "--do", *names, STATUS="2", **task)
    assert done.returncode == 2 and len(said) == 1


def test_a_dry_run_submits_nothing(script):
    done, said = run(script, DRY_RUN="1")
    assert done.returncode == 0 and said == [] and done.stdout.count("sbatch --parsable") == 2


def test_it_passes_bash_and_shellcheck(script):
    assert subprocess.run(["bash", "-n", script]).returncode == 0
    shellcheck = shutil.which("shellcheck") or shutil.which("shellcheck", path=pathlib.Path(sys.executable).parent)
    if not shellcheck:
        pytest.skip("no shellcheck here")
    assert subprocess.run([shellcheck, script]).returncode == 0
