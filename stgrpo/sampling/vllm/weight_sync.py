"""New weights for running vLLM servers: written to a folder that they see, loaded by all, compared, and only then used.

1. The trainer streams its parameters, one tensor at a time, into a safetensors file under its Hugging Face names: a
   temporary name first, then the final one, which no other version ever had. By default that is in shared memory.
2. Each server finishes what it is doing and pauses; each of its workers checks the names, shapes and dtypes of the file
   against the served model, maps it and loads it (`worker`).
3. The checksums of what the workers hold are compared with those of what was written, tensor by tensor.
4. The prefix cache is cleared, the server goes on, the file of the version before is removed.

A server on which this fails stays paused, so it cannot answer with weights that are neither old nor new.
"""

import collections
import contextlib
import dataclasses
import functools
import hashlib
import math
import shutil
import time
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from pathlib import Path

import jax.numpy as jnp
import numpy as np

from stgrpo.console import one_line
from stgrpo.errors import RequestRefused, ServerError, UserError
from stgrpo.files import to_json
from stgrpo.models.huggingface.config import parse_shape
from stgrpo.models.huggingface.weights import named_pieces, tensors
from stgrpo.models.shapes import ModelShape
from stgrpo.models.transformer import Transformer
from stgrpo.serving.client import HttpClient, Json

SHARED_MEMORY = Path("/dev/shm")
LEASE_SECONDS = 600.0  # after which a run that no longer asks for anything loses its servers to one that does
OLDEST = (0, 26)  # version of vLLM whose interface this is
_CODES = {"float32": "F32", "bfloat16": "BF16"}
_ATTEMPTS = 3


@dataclasses.dataclass(frozen=True)
class Published:
    """One version of the weights on disk.

    Attributes:
        version: its number.
        path: of the safetensors file.
        sums: checksum of every tensor, see `worker.word_sum`.
        size: bytes.
        seconds: that it took.
    """

    version: int
    path: Path
    sums: Mapping[str, int]
    size: int
    seconds: float


class WeightFolder:
    """The files of one run in a folder that trainer and servers see."""

    def __init__(self, folder: Path | None, run: str, dtype: str):
        """Removes what an earlier process of the same run left.

        Args:
            folder: None for shared memory.
            run: a name that no other run has.
            dtype: of the files, that of the served model.

        Raises:
            UserError: the folder cannot be made or written.
        """
        self.folder = folder or SHARED_MEMORY
        self.dtype = dtype
        self._prefix = f"stgrpo-{hashlib.sha256(run.encode()).hexdigest()[:12]}-v"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self.clear()
        except OSError as error:
            raise UserError(f"rollout.folder={self.folder} cannot be used ({error}): give another one") from error

    def publish(self, params: Transformer, version: int) -> Published:
        """Writes one version; it appears only when it is whole.

        Raises:
            UserError: there is no room for it.
        """
        start = time.perf_counter()
        path = self.folder / f"{self._prefix}{version:08}.safetensors"
        unfinished = path.with_suffix(".part")
        header, size = _header(params.shape, self.dtype)
        needed = len(header) + size
        try:
            free = shutil.disk_usage(self.folder).free
            if free < needed:
                raise OSError(f"{free / 2**30:.2f} GiB are free")
            sums = _write(unfinished, header, named_pieces(params, self.dtype))
            unfinished.rename(path)
        except OSError as error:
            unfinished.unlink(missing_ok=True)
            fix = "free some, or set rollout.folder to another folder that trainer and servers see"
            raise UserError(
                f"version {version} of the weights needs {needed / 2**30:.2f} GiB in {self.folder} ({error}): {fix}"
            ) from error
        return Published(version, path, sums, needed, time.perf_counter() - start)

    def remove_before(self, published: Published) -> None:
        """Removes older versions."""
        for path in self.folder.glob(self._prefix + "*"):
            if path.name < published.path.name:
                path.unlink(missing_ok=True)

    def clear(self) -> None:
        """Removes all versions."""
        for path in self.folder.glob(self._prefix + "*"):
            path.unlink(missing_ok=True)


def _header(shape: ModelShape, dtype: str) -> tuple[bytes, int]:
    """The head of a safetensors file and the bytes that follow. The library writes only what is all in memory."""
    entries, at = {}, 0
    for tensor in tensors(shape):
        end = at + math.prod(tensor.shape) * jnp.dtype(dtype).itemsize
        entries[tensor.name] = {"dtype": _CODES[dtype], "shape": tensor.shape, "data_offsets": [at, end]}
        at = end
    text = to_json({"__metadata__": {"format": "pt"}, **entries}).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text, at


def _write(path: Path, header: bytes, named: Iterable[tuple[str, np.ndarray]]) -> dict[str, int]:
    sums = collections.Counter()
    with path.open("wb", buffering=0) as file:
        file.write(header)
        for name, piece in named:
            data, written = piece.reshape(-1).view(np.uint8), 0
            while written < data.size:  # an unbuffered write may end early
                written += file.write(data[written:].data)
            sums[name] += word_sum(data)
    return {name: total % 2**64 for name, total in sums.items()}


def word_sum(data_T: np.ndarray) -> int:
    """The sum of the 64-bit words of some bytes, the last filled up with zeros, modulo 2**64."""
    whole = data_T.size // 8 * 8
    total = int(np.add.reduce(data_T[:whole].view(np.uint64))) if whole else 0
    return (total + int.from_bytes(data_T[whole:].tobytes(), "little")) % 2**64


class WeightSync:
    """Holds servers for one run and brings weights to them."""

    def __init__(self, client: HttpClient, run: str, *, timeout: float):
        """Asks nothing yet.

        Args:
            client: of all servers.
            run: a name that no other run has.
            timeout: seconds of a single call.
        """
        self._client, self._run, self._timeout = client, run, timeout

    def connect(self, shape: ModelShape, dtype: str, length: int) -> None:
        """Checks that every server is one that this run can use, and takes it.

        Args:
            shape: of the model to be served.
            dtype: in which.
            length: tokens of the longest prompt with the longest response.

        Raises:
            UserError: a server serves another model, was started with other flags, or is held by another run.
            ServerError: it cannot be reached.
        """
        self._everywhere(functools.partial(self._check, shape=shape, dtype=dtype, length=length))
        self._everywhere(self._claim)

    def load(self, published: Published) -> None:
        """Makes every server hold this version; see the module's docstring. Tried several times.

        Raises:
            ServerError: one does not; it has its own message, and stays paused.
        """
        self._everywhere(functools.partial(self._load_patiently, published=published))

    def confirm(self, version: int) -> None:
        """Checks that every server is still this run's and holds this version.

        Raises:
            ServerError: not so: it was restarted, or another run took it.
        """
        for address in self._client.addresses:
            for held in self._held(address, "stgrpo_holder", self._run):
                if held["run"] != self._run or held["version"] != version:
                    raise ServerError(
                        f"{address} holds version {one_line(str(held['version']), 40)} of {held['run'] or 'no run'}, "
                        f"not version {version} of {self._run}: it was restarted or taken by another run"
                    )

    def release(self) -> None:
        """Lets other runs have the servers."""
        for address in self._client.addresses:
            self._rpc(address, "stgrpo_release", self._run)

    def _everywhere(self, function: Callable[[str], object]) -> None:
        self._client.map(function, self._client.addresses)

    def _check(self, address: str, *, shape: ModelShape, dtype: str, length: int) -> None:
        release = one_line(str(self._client.get("/version", address=address).get("version", "")), 40)
        parts = release.split(".")[:2]
        if not all(p.isdigit() for p in parts) or tuple(map(int, parts)) < OLDEST:
            oldest = ".".join(map(str, OLDEST))
            raise UserError(f"{address} runs vLLM {release or 'of no version'}: use {oldest} or newer")
        for worker in self._rpc(address, "stgrpo_describe"):
            with _readable(address, "stgrpo_describe"):
                wrong = list(differences(worker, shape, dtype, length))
            if wrong:
                raise UserError(f"{address} cannot be used: {one_line('; '.join(wrong), 1000)}")

    def _claim(self, address: str) -> None:
        for held in self._held(address, "stgrpo_claim", self._run, str(LEASE_SECONDS)):
            if held["run"] != self._run:
                raise UserError(
                    f"{address} is held by {held['run']}, which asked for something {held['idle']:.0f} s ago: use "
                    f"another server, or end that run (it loses the server {LEASE_SECONDS:g} s after its last call)"
                )

    def _load_patiently(self, address: str, *, published: Published) -> None:
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                self._load(address, published)
                return
            except RequestRefused:
                raise
            except ServerError as error:
                if attempt == _ATTEMPTS:
                    raise ServerError(
                        f"version {published.version} of the weights did not get through: {error}"
                    ) from error
                time.sleep(2.0**attempt)

    def _load(self, address: str, published: Published) -> None:
        post = functools.partial(self._client.post, address=address, timeout=self._timeout)
        post("/pause?mode=wait", {})
        arguments = (self._run, str(published.version), str(published.path))
        workers = self._rpc(address, "stgrpo_load", *arguments)
        with _readable(address, "stgrpo_load"):
            wrong = differing(published.sums, [worker["sums"] for worker in workers])
        if wrong:
            raise ServerError(f"{address} holds other values than were sent in {len(wrong)} tensors: {wrong[0]}, ...")
        if not post("/reset_prefix_cache", {}).get("success"):
            raise ServerError(f"{address} did not clear its prefix cache")
        post("/resume", {})

    def _held(self, address: str, method: str, *arguments: str) -> list[Mapping]:
        """Who holds each worker: a run, the version of its weights, seconds since it last asked for something."""
        with _readable(address, method):
            return [
                {"run": one_line(str(held["run"])), "version": held["version"], "idle": float(held.get("idle", 0.0))}
                for held in self._rpc(address, method, *arguments)
            ]

    def _rpc(self, address: str, method: str, *arguments: str) -> Sequence[Mapping]:
        """What each worker returned."""
        body: Json = {"method": method, "args": list(arguments), "timeout": self._timeout}
        try:
            answer = self._client.post("/collective_rpc", body, address=address, timeout=self._timeout, retry=False)
        except ServerError as error:
            if "status 404" in str(error) or f"no attribute '{method}'" in str(error):
                fix = (
                    "start it with `stgrpo serve`, or with VLLM_SERVER_DEV_MODE=1 and "
                    "--worker-extension-cls=stgrpo.sampling.vllm.worker.WeightReceiver"
                )
                raise UserError(f"{address} takes no weights: {fix}") from error
            raise
        results = answer.get("results")
        if not isinstance(results, list) or not results or not all(isinstance(r, dict) for r in results):
            raise ServerError(f"{address} answered {method} with {to_json(answer)[:200]}")
        for result in results:
            if "error" in result:
                raise ServerError(f"{address}: {one_line(str(result['error']))}")
        return results


@contextlib.contextmanager
def _readable(address: str, method: str) -> Generator[None]:
    """Makes an error of whatever is not as a worker of ours says it."""
    try:
        yield
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
        what = one_line(f"{type(error).__name__}: {error}", 200)
        raise ServerError(f"{address} answered {method} with what cannot be read ({what})") from error


def differences(worker: Mapping, shape: ModelShape, dtype: str, length: int) -> Iterable[str]:
    """What in a worker's description does not fit the run, each with the fix."""
    served = parse_shape(worker["model"], "its configuration")
    mine, theirs = dataclasses.asdict(shape), dataclasses.asdict(served)
    free = ("max_position", "tokens")  # a server knows rows of the vocabulary alone, not which have a token
    unlike = [f"{k}={theirs[k]} there, {mine[k]} here" for k in mine if mine[k] != theirs[k] and k not in free]
    if unlike:
        yield f"it serves another model ({', '.join(unlike)}); serve the model of this run"
    if worker["dtype"] != dtype:
        yield f"it serves {worker['dtype']}; use --dtype={dtype}, or rollout.dtype={worker['dtype']!r}"
    if worker["max_model_len"] < length:
        yield f"it takes {worker['max_model_len']} tokens; use --max-model-len={length} or more"
    if worker["logprobs_mode"] != "processed_logprobs":
        yield f"its log-probabilities are {worker['logprobs_mode']}; use --logprobs-mode=processed_logprobs"
    if worker["generation_config"] != "vllm":
        yield f"it samples by a generation config ({worker['generation_config']}); use --generation-config=vllm"
    if worker["quantization"]:
        yield f"it serves weights quantised by {worker['quantization']}, which cannot be replaced; serve plain ones"
    if worker["pipeline"] > 1:
        yield f"it has {worker['pipeline']} pipeline stages; use --tensor-parallel-size instead"


def differing(sent: Mapping[str, int], held: Sequence[Mapping[str, str]]) -> list[str]:
    """Tensors whose checksums do not fit; of a tied head, the one with which logits are made counts as well.

    Args:
        sent: checksums of what was written.
        held: by worker; a tensor is split over all of them, or whole on each, or every part of it lies on the same
            number of them (key and value heads where there are more workers than heads).
    """
    wanted = dict(sent)
    wanted.setdefault("lm_head.weight", sent["model.embed_tokens.weight"])
    wrong = []
    for name, total in wanted.items():
        parts = [int(worker[name], 16) for worker in held if name in worker]
        if len(parts) < len(held):
            wrong.append(name)
            continue
        copies = [n for n in range(1, len(parts) + 1) if len(parts) % n == 0]
        if sum(parts) % 2**64 not in [total * n % 2**64 for n in copies]:
            wrong.append(name)
    return wrong
