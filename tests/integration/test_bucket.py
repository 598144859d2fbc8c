"""A run whose work directory is in a bucket of a real S3 server on this machine, killed, and gone on with elsewhere."""

import logging
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest
from compiling import FAST

from stgrpo.files import read_lines
from stgrpo.monitors.base import repeatable

pytestmark = pytest.mark.slow
SMOKE = f"--config={pathlib.Path(__file__).resolve().parents[2] / 'configs' / 'tiny.py'}:smoke"
URL = "s3://bucket/runs/lr=1e-3, seed 0"
PUSHING = """
import sys
from stgrpo.workdir import mirror
mirror.PUSH_S = 0.2
from stgrpo.cli import main
main(sys.argv[1:])
"""


@pytest.fixture(scope="module")
def server():
    """Environment of a server that is S3's like, with one bucket."""
    moto = pytest.importorskip("moto.server", reason="tests/s3_requirements.txt brings it")
    s3fs = pytest.importorskip("s3fs")
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    made = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    made.start()
    address = "http://{}:{}".format(*made.get_host_and_port())
    keys = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing", "AWS_DEFAULT_REGION": "us-east-1"}
    s3fs.S3FileSystem(key="testing", secret="testing", endpoint_url=address).mkdir("bucket")
    yield os.environ | keys | {"AWS_ENDPOINT_URL": address, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": FAST}
    made.stop()


def start(*arguments, env):
    command = [sys.executable, "-c", PUSHING, *map(str, arguments)]
    return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def end_of(process):
    said, _ = process.communicate(timeout=300)
    return process.returncode, said


def lines(folder):
    return [repeatable(line) for line in read_lines(folder / "metrics.jsonl")]


def machine(server, folder):
    return server | {"STGRPO_SCRATCH": str(folder)}


def copy_in(folder):
    (found,) = [path for path in folder.iterdir() if path.is_dir() and ".old-" not in path.name]
    return found


def test_a_machine_that_is_lost_costs_no_metrics(server, tmp_path):
    for stage in ("collect", "sft"):
        status, said = end_of(start(stage, SMOKE, f"--workdir={tmp_path / 'local'}", env=server))
        assert status == 0, said
    one, two = tmp_path / "one", tmp_path / "two"
    for stage in ("collect", "sft"):
        process = start(stage, SMOKE, f"--workdir={URL}", env=machine(server, one))
        if stage == "sft":
            wait_for_a_checkpoint(process, server)
            process.send_signal(signal.SIGKILL)
        status, said = end_of(process)
        assert status == (-signal.SIGKILL if stage == "sft" else 0), said
    status, said = end_of(start("sft", SMOKE, f"--workdir={URL}", env=machine(server, two)))
    assert status == 0 and "sft: resumed at step" in said, said
    assert lines(copy_in(two)) == lines(tmp_path / "local")
    made = sorted(str(p.relative_to(copy_in(two))) for p in copy_in(two).rglob("*") if p.is_file())
    assert sorted(names_in(server)) == made  # the lock is in both


def names_in(server):
    import s3fs

    system = s3fs.S3FileSystem(
        key="testing", secret="testing", endpoint_url=server["AWS_ENDPOINT_URL"], use_listings_cache=False
    )
    root = URL.removeprefix("s3://")
    return [path.removeprefix(f"{root}/") for path in system.find(root)]


def wait_for_a_checkpoint(process, server):
    deadline = time.monotonic() + 200
    while not any(name.startswith("checkpoints/sft/") and name.endswith("files.json") for name in names_in(server)):
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.1)
