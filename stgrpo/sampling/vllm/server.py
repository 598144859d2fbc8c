"""A vLLM server of one's own: the flags that exact rollouts need, its start, its health, its end.

vLLM lies in an environment of its own (its dependencies are not the trainer's). There it imports one module of this
package, `worker`, through a folder that holds nothing else than a link to the package.
"""

import dataclasses
import os
import re
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

from stgrpo.console import one_line
from stgrpo.errors import ServerError, UserError
from stgrpo.models.shapes import ModelShape
from stgrpo.serving.client import ClientSettings, HttpClient

SERVED_NAME = "stgrpo"
PACKAGE = Path(__file__).parents[2]
WORKER = "stgrpo.sampling.vllm.worker.WeightReceiver"
START_SECONDS = 1800.0  # a large model from a slow disk
STOP_SECONDS = 20.0
_LONGEST = 300  # of a message
_CACHED = 32  # longest responses that a CPU's cache has room for at one time


@dataclasses.dataclass(frozen=True)
class ServerSettings:
    """What to serve, and where.

    Attributes:
        model: Hugging Face folder; its weights are read only if it has some.
        shape: of the model.
        dtype: of the weights and the computation.
        length: tokens of the longest prompt with the longest response.
        python: an interpreter that has vLLM.
        host: to listen on; whoever reaches it can do anything to the server.
        port: 0 for any that is free.
        extra: further flags of vLLM.
    """

    model: Path
    shape: ModelShape
    dtype: str
    length: int
    python: str
    host: str = "127.0.0.1"
    port: int = 0
    extra: tuple[str, ...] = ()


def server_flags(settings: ServerSettings, *, gpu: bool) -> list[str]:
    """The flags of vLLM's API server; those of `extra` come last and win."""
    s = settings
    flags = [
        f"--model={s.model}",
        f"--served-model-name={SERVED_NAME}",
        f"--host={s.host}",
        f"--port={s.port}",
        f"--dtype={s.dtype}",
        f"--max-model-len={s.length}",
        "--generation-config=vllm",  # else the model's own temperature, top-p and repetition penalty silently apply
        "--logprobs-mode=processed_logprobs",  # after the temperature
        "--return-tokens-as-token-ids",
        f"--worker-extension-cls={WORKER}",
        "--disable-uvicorn-access-log",
    ]
    if not any(s.model.glob("*.safetensors")):
        flags.append("--load-format=dummy")
    if not gpu:
        per_token = 2 * s.shape.depth * s.shape.kv_heads * s.shape.head_dim * (4 if s.dtype == "float32" else 2)
        flags += ["--enforce-eager", f"--kv-cache-memory-bytes={max(2**26, _CACHED * s.length * per_token)}"]
        # A part of a prompt makes vLLM turn a request's random generator back, which the CPU's cannot.
        flags.append("--no-enable-chunked-prefill")
    return [*flags, *s.extra]


def server_environment(packages: Path, host: str) -> dict[str, str]:
    """The environment of a server.

    Args:
        packages: a folder that holds a link to this package.
        host: that it listens on.
    """
    dropped = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "XLA_FLAGS")
    mine = {name: value for name, value in os.environ.items() if name not in dropped}
    return mine | {
        "PYTHONPATH": str(packages),
        "VLLM_SERVER_DEV_MODE": "1",  # has the routes that take weights
        "VLLM_NO_USAGE_STATS": "1",
        "HF_HUB_OFFLINE": "1",
        **({"VLLM_HOST_IP": host} if host == "127.0.0.1" else {}),
    }


def has_gpu() -> bool:
    """Whether this machine has a GPU that vLLM would use."""
    return any(Path(device).exists() for device in ("/dev/nvidia0", "/dev/kfd", "/dev/dxg"))


class VllmServer:
    """A server process of this one; it ends with it, whichever way that ends."""

    def __init__(self, settings: ServerSettings, log: Path | None):
        """Starts nothing yet.

        Args:
            settings: what to serve.
            log: file for all that the server prints; None for this process's own output.

        Raises:
            UserError: the interpreter is not there or has no vLLM.
        """
        port = settings.port or free_port(settings.host)
        self.settings, self._log = dataclasses.replace(settings, port=port), log
        self.address = f"http://{settings.host}:{port}"
        self._process: subprocess.Popen | None = None
        self._said = 0  # where in the log this process begins
        self._packages = tempfile.TemporaryDirectory(prefix="stgrpo-serve-")
        (Path(self._packages.name) / PACKAGE.name).symlink_to(PACKAGE)
        _check_interpreter(settings.python)

    def start(self, limit: float = START_SECONDS) -> None:
        """Starts the server, anew if it was running, and waits until it is healthy.

        Raises:
            ServerError: it ended or took longer than `limit` seconds; the error has what it said last.
        """
        self.stop()
        command = [self.settings.python, str(PACKAGE / "sampling" / "vllm" / "main.py")]
        output = self._log.open("ab") if self._log else None
        self._said = output.tell() if output else 0
        process = self._process = subprocess.Popen(
            [*command, *server_flags(self.settings, gpu=has_gpu())],
            env=server_environment(Path(self._packages.name), self.settings.host),
            stdin=subprocess.PIPE,  # closed by the end of this process, which ends the server
            stdout=output,
            stderr=subprocess.STDOUT if output else None,
            start_new_session=True,
        )
        if output:
            output.close()
        self._wait(process, limit)

    def _wait(self, process: subprocess.Popen, limit: float) -> None:
        deadline = time.monotonic() + limit
        with HttpClient([self.address], ClientSettings(timeout=10.0, retries=0, concurrency=1)) as client:
            while time.monotonic() < deadline:
                if process.poll() is not None:
                    raise ServerError(f"vLLM ended with {process.returncode} while starting: {self.last_words()}")
                try:
                    client.get("/health")
                    return
                except ServerError:
                    time.sleep(0.5)
        self.stop()
        raise ServerError(f"vLLM was not healthy within {limit:g} s: {self.last_words()}")

    @property
    def running(self) -> bool:
        """Whether the process is there."""
        return self._process is not None and self._process.poll() is None

    def wait(self) -> int:
        """Waits for the server's end and returns its exit status."""
        assert self._process is not None  # `start` comes before
        return self._process.wait()

    def stop(self) -> None:
        """Ends the server and all of its processes."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            pass
        try:
            os.killpg(self._process.pid, signal.SIGKILL)  # workers that outlived it
        except ProcessLookupError:
            pass
        self._process.wait()
        if self._process.stdin:
            self._process.stdin.close()
        self._process = None

    def __enter__(self) -> "VllmServer":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._packages.cleanup()

    def last_words(self) -> str:
        """The first error in what the server has printed since it was started, else the last line."""
        if self._log is None:
            return "see above"
        with self._log.open("rb") as file:
            file.seek(self._said)
            text = file.read().decode("utf-8", errors="replace")
        found = re.search(r"\b\w*(Error|Exception): .+", text)
        lines = text.splitlines() or ["it said nothing"]
        return f"{one_line(found.group() if found else lines[-1], _LONGEST)} (all of it is in {self._log})"


def free_port(host: str) -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        return probe.getsockname()[1]


def _check_interpreter(python: str) -> None:
    fix = "set rollout.python to an interpreter whose environment has vLLM 0.26 or newer (docs/rollouts.md)"
    probe = "import importlib.util, sys; sys.exit(importlib.util.find_spec('vllm') is None)"
    try:
        done = subprocess.run([python, "-c", probe], capture_output=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UserError(f"rollout.python={python} cannot be run ({error}): {fix}") from error
    if done.returncode:
        raise UserError(f"rollout.python={python} has no vLLM: {fix}")
