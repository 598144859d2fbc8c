"""What the embedded sampler holds on each device while it draws a rollout, from its programs compiled and not run."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from stgrpo.models.sharding import BATCH_AXES, batch_sharding, replicated
from stgrpo.models.transformer import Transformer
from stgrpo.rollout.base import SamplingParams
from stgrpo.rollout.decode import DecodeShape, NewPrompts, Slots, Weights, decode, empty_slots, refill, take_layer
from stgrpo.rollout.schedule import Filling, schedule_for, size_of
from stgrpo.stages.compiling import compile_for, peak_bytes
from stgrpo.stages.sizes import bytes_a_device

_FIX = "lower rollout.batch or limits.prompt, or raise mesh.fsdp"


@dataclasses.dataclass(frozen=True)
class SamplingMemory:
    """Bytes a device of a rollout with every prompt and response at its limit, the policy's own arrays not counted.

    Attributes:
      responses: that are decoded at one time, by all devices.
      weights: the copy for decoding, in the dtype of the computation.
      slots: keys, values and tokens.
      peak: both, and what the prefill or the decode loop needs besides, whichever is more.
    """

    responses: int
    weights: int
    slots: int
    peak: int

    @property
    def temporary(self) -> int:
        """Of the prefill or of the decode loop."""
        return self.peak - self.weights - self.slots


def sampling_memory(config: ConfigDict, policy: Transformer, mesh: Mesh, topology: str = "") -> SamplingMemory:
    """Compiles what `JaxSampler` runs for the first prompts of a rollout, when it holds the most.

    Args:
      config: of the run.
      policy: as shapes with shardings.
      mesh: of the policy.
      topology: of the mesh, for an error; empty for this machine.

    Raises:
      UserError: the prefill or the decode loop does not fit.
    """
    shards = int(np.prod([mesh.shape[a] for a in BATCH_AXES]))
    prompts, G = [config.limits.prompt] * config.grpo.prompts, config.grpo.group_size
    schedule = schedule_for(prompts, G, batch=config.rollout.batch, shards=shards)
    params = SamplingParams(config.limits.response, config.grpo.temperature)
    shape = DecodeShape(G, size_of(max(prompts), 32), (0,), params, jnp.dtype(config.model.dtype), shards)
    count, filling = len(schedule.prompt_S), next(schedule.fillings())
    with jax.set_mesh(mesh):
        slots, weights = _slots(policy, count, shape), _weights(policy, shape.dtype, mesh)
        prefill = refill.lower(policy, slots, _new_prompts(filling, mesh), shape)
        loop = decode.lower(weights, slots, jax.ShapeDtypeStruct((), np.int32, sharding=replicated(mesh)), shape)
        filled = compile_for(prefill, topology, what="the prefill of the sampler", fix=_FIX)
        decoded = compile_for(loop, topology, what="the decode loop of the sampler", fix=_FIX)
    copied = _copied(weights, policy)
    shared = bytes_a_device(weights) - copied
    peak = max(
        peak_bytes(filled, mesh) - bytes_a_device(policy) + copied,
        peak_bytes(decoded, mesh) - shared,
    )
    return SamplingMemory(count * G, copied, bytes_a_device(slots), peak)


def _slots(policy: Transformer, count: int, shape: DecodeShape) -> Slots:
    compiled = empty_slots.lower(policy.shape, count, shape).compile()
    slots = jax.eval_shape(lambda: empty_slots(policy.shape, count, shape))
    return jax.tree.map(_placed, slots, compiled.output_shardings)


def _weights(policy: Transformer, dtype: jnp.dtype, mesh: Mesh) -> Weights:
    """What `unstack` returns: embedding and head as they lie, layers as the program that takes them leaves them."""
    at = jax.ShapeDtypeStruct((), np.int32, sharding=replicated(mesh))
    compiled = take_layer.lower(policy.layers, at, dtype).compile()
    layer = jax.tree.map(
        _placed, jax.eval_shape(lambda x: take_layer(x, 0, dtype), policy.layers), compiled.output_shardings
    )

    def lower(x: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(x.shape, dtype, sharding=x.sharding)

    embedding, tied = policy.embedding.get_value(), policy.shape.tie_embeddings
    head = embedding if tied else policy.head.get_value()
    return Weights(
        lower(embedding), lower(head), policy.final_norm.get_value(), (layer,) * policy.shape.depth, policy.shape
    )


def _copied(weights: Weights, policy: Transformer) -> int:
    """Bytes a device of the weights for decoding that are not the policy's own arrays."""
    tables = [(weights.embedding_VD, policy.embedding.get_value())]
    if not policy.shape.tie_embeddings:
        tables.append((weights.head_VD, policy.head.get_value()))
    return bytes_a_device((weights.layers, [mine for mine, own in tables if mine.dtype != own.dtype]))


def _new_prompts(filling: Filling, mesh: Mesh) -> NewPrompts:
    split, B = batch_sharding(mesh), len(filling.prompts_B)

    def array(*sizes: int, dtype: jnp.dtype = np.int32) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(sizes, dtype, sharding=split)

    return NewPrompts(array(B, filling.length), array(B), array(B, dtype=np.uint32), array(len(filling.source_S)))


def _placed(x: jax.ShapeDtypeStruct, sharding: jax.sharding.Sharding) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding)
