"""What the embedded sampler holds on each device while it draws a rollout, from its programs compiled and not run."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh
from ml_collections import ConfigDict

from stgrpo.errors import UserError
from stgrpo.models.sharding import abstract_tree, batch_sharding, make_mesh, replicated
from stgrpo.models.transformer import Transformer
from stgrpo.plan.communication import most_leaving
from stgrpo.plan.compiling import compile_for, peak_bytes
from stgrpo.plan.sizes import bytes_a_device
from stgrpo.plan.topologies import Target, one_host, target
from stgrpo.plan.work import Rollout
from stgrpo.react.policy import SamplingParams
from stgrpo.sampling.jax.decode import (
    DecodeShape,
    NewPrompts,
    Prefilled,
    Slots,
    Weights,
    decode,
    decode_dtypes,
    decode_weights,
    empty_slots,
    prefill_prompts,
)
from stgrpo.sampling.jax.slots import SamplerSizes
from stgrpo.training.micro_batches import row_shards

_FIX = "lower rollout.batch or limits.prompt, or raise mesh.fsdp"


@dataclasses.dataclass(frozen=True)
class SamplingMemory:
    """Bytes a device of a rollout with every prompt and response at its limit, the policy's own arrays not counted.

    Attributes:
        responses: that are decoded at one time, by all devices.
        copy: of the policy whole along `fsdp`, where several hosts draw by themselves; else 0.
        weights: the copy for decoding, in the dtype of the computation.
        slots: keys, values and tokens.
        prefix: keys and values of what all prompts begin with: no more than those of one prompt, which are counted.
        peak: all four, and what the prefill or the decode loop needs besides, whichever is more.
    """

    responses: int
    copy: int
    weights: int
    slots: int
    prefix: int
    peak: int

    @property
    def temporary(self) -> int:
        """Of the prefill or of the decode loop."""
        return self.peak - self.copy - self.weights - self.slots - self.prefix


def sampling_memory(config: ConfigDict, policy: Transformer, mesh: Mesh, there: Target | None = None) -> SamplingMemory:
    """Compiles what `JaxSampler` runs for the first prompts of a rollout as long as the limit, when it holds the most.

    The prefill is that of whole prompts. Where they begin with the same tokens it runs fewer, and what it holds of
    these beside is no more than what it has less of its own.

    Args:
        config: the experiment.
        policy: the model as shapes with shardings.
        mesh: devices the parameters are sharded over.
        there: the devices to compile for, those of the mesh; this machine's if None.

    Raises:
        UserError: the prefill or the decode loop does not fit.
    """
    there, hosts, sizes = there or target(""), host_count(mesh), host_sizes(config, mesh)
    if hosts > 1:
        check_tensor(mesh)
        there = one_host(there)
        mesh = make_mesh(-1, 1, mesh.shape["tensor"], there.devices)
        policy = _own_copy(policy, mesh, jnp.dtype(config.model.dtype))
    G = config.grpo.group_size
    count, room = sizes.slots(sizes.largest[G], config.limits.prompt, G)
    shards, copy = sizes.shards, bytes_a_device(policy) if hosts > 1 else 0
    params = SamplingParams(config.limits.response, config.grpo.temperature)
    shape = DecodeShape(G, room, (0,), params, jnp.dtype(config.model.dtype), shards)
    with jax.set_mesh(mesh):
        slots, weights = _slots(policy, count, shape), _weights(policy, shape.dtype)
        prefill = prefill_prompts.lower(policy, _new_prompts(sizes, mesh), room, shape.dtype)
        filled = compile_for(prefill, there, what="the prefill of the sampler", fix=_FIX)
        new: Prefilled = _with_shardings(prefill.out_info, filled.output_shardings)
        wanted = jax.ShapeDtypeStruct((), np.int32, sharding=replicated(mesh))
        loop = decode.lower(weights, slots, new, wanted, shape)
        decoded = compile_for(loop, there, what="the decode loop of the sampler", fix=_FIX)
    copied, held, prefix = _copied(weights, policy, mesh), bytes_a_device(slots), _prefix_bytes(policy, shape)
    shared = bytes_a_device(weights) - copied  # a tied head counts twice there, as XLA counts it
    peak = max(
        peak_bytes(filled, mesh) - bytes_a_device(policy) + copied + held,
        peak_bytes(decoded, mesh) - shared,
    )
    return SamplingMemory(count * hosts * G, copy, copied, held, prefix, copy + prefix + peak)


def host_sizes(config: ConfigDict, mesh: Mesh) -> SamplerSizes:
    """Of the sampler on each host of a mesh, which draws that host's share of a rollout."""
    hosts, G = host_count(mesh), config.grpo.group_size
    share = {G: -(-config.grpo.prompts // hosts)}
    return SamplerSizes(config.limits.prompt, config.rollout.batch, row_shards(mesh) // hosts, share)


def longest_rollout(config: ConfigDict, mesh: Mesh) -> Rollout:
    """How a rollout is drawn by all devices of a mesh, each host by itself."""
    hosts, G, prompt = host_count(mesh), config.grpo.group_size, config.limits.prompt
    sizes = host_sizes(config, mesh)
    slots, _ = sizes.slots(sizes.largest[G], prompt, G)
    return Rollout(
        prompts=config.grpo.prompts,
        group=G,
        prompt=prompt,
        response=config.limits.response,
        slots=slots * hosts,
        devices=row_shards(mesh),
        prefill_rows=sizes.rows * sizes.shards * hosts,
        room=sizes.length(prompt),
    )


def host_count(mesh: Mesh) -> int:
    """Hosts that the devices of a mesh are on."""
    return len({device.process_index for device in mesh.devices.flat})


def check_tensor(mesh: Mesh) -> None:
    """Raises a UserError if a model is cut over `tensor` from one host to another, where each draws by itself."""
    if most_leaving(mesh, "tensor"):
        raise UserError(
            f"mesh.tensor={mesh.shape['tensor']} crosses hosts, where the embedded sampler draws by itself: "
            f"use at most the {mesh.size // host_count(mesh)} devices of one, or rollout.backend='vllm'"
        )


def _prefix_bytes(policy: Transformer, shape: DecodeShape) -> int:
    """Bytes a device of a whole prompt's keys and values, where prompts are read behind what all begin with."""
    c = policy.shape
    return (
        2 * c.depth * shape.prompt * c.kv_heads * c.head_dim * shape.dtype.itemsize if policy.core.name == "xla" else 0
    )


def _slots(policy: Transformer, count: int, shape: DecodeShape) -> Slots:
    return _outputs(empty_slots, policy.shape, count, shape)


def _weights(policy: Transformer, dtype: jnp.dtype) -> Weights:
    """What `decode_weights` returns, compiled for one layer: all are alike."""
    one = jax.tree.map(lambda x: x, policy)
    one.shape = nnx.static(dataclasses.replace(policy.shape, depth=1))
    one.layers = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct((1, *x.shape[1:]), x.dtype, sharding=x.sharding), one.layers
    )
    found: Weights = _outputs(jax.jit(decode_weights, static_argnums=1), one, dtype)
    return dataclasses.replace(found, layers=found.layers * policy.shape.depth, shape=policy.shape)


def _outputs(program: jax.stages.Wrapped, *arguments: object) -> Any:
    """What a jitted function returns, as shapes with the shardings that it is compiled to."""
    lowered = program.lower(*arguments)
    return _with_shardings(lowered.out_info, lowered.compile().output_shardings)


def _with_shardings(shapes: Any, shardings: object) -> Any:
    return jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), shapes, shardings)


def _own_copy(policy: Transformer, mesh: Mesh, dtype: jnp.dtype) -> Transformer:
    """What `sampling.jax.shared.own_copy` makes, as shapes."""
    lowered = jax.tree.map(lambda x, d: jax.ShapeDtypeStruct(x.shape, d), policy, decode_dtypes(policy, dtype))
    return abstract_tree(lowered, policy.shape, mesh)


def _copied(weights: Weights, policy: Transformer, mesh: Mesh) -> int:
    """Bytes a device of the weights for decoding that are not the policy's own arrays."""
    rest = [(weights.embedding_VD, policy.embedding.get_value()), (weights.final_norm_D, policy.final_norm.get_value())]
    if not policy.shape.tie_embeddings:
        rest.append((weights.head_VD, policy.head.get_value()))
    gathered = mesh.shape["fsdp"] > 1
    return bytes_a_device((weights.layers, [mine for mine, own in rest if gathered or mine.dtype != own.dtype]))


def _new_prompts(sizes: SamplerSizes, mesh: Mesh) -> NewPrompts:
    split, B = batch_sharding(mesh), sizes.rows * sizes.shards

    def zeros() -> NewPrompts:
        prompt_BP, one_each_B = jnp.zeros((B, sizes.room), jnp.int32), jnp.zeros(B, jnp.int32)
        return NewPrompts(prompt_BP, one_each_B, one_each_B.astype(jnp.uint32), one_each_B)

    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=split), jax.eval_shape(zeros))
