"""Several real processes of one run on this machine, each with devices of its own."""

import contextlib
import json
import os
import pathlib
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence

from compiling import FAST

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
DEADLINE = 600  # seconds for a run here, on a loaded machine


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def environment(devices: int, extra: Mapping[str, str] | None = None) -> dict[str, str]:
    flags = f"--xla_force_host_platform_device_count={devices} {FAST}"
    return {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags, **(extra or {})}


class Run:
    """One command in `count` processes; one process is the ordinary command."""

    def __init__(self, arguments: Sequence[str], count: int, devices: int, extra: Mapping[str, str] | None = None):
        port = free_port()
        self.processes = []
        for index in range(count):
            joined = [f"--distributed=127.0.0.1:{port},{count},{index}"] if count > 1 else []
            self.processes.append(
                subprocess.Popen(
                    [sys.executable, "-m", "stgrpo", *arguments, *joined],
                    cwd=REPOSITORY,
                    env=environment(devices, extra),
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                )
            )

    def wait(self, seconds: float = DEADLINE) -> tuple[list[int], list[str]]:
        """Exit status and standard error of each; a process that hangs fails the test."""
        deadline, status, said = time.monotonic() + seconds, [], []
        for process in self.processes:
            try:
                _, errors = process.communicate(timeout=max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                self.kill()
                raise
            status.append(process.returncode)
            said.append(errors)
        return status, said

    def kill(self) -> None:
        for process in self.processes:
            process.kill()


@contextlib.contextmanager
def running(arguments: Sequence[str], count: int, devices: int = 1, **extra: str) -> Iterator[Run]:
    """A run that is ended with the test, whatever happens."""
    run = Run(arguments, count, devices, extra)
    try:
        yield run
    finally:
        run.kill()


def until(condition, seconds: float = DEADLINE) -> None:
    """Waits until a condition holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def lines(folder: pathlib.Path, stage: str) -> list[dict]:
    """What a stage has logged."""
    found = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [line for line in found if line["stage"] == stage]
