"""The embedded sampler in a run of several processes: each draws its share of the prompts on its own devices.

A decode loop in lockstep over all hosts would wait for the slowest response of all in each turn. Here weights are
gathered along `fsdp` once, in the dtype in which they are drawn from, each process views its own part of them as a
model, draws by itself, and the results are exchanged. A response depends on its prompt and seed alone, so who draws it
does not matter.
"""

import contextlib
import functools
from collections.abc import Callable, Generator, Sequence
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from stgrpo.errors import UserError
from stgrpo.models.sharding import MESH_AXES, tree_shardings
from stgrpo.models.transformer import Transformer
from stgrpo.processes.exchange import exchange
from stgrpo.react.policy import SamplingParams
from stgrpo.sampling.base import Sampler, Samples
from stgrpo.sampling.jax.decode import decode_dtypes
from stgrpo.sampling.jax.sampler import JaxSampler

Item = TypeVar("Item")
Result = TypeVar("Result")


class SharedSampler:
    """See `Sampler`. All processes call it with the same arguments and get the same samples.

    Args:
        model: the policy, on the devices of all processes.
        make: makes the sampler of this process, on a mesh of its own devices.
        mesh: of the model.

    Raises:
        UserError: a model is cut over `tensor` from one host to another.
    """

    def __init__(self, model: Transformer, make: Callable[[Transformer, Mesh], JaxSampler], mesh: Mesh):
        self._model, self._version, self._mesh = model, 0, mesh
        self._own = own_mesh(mesh)
        self._inner = make(model, self._own)

    def update_weights(self, params: Transformer, version: int) -> None:
        """The trainer's own arrays are used; a copy for decoding lives as long as a call of `generate` or `each`."""
        self._model, self._version = params, version

    def generate(
        self, prompts: Sequence[Sequence[int]], group_size: int, params: SamplingParams, seeds: Sequence[int]
    ) -> Samples:
        """See `Sampler.generate`."""
        by_length = sorted(range(len(prompts)), key=lambda k: -len(prompts[k]))  # each gets long and short ones

        def draw(sampler: Sampler, mine: Sequence[int]) -> list[tuple]:
            drawn = sampler.generate([prompts[k] for k in mine], group_size, params, [seeds[k] for k in mine])
            return list(zip(mine, drawn.tokens, drawn.logprobs, drawn.finish, strict=True))

        rows = sorted(self.each(by_length, draw))
        return Samples([r[1] for r in rows], [r[2] for r in rows], [r[3] for r in rows], self._version)

    def each(self, items: Sequence[Item], work: Callable[[Sampler, Sequence[Item]], list[Result]]) -> list[Result]:
        """See `Shared.each`."""
        mine = [items[i] for i in range(jax.process_index(), len(items), jax.process_count())]
        with self._holding_weights():
            parts = exchange(work(self._inner, mine))
        return [parts[i % len(parts)][i // len(parts)] for i in range(len(items))]

    @contextlib.contextmanager
    def _holding_weights(self) -> Generator[None]:
        copy = own_copy(self._model, self._mesh, self._own, self._inner.dtype)
        self._inner.update_weights(copy, self._version)
        del copy
        try:
            with jax.set_mesh(self._own):
                yield
        finally:
            self._inner.update_weights(self._model, self._version)  # lets the copy go


def own_mesh(mesh: Mesh) -> Mesh:
    """The devices of this process with the parameters whole along `fsdp`: `data` takes all axes but `tensor`.

    Raises:
        UserError: `tensor` crosses hosts.
    """
    tensor = mesh.shape["tensor"]
    rows = mesh.devices.reshape(-1, tensor)
    owners = np.vectorize(lambda device: device.process_index)(rows)
    if (owners != owners[:, :1]).any():
        raise UserError(
            f"mesh.tensor={tensor} crosses processes, where the embedded sampler draws by itself: "
            f"use at most the {jax.local_device_count()} devices of one, or rollout.backend='vllm'"
        )
    own = rows[owners[:, 0] == jax.process_index()]
    return Mesh(own.reshape(-1, 1, tensor), MESH_AXES, axis_types=mesh.axis_types)


def own_copy(params: Transformer, mesh: Mesh, own: Mesh, dtype: jnp.dtype) -> Transformer:
    """The parameters whole along `fsdp` on this process's devices: one gather over all processes, then a view.

    Args:
        params: of the policy, on the devices of all processes.
        mesh: of the parameters.
        own: of this process, see `own_mesh`.
        dtype: of the computation; what is read in it anyway is gathered in it.
    """
    shardings = tree_shardings(params, params.shape, mesh)
    specs = jax.tree.map(lambda s: PartitionSpec(*(None if name == "fsdp" else name for name in s.spec)), shardings)
    leaves, form = jax.tree.flatten(params)
    wanted = jax.tree.leaves(specs, is_leaf=lambda s: isinstance(s, PartitionSpec))
    cut, dtypes = jax.tree.leaves(shardings), jax.tree.leaves(decode_dtypes(params, dtype))
    whole = _gather(tuple(cut), tuple(NamedSharding(mesh, spec) for spec in wanted), tuple(dtypes))(leaves)
    views = [
        jax.make_array_from_single_device_arrays(
            x.shape, NamedSharding(own, spec), [s.data for s in x.addressable_shards]
        )
        for x, spec in zip(whole, wanted, strict=True)
    ]
    return form.unflatten(views)


@functools.lru_cache
def _gather(
    cut: tuple[NamedSharding, ...], whole: tuple[NamedSharding, ...], dtypes: tuple[jnp.dtype, ...]
) -> Callable[[list[jax.Array]], list[jax.Array]]:
    def lowered(leaves: list[jax.Array]) -> list[jax.Array]:
        """Rounded where they lie, or all would travel as they are."""
        rounded = [x.astype(dtype) for x, dtype in zip(leaves, dtypes, strict=True)]
        return [jax.lax.with_sharding_constraint(x, s) for x, s in zip(rounded, cut, strict=True)]

    return jax.jit(lowered, out_shardings=list(whole))
