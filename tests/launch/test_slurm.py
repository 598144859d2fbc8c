"""launch/slurm/train.sbatch in a real Slurm of one node (Debian's slurm-wlm), whose daemons end with the test."""

import os
import pathlib
import shutil
import socket
import subprocess
import sys
import tempfile

import pytest
from compiling import FAST
from several import free_port, lines, until

pytestmark = pytest.mark.slow
REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
DAEMONS = ("munged", "slurmctld", "slurmd")
FILES = {"key-file": "key", "socket": "socket", "pid-file": "pid", "log-file": "log", "seed-file": "seed"}
SMOKE = f"--config={REPOSITORY / 'configs' / 'tiny.py'}:smoke"
CONF = """\
ClusterName=test
SlurmctldHost={host}
SlurmctldPort={controller}
SlurmdPort={node}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CryptoType=crypto/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/linear
MpiDefault=none
ReturnToService=2
KillWait=60
NodeName={host} CPUs=2 State=UNKNOWN
PartitionName=all Nodes={host} Default=YES MaxTime=INFINITE State=UP OverSubscribe=NO
"""


def start(folder, name, *options):
    log = (folder / f"{name}.log").open("w")
    return subprocess.Popen([shutil.which(name), *options], stdout=log, stderr=log)


@pytest.fixture(scope="module")
def slurm():
    """Environment in which Slurm's commands reach a cluster of this machine."""
    if missing := [name for name in DAEMONS if not shutil.which(name)]:
        pytest.skip(f"no Slurm here: {', '.join(missing)} are missing (apt-get install slurm-wlm)")
    if os.geteuid():
        pytest.skip("slurmd starts jobs as their users, so it must be root")
    folder, host = pathlib.Path(tempfile.mkdtemp(prefix="slurm-")), socket.gethostname().partition(".")[0]
    folder.chmod(0o755)
    (folder / "munge.key").write_bytes(os.urandom(1024))
    (folder / "munge.key").chmod(0o400)
    (folder / "state").mkdir()
    conf = folder / "slurm.conf"
    conf.write_text(CONF.format(host=host, controller=free_port(), node=free_port(), folder=folder))
    env = os.environ | {"SLURM_CONF": str(conf), "PATH": f"{pathlib.Path(sys.executable).parent}:{os.environ['PATH']}"}
    files = [f"--{name}={folder}/munge.{end}" for name, end in FILES.items()]
    started = [start(folder, "munged", "--foreground", "--force", *files)]
    try:
        until((folder / "munge.socket").exists, 30)
        started.append(start(folder, "slurmctld", "-D", "-f", str(conf)))
        started.append(start(folder, "slurmd", "-D", "-f", str(conf), "-N", host))
        until(lambda: "idle" in asked(env, "sinfo", "--noheader", "--format=%T"), 60)
        yield env
    finally:
        for daemon in reversed(started):
            daemon.terminate()
            daemon.wait(30)
        shutil.rmtree(folder)


def asked(env, *command):
    return subprocess.run(command, env=env, capture_output=True, text=True).stdout


def submit(env, folder, *arguments):
    """Gives a job of two tasks to Slurm; returns its number."""
    command = ["sbatch", "--parsable", "--nodes=1", "--ntasks-per-node=2", "--gpus-per-node=0"]
    script = str(REPOSITORY / "launch" / "slurm" / "train.sbatch")
    done = subprocess.run(
        [*command, f"--output={folder / 'slurm.out'}", script, *map(str, arguments)],
        env=env | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": FAST},
        cwd=folder,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def state(env, job):
    return asked(env, "scontrol", "show", "job", job)


def test_a_job_of_two_tasks_that_is_asked_to_end_saves_and_is_queued_again_and_the_next_goes_on(slurm, tmp_path):
    workdir = f"--workdir={tmp_path / 'run'}"
    more = ("--config.sft.steps=60", "--config.sft.checkpoint_every=60")
    collect = [sys.executable, "-m", "stgrpo", "collect", SMOKE, *more, workdir]
    subprocess.run(collect, env=slurm, cwd=REPOSITORY, check=True)
    job = submit(slurm, tmp_path, "sft", SMOKE, *more, workdir)
    said = tmp_path / "slurm.out"
    until(lambda: (tmp_path / "run" / "metrics.jsonl").is_file() and len(lines(tmp_path / "run", "sft")) >= 3, 200)
    subprocess.run(["scancel", "--signal=TERM", job], env=slurm, check=True)  # to the tasks, as before the time is up
    until(lambda: "JobState=PENDING" in state(slurm, job), 120)
    assert "Restarts=1" in state(slurm, job) and "asked to end (SIGTERM)" in said.read_text()
    subprocess.run(["scancel", job], env=slurm, check=True)  # Slurm would wait for two minutes
    done = len(lines(tmp_path / "run", "sft"))
    assert (tmp_path / "run" / "checkpoints" / "sft" / str(done)).is_dir() and done < 60
    job = submit(slurm, tmp_path, "sft", SMOKE, *more, workdir)
    until(lambda: "JobState=COMPLETED" in state(slurm, job), 300)
    assert "ExitCode=0:0" in state(slurm, job) and f"sft: resumed at step {done}" in said.read_text()
    assert [line["step"] for line in lines(tmp_path / "run", "sft")] == list(range(1, 61))
