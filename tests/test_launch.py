"""The launch examples: each has a dry run, and what it would run is what the command line takes."""

import os
import pathlib
import shlex
import subprocess
import sys
import time

import pytest

from stgrpo.cli import parse

REPOSITORY = pathlib.Path(__file__).resolve().parents[1]
SETTINGS = {
    "rollouts_local.sh": ({"TRAINER_GPUS": "0,1", "SERVER_GPUS": "2,3"}, ("127.0.0.1:8000", "127.0.0.1:8001")),
    "rollouts_slurm.sh": (
        {"NODES": "a b", "SHARED": "/weights", "SLURM_GPUS_ON_NODE": "2"},
        ("b:8000", "b:8001"),
    ),
}


@pytest.mark.parametrize("script", sorted(SETTINGS))
def test_a_dry_run_prints_commands_that_pair_a_trainer_with_its_servers(script, tmp_path):
    settings, hosts = SETTINGS[script]
    shim = tmp_path / "stgrpo"
    shim.write_text(f'#!/bin/sh\nexec {sys.executable} -m stgrpo "$@"\n')
    shim.chmod(0o755)
    environment = {**os.environ, **settings, "DRY_RUN": "1", "VLLM_PYTHON": "/vllm/python", "XLA_FLAGS": ""}
    environment["PATH"] = f"{tmp_path}:{os.environ['PATH']}"
    command = ["bash", f"launch/{script}", "--config=configs/tiny.py", f"--workdir={tmp_path / 'w'}"]
    done = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    lines = [shlex.split(line) for line in done.stdout.splitlines() if " stgrpo " in line]
    commands = [parse(line[line.index("stgrpo") + 1 :]) for line in lines]
    servers, (trainer,) = commands[:-1], commands[-1:]
    assert [(c.stage, c.port, c.config.rollout.python) for c in servers] == [
        ("serve", 8000, "/vllm/python"),
        ("serve", 8001, "/vllm/python"),
    ]
    assert trainer.stage == "run"
    assert tuple(trainer.config.rollout.servers) == tuple(f"http://{host}" for host in hosts)
    assert "grpo     16 prompts x 8 responses" in done.stdout  # the experiment itself was checked
    assert not (tmp_path / "w").exists()


@pytest.mark.parametrize("script", sorted(SETTINGS))
def test_servers_print_into_files_and_end_with_the_trainer(script, tmp_path):
    """`stgrpo` and `srun` are played: a server prints its process id and sleeps, the trainer waits for two of these."""
    settings, hosts = SETTINGS[script]
    logs = tmp_path / "w-servers"
    plays = {
        "stgrpo": f"""if [ "$1" = serve ]; then echo "$$"; exec sleep 300; fi
            until [ "$(cat {logs}/*.log | wc -l)" = 2 ]; do sleep 0.05; done; echo "trained with $#"; exit 3""",
        "srun": 'while [ "${1#--}" != "$1" ]; do shift; done; exec "$@"',
    }
    for name, play in plays.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{play}\n")
        (tmp_path / name).chmod(0o755)
    environment = {**os.environ, **settings, "VLLM_PYTHON": "/vllm/python", "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    command = ["bash", f"launch/{script}", "--config=configs/tiny.py", f"--workdir={tmp_path / 'w'}/"]
    done = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 3 and done.stdout.startswith("trained with ") and done.stdout.count("\n") == 1
    names = {f"{host.removeprefix('127.0.0.1:').replace(':', '-')}.log" for host in hosts}
    assert {path.name for path in logs.iterdir()} == names
    deadline = time.monotonic() + 20
    while any(map(alive, logs.iterdir())) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(alive, logs.iterdir()))


def alive(log: pathlib.Path) -> bool:
    """Whether there is a process with the number in a file."""
    try:
        os.kill(int(log.read_text()), 0)
    except ProcessLookupError:
        return False
    return True
