"""Memory by formula, of devices that nothing is compiled for: within a quarter of what compilers say of others.

Beside the state: what is kept of each layer for the backward pass, its input alone where it is computed again; one
layer with what its gradients need; and the head with a chunk of logits, which comes at another time than the layers.
Attention by XLA adds its scores, of every query with every key.
"""

from stgrpo.models.flops import linear_parameters
from stgrpo.models.shapes import ModelShape
from stgrpo.plan.communication import Pass
from stgrpo.plan.programs import StagePrograms
from stgrpo.plan.sampling import host_count, longest_rollout
from stgrpo.plan.step import pass_of
from stgrpo.training.context import lora_settings
from stgrpo.training.logprobs import CHUNK
from stgrpo.training.micro_batches import largest_batch

_LAYER = 6, 8  # values of an MLP and of the residual stream that a layer's backward pass holds, a token
_FORWARD = 3, 2  # the same of a forward pass
_KEPT = 5, 12  # the same, of what is kept of a layer that is not computed again
_SCORES, _SCORES_KEPT = 1.5, 0.7  # times that the scores of a layer are there while its gradients are taken, and kept


def update_memory(programs: StagePrograms) -> float:
    """Bytes a device of an update, and of the frozen reference beside it."""
    shape, one, T = programs.shape, pass_of(programs), programs.mesh.shape["tensor"]
    tokens, size = one.tokens, one.size
    gradient = programs.parts["gradient"]
    summed = gradient if programs.micro_batches > 1 else 0
    scores = tokens * _scores(programs)
    kept = tokens * shape.width * size
    if not programs.config.model.remat:
        kept = tokens * _values(shape, T, *_KEPT) * size + _SCORES_KEPT * scores
    table = shape.vocab_size * shape.width / T
    layer = gradient + tokens * _values(shape, T, *_LAYER) * size + _SCORES * scores + 4 * table
    head = (size + 4) * table + 2 * _logits(programs, one)
    lora = lora_settings(programs.config, programs.stage)
    depth = lora.depth(shape) if lora else shape.depth
    return programs.state + summed + depth * kept + max(layer, head)


def logprobs_memory(programs: StagePrograms) -> float:
    """Bytes a device of log-probabilities, and of the state beside them."""
    shape, one, T = programs.shape, pass_of(programs), programs.mesh.shape["tensor"]
    tokens, size = one.tokens, one.size
    layer = tokens * _values(shape, T, *_FORWARD) * size
    head = tokens * shape.width * size + size * shape.vocab_size * shape.width / T + 2 * _logits(programs, one)
    return programs.state + max(layer, head)


def rollout_memory(programs: StagePrograms) -> float:
    """Bytes a device of the embedded sampler while it draws, and of the state beside it."""
    shape, size, T = programs.shape, pass_of(programs).size, programs.mesh.shape["tensor"]
    rollout = longest_rollout(programs.config, programs.mesh)
    slots = rollout.slots / rollout.devices
    tables = 1 if shape.tie_embeddings else 2
    values = (linear_parameters(shape) + tables * shape.vocab_size * shape.width) / T
    cache = rollout.cache_bytes(shape, T, size)
    drawn = 3 * 4 * slots * rollout.group * shape.vocab_size / T
    read = rollout.prefill_rows / rollout.devices * rollout.room * _values(shape, T, *_FORWARD) * size
    whole = size * values if host_count(programs.mesh) > 1 else 0  # as `sampling.jax.shared.own_copy` has it
    return programs.state + whole + size * values + cache + max(drawn, read)


def _scores(programs: StagePrograms) -> float:
    """Bytes of a token's scores, in float32; 0 where a kernel never has all of them at one time."""
    if programs.program.model.core.name != "xla":
        return 0.0
    groups, row = largest_batch(programs.config, programs.stage), programs.config[programs.stage].row_tokens
    drawn = groups.group * groups.response
    keys = (groups.prompt**2 + drawn * (groups.prompt + groups.response)) / groups.longest  # of a token, on average
    return 4 * programs.shape.heads / programs.mesh.shape["tensor"] * max(row, keys)


def _values(shape: ModelShape, tensor: int, inner: int, outer: int) -> float:
    return inner * shape.mlp_width / tensor + outer * shape.width


def _logits(programs: StagePrograms, one: Pass) -> float:
    """Of a chunk, in float32."""
    return 4 * min(CHUNK, one.predicted) * programs.shape.vocab_size / programs.mesh.shape["tensor"]
