"""The engine that draws responses, by config: in the trainer, or vLLM servers that are there or are started."""

import contextlib
import functools
import sys
import uuid
from collections.abc import Callable, Generator, Mapping
from pathlib import Path
from typing import TypeVar

import jax.numpy as jnp
import tenacity
from jax.sharding import Mesh
from ml_collections import ConfigDict

from stgrpo import processes
from stgrpo.console import say
from stgrpo.data.tokenizer import Tokenizer
from stgrpo.errors import RequestRefused, ServerError, UserError
from stgrpo.files import write_atomically
from stgrpo.models.huggingface.weights import save_description
from stgrpo.models.shapes import ModelShape
from stgrpo.models.transformer import Transformer
from stgrpo.react.prompt import PromptStyle
from stgrpo.sampling.base import Sampler
from stgrpo.sampling.jax.sampler import JaxSampler
from stgrpo.sampling.jax.shared import SharedSampler
from stgrpo.sampling.vllm.leader import LeaderSampler
from stgrpo.sampling.vllm.local import LocalVllmSampler
from stgrpo.sampling.vllm.sampler import VllmSampler, VllmSettings
from stgrpo.sampling.vllm.server import ServerSettings, VllmServer

Result = TypeVar("Result")
_FAILURES = 3  # in a row, after which it is no use
_BETWEEN = 5.0  # seconds between two attempts to get a server back


@contextlib.contextmanager
def open_sampler(
    config: ConfigDict,
    params: Transformer,
    tokenizer: Tokenizer,
    *,
    style: PromptStyle,
    mesh: Mesh,
    place: Path,
    largest: Mapping[int, int],
    log: Callable[[str], None],
) -> Generator[Sampler]:
    """The engine of the config. It may not hold the parameters before its first `update_weights`.

    Args:
        config: of the run.
        params: of the policy.
        tokenizer: its own.
        style: of the prompts, for what all of them begin with.
        mesh: of the parameters.
        place: folder in which a server that is started leaves its log.
        largest: prompts of the largest call by group size; see `SamplerSizes`.
        log: called with the name of each program that is run here.

    Raises:
        UserError, ServerError: see `VllmServer` and `VllmSampler`.
    """
    if config.rollout.backend == "jax":
        share = {group: -(-prompts // processes.count()) for group, prompts in largest.items()}
        given = {"stop_ids": tokenizer.stop_ids, "prefix": tokenizer.common_start(style)}
        make = functools.partial(_embedded, config=config, largest=share, log=log, **given)
        yield SharedSampler(params, make, mesh) if mesh.is_multi_process else make(params, mesh)
        return
    if config.rollout.backend == "vllm_local":
        if processes.count() > 1:
            raise UserError("rollout.backend='vllm_local' is for one process: use 'vllm' or 'jax'")
        settings = _engine_settings(config, params.shape, tokenizer, place)
        yield LocalVllmSampler(settings, tokenizer.stop_ids, batch=config.rollout.batch)
        return
    with contextlib.ExitStack() as stack:
        servers = functools.partial(_open_servers, config, params.shape, tokenizer, place, stack)
        if processes.count() > 1:
            yield LeaderSampler(servers() if processes.is_first() else None, served_dtype(config))
        else:
            yield servers()


def _open_servers(
    config: ConfigDict, shape: ModelShape, tokenizer: Tokenizer, place: Path, stack: contextlib.ExitStack
) -> VllmSampler:
    """The sampler of vLLM servers; `stack` closes it, and the server that it starts where the config names none."""
    addresses, own = tuple(config.rollout.servers), None
    if not addresses:
        own = stack.enter_context(_own_server(config, shape, tokenizer, place))
        addresses = (own.address,)
    settings = VllmSettings(
        addresses=addresses,
        run=_run_name(place),
        shape=shape,
        dtype=served_dtype(config),
        length=served_length(config),
        batch=config.rollout.batch,
        folder=Path(config.rollout.folder) if config.rollout.folder else None,
        timeout=config.rollout.timeout,
    )
    start = functools.partial(VllmSampler, settings, tokenizer.stop_ids, own=own)
    sampler = _patiently(start, 0.0 if own else config.rollout.server_wait_s)  # others may be starting still
    stack.callback(sampler.close)
    return sampler


def _embedded(
    params: Transformer,
    mesh: Mesh,
    *,
    config: ConfigDict,
    stop_ids: tuple[int, ...],
    prefix: tuple[int, ...],
    largest: Mapping[int, int],
    log: Callable[[str], None],
) -> JaxSampler:
    sampler = JaxSampler(
        params,
        stop_ids,
        dtype=jnp.dtype(config.model.dtype),
        batch=config.rollout.batch,
        limit=config.limits.prompt,
        largest=largest,
        prefix=prefix,
        mesh=mesh,
        log=log,
    )
    for line in sampler.sizes(config.limits.prompt).said(max(largest)):
        say(line)
    return sampler


def served_dtype(config: ConfigDict) -> str:
    """Of the weights that servers hold."""
    return config.rollout.dtype or config.model.dtype


def served_length(config: ConfigDict) -> int:
    """Tokens of the longest prompt with the longest response."""
    return config.limits.prompt + config.limits.response


def interpreter(config: ConfigDict) -> str:
    """The Python that runs vLLM."""
    return config.rollout.python or sys.executable


def _run_name(place: Path) -> str:
    """What servers know the run by: the same after it went on, on whatever host; another for a copy elsewhere."""
    file = place / "run-id"
    if not file.is_file():
        place.mkdir(parents=True, exist_ok=True)
        write_atomically(file, f"{uuid.uuid4()}\n")
    return f"{file.read_text(encoding='utf-8').strip()}:{place}"


@contextlib.contextmanager
def _own_server(config: ConfigDict, shape: ModelShape, tokenizer: Tokenizer, place: Path) -> Generator[VllmServer]:
    settings = _engine_settings(config, shape, tokenizer, place)
    with VllmServer(settings, place / "vllm.log") as server:
        say(f"vllm: a server is started, its log is {place / 'vllm.log'}")
        server.start()
        yield server


def _engine_settings(config: ConfigDict, shape: ModelShape, tokenizer: Tokenizer, place: Path) -> ServerSettings:
    """Of an engine that gets its weights later."""
    model = place / "served"
    model.mkdir(parents=True, exist_ok=True)
    save_description(shape, tokenizer, model, dtype=served_dtype(config))
    return ServerSettings(
        model=model,
        shape=shape,
        dtype=served_dtype(config),
        length=served_length(config),
        python=interpreter(config),
        extra=tuple(config.rollout.flags),
    )


def retry_on_server_error(
    work: Callable[[], Result], sampler: Sampler, *, server_wait_s: float, save: Callable[[], None]
) -> Result:
    """Does something with a sampler; where a server fails, saves, waits until it is back, and does it again.

    Args:
        work: what draws or brings new weights; it is repeated from its beginning.
        sampler: that it does this with.
        server_wait_s: seconds that a server may take to be back.
        save: writes a checkpoint, before anything else.

    Raises:
        UserError: nothing that waiting would mend.
        ServerError: the server is not back, or fails again and again; it has the server's own message.
    """
    for failures in range(1, _FAILURES + 1):
        try:
            return work()
        except UserError:
            save()
            raise
        except ServerError as error:
            save()
            if not isinstance(sampler, VllmSampler | LeaderSampler):
                raise  # there is no server to wait for
            if failures == _FAILURES:
                raise ServerError(f"{error} (failed {failures} times in a row)") from error
            say(f"{error}; waiting up to {server_wait_s:g} s for the server")
            recover = functools.partial(_recover, server_wait_s=server_wait_s, cause=error)
            sampler.recovered(recover) if isinstance(sampler, LeaderSampler) else recover(sampler)
            say("the server is back")
    raise AssertionError("unreachable")


def _recover(sampler: VllmSampler, server_wait_s: float, cause: ServerError) -> None:
    try:
        _patiently(sampler.recover, server_wait_s)
    except RequestRefused:
        raise
    except ServerError as error:
        raise ServerError(f"{cause}; not back within {server_wait_s:g} s ({error})") from error


def _patiently(work: Callable[[], Result], server_wait_s: float) -> Result:
    """Tries until no server fails any more, for some seconds."""
    passing = tenacity.retry_if_exception(lambda e: isinstance(e, ServerError) and not isinstance(e, RequestRefused))
    stop, wait = tenacity.stop_before_delay(server_wait_s), tenacity.wait_fixed(_BETWEEN)
    return tenacity.Retrying(retry=passing, stop=stop, wait=wait, reraise=True)(work)
