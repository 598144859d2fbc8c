"""Real runs of several processes on this machine: the same numbers as one, and one end for all."""

import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import time

import pytest
from several import free_port, lines, running, until

from stgrpo.monitors.base import repeatable

pytestmark = pytest.mark.slow
# SFT goes on until rewards are not all 0: then a rollout depends on every weight, and an update on every reward.
WARM = ("--config=configs/tiny.py:smoke", "--config.sft.steps=200", "--config.sft.batch=16")
EXACT = ("reward", "groups_zero_variance", "response_length", "tokens_processed", "validation_sr")
CLOSE = ("loss", "kl", "grad_norm", "entropy", "mismatch_mean")
LIMIT = 60.0  # seconds in which one failure ends all: half of that, on a machine with nothing else to do


@pytest.fixture(scope="module")
def warm(tmp_path_factory) -> pathlib.Path:
    """A work directory whose SFT is done, in one process."""
    folder = tmp_path_factory.mktemp("several") / "warm"
    for stage in ("collect", "sft"):
        with running([stage, *WARM, f"--workdir={folder}"], 1, 2) as run:
            assert run.wait()[0] == [0]
    return folder


@pytest.fixture
def folder(warm, tmp_path) -> pathlib.Path:
    """A copy of it."""
    return pathlib.Path(shutil.copytree(warm, tmp_path / "run"))


def changed(folder: pathlib.Path, **fields: object) -> list[str]:
    """Makes a work directory that of another config, `grpo__steps=3` for grpo.steps; returns the arguments for it."""
    file = folder / "config.json"
    config = json.loads(file.read_text())
    for name, value in fields.items():
        section, field = name.split("__")
        config[section][field] = value
    file.write_text(json.dumps(config))
    return [*(f"--config.{name.replace('__', '.')}={value}" for name, value in fields.items()), f"--workdir={folder}"]


@pytest.mark.parametrize(("count", "devices", "mesh", "steps"), [(2, 2, "fsdp", 6), (4, 1, "data", 3)])
def test_the_result_does_not_depend_on_the_number_of_processes(warm, folder, tmp_path, count, devices, mesh, steps):
    alone = pathlib.Path(shutil.copytree(warm, tmp_path / "alone"))
    for where in (alone, folder):
        sizes = changed(where, grpo__steps=steps)[:-1] + (["--config.mesh.fsdp=2"] if mesh == "fsdp" else [])
    for where, processes, each in ((alone, 1, count * devices), (folder, count, devices)):
        with running(["run", *WARM, *sizes, f"--workdir={where}"], processes, each) as run:
            status, said = run.wait()
            assert status == [0] * processes, said
    ours, theirs = lines(folder, "grpo"), lines(alone, "grpo")
    assert [line["step"] for line in ours] == [*range(1, steps + 1)]
    assert max(line["reward"] for line in ours) > 0
    for a, b in zip(ours, theirs, strict=True):
        assert {k: a.get(k) for k in EXACT} == {k: b.get(k) for k in EXACT}
        assert {k: a[k] for k in CLOSE} == pytest.approx({k: b[k] for k in CLOSE}, abs=1e-5)
    for name in ("samples.jsonl", "evaluation/sft_unseen.episodes.jsonl"):
        assert (folder / name).read_bytes() == (alone / name).read_bytes(), "other tokens were drawn"
    assert (folder / "report.html").is_file()
    assert f"grpo {steps}/{steps}" in (folder / "logs" / "process-1.log").read_text()


def test_sigterm_to_one_saves_in_all_at_one_step(warm, folder, tmp_path):
    whole = pathlib.Path(shutil.copytree(warm, tmp_path / "whole"))
    more = {"grpo__steps": 12, "grpo__validate_every": 0}
    with running(["grpo", *WARM, *changed(folder, **more)], 2) as run:
        until(lambda: len(lines(folder, "grpo")) >= 3)
        run.processes[1].send_signal(signal.SIGTERM)
        assert run.wait()[0] == [75, 75]
    done = len(lines(folder, "grpo"))
    assert 3 <= done < 12
    assert (folder / "checkpoints" / "grpo" / str(done)).is_dir()
    for where in (folder, whole):
        with running(["grpo", *WARM, *changed(where, **more)], 2) as run:
            assert run.wait()[0] == [0, 0]
    assert list(map(repeatable, lines(folder, "grpo"))) == list(map(repeatable, lines(whole, "grpo")))


def test_sigterm_to_one_process_ends_what_saves_no_steps_in_all_at_once(folder):
    more = changed(folder, evaluation__layouts=2000)
    with running(["evaluate", *WARM, *more], 2) as run:
        until(lambda: "evaluate" in (folder / "programs.log").read_text())  # it plays
        begin = time.monotonic()
        run.processes[1].send_signal(signal.SIGTERM)
        status, said = run.wait()
    assert status == [75, 75] and time.monotonic() - begin < LIMIT
    assert (
        said[0].strip().endswith("asked to end (SIGTERM): what is done is saved, the same command goes on from there")
    )
    assert not list((folder / "faults").glob("*"))


def test_sigterm_to_a_run_of_one_process_saves_and_it_goes_on_from_there(folder):
    more = {"grpo__steps": 12, "grpo__validate_every": 0}
    with running(["grpo", *WARM, *changed(folder, **more)], 1, 2) as run:
        until(lambda: len(lines(folder, "grpo")) >= 3)
        run.processes[0].send_signal(signal.SIGTERM)
        status, said = run.wait()
    done = len(lines(folder, "grpo"))
    assert status == [75] and 3 <= done < 12
    assert "asked to end (SIGTERM)" in said[0] and "Traceback" not in said[0]
    assert (folder / "checkpoints" / "grpo" / str(done)).is_dir()


@pytest.mark.parametrize("victim", [0, 1])
def test_a_process_that_is_killed_ends_the_other(folder, victim):
    with running(["grpo", *WARM, *changed(folder, grpo__steps=2000)], 2) as run:
        until(lambda: len(lines(folder, "grpo")) >= 2)
        run.processes[victim].kill()
        begin = time.monotonic()
        status, said = run.wait(2 * LIMIT)
    assert time.monotonic() - begin < LIMIT
    if victim == 0:  # who keeps the store: JAX itself ends the others
        assert status[1] in (1, -signal.SIGABRT)
    else:
        assert status[0] == 1, said[0]
        assert "process 1 on " in said[0]
        (report,) = (folder / "faults").glob("*-grpo-process-0.txt")
        assert str(report) in said[0] and "gave no sign of life" in report.read_text()
        assert "Traceback" not in said[0]


def test_a_process_that_is_killed_at_random_is_started_again_to_the_same_end(warm):
    script = pathlib.Path(__file__).with_name("kills.py")
    words = ["--kills=1", "--seed=1", f"--after={warm}"]
    done = subprocess.run([sys.executable, script, *words], capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["kills"] == 1


def test_an_exception_in_one_process_ends_all(folder, tmp_path):
    (tmp_path / "broken.py").write_text(
        "import jax\n\ndef loss(inputs, coefficients):\n"
        "    if jax.process_index() == 1:\n        raise ArithmeticError('out of luck')\n"
        "    return (inputs.weight * inputs.logp).sum(), {}\n"
    )
    path = f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}"
    with running(["grpo", *WARM, *changed(folder, grpo__loss="broken:loss")], 2, PYTHONPATH=path) as run:
        status, said = run.wait()
    assert status == [1, 1]
    assert "process 1 on " in said[0]
    assert "out of luck" in said[0]
    (report,) = (folder / "faults").glob("*-grpo-process-1.txt")
    assert str(report) in said[0] and "broken.py" in report.read_text()
    assert "ArithmeticError: out of luck" in (folder / "logs" / "process-1.log").read_text()


UNREADABLE = """
import os, sys
import orbax.checkpoint as ocp

if os.environ.get("UNREADABLE") and sys.argv[-1].endswith(",2,1"):
    def fail(self, *arguments, **options):
        raise OSError(5, "Input/output error")
    ocp.AsyncCheckpointer.restore = fail

def loss(inputs, coefficients):
    return (inputs.weight * inputs.logp).sum(), {}
"""


def test_a_checkpoint_that_one_process_cannot_read_ends_all_and_changes_nothing(folder, tmp_path):
    (tmp_path / "unreadable.py").write_text(UNREADABLE)
    path = {"PYTHONPATH": f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}"}
    words = ["grpo", *WARM, *changed(folder, grpo__loss="unreadable:loss", grpo__steps=4)]
    with running(words, 2, **path) as run:
        until(lambda: (folder / "checkpoints" / "grpo" / "2").is_dir())
        run.kill()
        run.wait()
    before = {file: file.stat().st_mtime_ns for file in (folder / "checkpoints").glob("*/[0-9]/**/*")}
    with running(words, 2, UNREADABLE="1", **path) as run:
        status, said = run.wait()
    assert status == [1, 1]
    assert "process 1 on " in said[0] and "cannot be read now (Input/output error): nothing was changed" in said[0]
    assert {file: file.stat().st_mtime_ns for file in (folder / "checkpoints").glob("*/[0-9]/**/*")} == before
    with running(words, 2, **path) as run:
        assert run.wait()[0] == [0, 0]
    assert [line["step"] for line in lines(folder, "grpo")] == [1, 2, 3, 4]


def test_a_run_that_stands_still_says_where_and_ends(folder, tmp_path):
    (tmp_path / "stuck.py").write_text(
        "import time\nimport jax\n\ndef loss(inputs, coefficients):\n"
        "    while jax.process_index() == 1:\n        time.sleep(1)\n"
        "    return (inputs.weight * inputs.logp).sum(), {}\n"
    )
    path = f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}"
    stuck = ["--config.watchdog_minutes=0.8", *changed(folder, grpo__loss="stuck:loss")]
    with running(["grpo", *WARM, *stuck], 2, PYTHONPATH=path) as run:
        status, said = run.wait()
    assert status == [1, 1]
    assert "the part update of a step has not moved for 0.8 minutes" in said[0]
    stuck = [
        re.search(r'stuck.py", line [56], in loss', r.read_text()) for r in (folder / "faults").glob("*process-1.txt")
    ]
    assert len(stuck) == 1 and stuck[0]
    assert len(list((folder / "faults").glob("*-grpo-process-0.txt"))) == 1
    assert re.search(r'stuck.py", line [56] in loss', (folder / "logs" / "process-1.log").read_text())


def test_a_mistake_of_the_user_is_one_line_and_ends_all_with_2(folder):
    with running(["grpo", *WARM, "--config.grpo.betta=1", f"--workdir={folder}"], 2) as run:
        status, said = run.wait()
    assert status == [2, 2]
    assert [line for line in said[0].splitlines() if line.startswith("stgrpo:")] == said[0].splitlines()[-1:]
    assert "grpo.betta is not a field" in said[0]
    assert "stgrpo:" not in said[1]


@pytest.mark.parametrize("index", [0, 1])
def test_others_that_are_not_there_are_one_line(index):
    begin = time.monotonic()
    alone = [f"--distributed=127.0.0.1:{free_port()},2,{index}", "--distributed_timeout=5"]
    with running(["collect", *WARM, "--workdir=unused", *alone], 1) as run:
        status, said = run.wait()
    assert status == [1]
    assert time.monotonic() - begin < 60
    assert said[0].count("\n") == 1
    assert "the other processes were not there within 5 s" in said[0]


def test_auto_where_nothing_is_detected_is_one_line():
    with running(["collect", *WARM, "--workdir=unused", "--distributed=auto"], 1) as run:
        status, said = run.wait()
    assert status == [2]
    assert "finds no Slurm step, TPU pod or JAX_COORDINATOR_ADDRESS here" in said[0]
