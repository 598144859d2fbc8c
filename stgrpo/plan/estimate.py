"""Memory by formula, of devices that nothing is compiled for: within a quarter of what compilers say of others.

Beside the state: what each layer's input takes, kept for the backward pass; a layer that is computed again, with what
its gradients need; and the head with a chunk of logits, which comes at another time than the layers.
"""

import jax.numpy as jnp

from stgrpo.models.shapes import ModelShape
from stgrpo.plan.programs import StagePrograms
from stgrpo.plan.sampling import host_count, longest_rollout
from stgrpo.plan.work import linear_parameters, predicted_tokens
from stgrpo.training.logprobs import CHUNK
from stgrpo.training.micro_batches import row_shards

_LAYER = 6, 8  # values of an MLP and of the residual stream that a layer's backward pass holds, a token
_FORWARD = 3, 2  # the same of a forward pass


def update_memory(programs: StagePrograms) -> float:
    """Bytes a device of an update, and of the frozen reference beside it; with `model.remat`."""
    shape, size, T = programs.shape, _size(programs), programs.mesh.shape["tensor"]
    tokens = programs.batch.size / row_shards(programs.mesh) / programs.micro_batches
    gradient = programs.parts["gradient"]
    summed = gradient if programs.micro_batches > 1 else 0
    inputs = tokens * shape.width * shape.depth * size
    table = shape.vocab_size * shape.width / T
    layer = gradient + tokens * _values(shape, T, *_LAYER) * size + 4 * table
    head = (size + 4) * table + 2 * _logits(programs, programs.micro_batches)
    return programs.state + summed + inputs + max(layer, head)


def logprobs_memory(programs: StagePrograms) -> float:
    """Bytes a device of log-probabilities, and of the state beside them."""
    shape, size, T = programs.shape, _size(programs), programs.mesh.shape["tensor"]
    tokens = programs.batch.size / row_shards(programs.mesh) / programs.micro_batches
    layer = tokens * _values(shape, T, *_FORWARD) * size
    head = (
        tokens * shape.width * size
        + size * shape.vocab_size * shape.width / T
        + 2 * _logits(programs, programs.micro_batches)
    )
    return programs.state + max(layer, head)


def rollout_memory(programs: StagePrograms) -> float:
    """Bytes a device of the embedded sampler while it draws, and of the state beside it."""
    shape, size, T = programs.shape, _size(programs), programs.mesh.shape["tensor"]
    rollout = longest_rollout(programs.config, programs.mesh)
    slots = rollout.slots / rollout.devices
    tables = 1 if shape.tie_embeddings else 2
    values = (linear_parameters(shape) + tables * shape.vocab_size * shape.width) / T
    heads = shape.kv_heads / T if shape.kv_heads % T == 0 else shape.kv_heads
    cache = slots * (rollout.room + rollout.group * rollout.response) * 2 * shape.depth * heads * shape.head_dim * size
    drawn = 3 * 4 * slots * rollout.group * shape.vocab_size / T
    read = rollout.prefill_rows / rollout.devices * rollout.room * _values(shape, T, *_FORWARD) * size
    whole = 4 * values if host_count(programs.mesh) > 1 else 0
    return programs.state + whole + size * values + cache + max(drawn, read)


def _values(shape: ModelShape, tensor: int, inner: int, outer: int) -> float:
    return inner * shape.mlp_width / tensor + outer * shape.width


def _logits(programs: StagePrograms, parts: int) -> float:
    """Of a chunk, in float32."""
    tokens = predicted_tokens(programs.batch) / row_shards(programs.mesh) / parts
    return 4 * min(CHUNK, tokens) * programs.shape.vocab_size / programs.mesh.shape["tensor"]


def _size(programs: StagePrograms) -> int:
    return jnp.dtype(programs.config.model.dtype).itemsize
