"""One attention core for training and for sampling: queries against a shared prefix and against their own past.

A group holds one prompt and G responses. The prompt attends to itself once; each response attends to the prompt's keys
and values, shared by the group, and to its own. The softmax runs over both parts together: merging two softmaxes by
their log-sum-exp gives the same output but, where an implementation stops the gradient of the residual, the wrong
gradient.

`attend_causal`, `attend_packed` and `attend_group` have three implementations with one meaning, named by an
`AttentionCore`: plain XLA (here), cuDNN (`cudnn`) and splash attention (`splash`). Decoding has its
own form (`stgrpo.sampling.jax.decode`), held to `attend_prefix`: one query a row leaves a blocked kernel nothing to do.
"""

import dataclasses
import functools
import importlib
from collections.abc import Iterable
from types import ModuleType

import jax
import jax.numpy as jnp
import numpy as np

from stgrpo.models.shapes import ModelShape

CORES = ("xla", "cudnn", "splash")

_MASKED = -1e30  # finite, so that a fully masked row gives numbers and no NaN in the backward pass
_BLOCK = 128  # queries; of causal rows in XLA
_BLOCKS = 4  # a row, at most: 5/8 of the square of scores is computed, and programs stay small


@dataclasses.dataclass(frozen=True)
class KeyValues:
    """Keys and values of one layer, [..., length, K, H]."""

    k: jax.Array
    v: jax.Array


jax.tree_util.register_dataclass(KeyValues, ["k", "v"], [])


@dataclasses.dataclass(frozen=True)
class AttentionCore:
    """Which implementation computes attention; static in a model.

    Attributes:
        name: one of `CORES`.
        emulated: the same program without its hardware (the TPU kernel interpreted, cuDNN's call answered by XLA):
            slow, for tests.
    """

    name: str = "xla"
    emulated: bool = False


XLA = AttentionCore()


def rotary_frequencies(shape: ModelShape) -> np.ndarray:
    """Radians a position of each pair of a head, [H / 2] float32 (arXiv 2104.09864), scaled as the shape says.

    A constant of the program, rounded step by step as the published models were trained with: at position 30,000 the
    last bit of a frequency is 0.002 radians.
    """
    exponent = np.arange(0, shape.head_dim, 2, dtype=np.float32) / np.float32(shape.head_dim)
    frequency = np.float32(1.0) / np.float32(shape.rope_theta) ** exponent
    scaling = shape.rope_scaling
    if scaling is None:
        return frequency
    turns = scaling.original_position * frequency / np.float32(2 * np.pi)  # full circles over the original length
    kept = np.clip((turns - scaling.low) / (scaling.high - scaling.low), 0.0, 1.0)
    return (frequency * (kept + (1.0 - kept) / scaling.factor)).astype(np.float32)


def rotary(positions: jax.Array, frequency_F: np.ndarray) -> tuple[jax.Array, jax.Array]:
    """Cosines and sines of rotary position embedding, float32.

    Args:
        positions: [B, S] token positions.
        frequency_F: of `rotary_frequencies`, F = H / 2.

    Returns:
        Two arrays [B, S, 1, H / 2].
    """
    angle = positions[..., None, None].astype(jnp.float32) * frequency_F
    return jnp.cos(angle), jnp.sin(angle)


def rotate(x: jax.Array, rope: tuple[jax.Array, jax.Array]) -> jax.Array:
    """Turns each pair (x_i, x_{i + H/2}) of x_[..., heads, H] by its position's angle (the rotate-half convention)."""
    cos, sin = rope
    low, high = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    return jnp.concatenate([low * cos - high * sin, high * cos + low * sin], axis=-1).astype(x.dtype)


def attend_causal(
    q_BSNH: jax.Array, own: KeyValues, *, before: KeyValues | None = None, core: AttentionCore = XLA
) -> jax.Array:
    """Causal attention over whole rows, [B, S, N, H]. Right padding needs no mask: nothing real looks at it."""
    return attend_packed(q_BSNH, own, before=before, core=core)


def attend_packed(
    q_BSNH: jax.Array,
    own: KeyValues,
    *,
    group_BS: jax.Array | None = None,
    branch_BS: jax.Array | None = None,
    before: KeyValues | None = None,
    core: AttentionCore = XLA,
) -> jax.Array:
    """Causal attention over rows that hold several groups, told apart by number; see `stgrpo.training.packing`.

    Args:
        q_BSNH: queries.
        own: keys and values of the same positions, [B, S, K, H].
        group_BS: the group of each token; a query sees keys of its own alone. 0 for padding, which sees itself. None
            where a row is one group.
        branch_BS: 0 for a prompt's token, else the response; a response sees the prompt and itself. None where every
            group has one response.
        before: [C, K, H], keys and values that all queries of all rows see besides; with XLA's implementation alone.
        core: the implementation of attention.

    Returns:
        [B, S, N, H] in the dtype of the queries.
    """
    if core.name != "xla":
        assert before is None
        return _kernels(core).attend_packed(q_BSNH, own, group_BS, branch_BS, core.emulated)
    S = q_BSNH.shape[1]
    q_BKGTMH, own = _by_head(q_BSNH[:, None], own.k.shape[2]), _kv_by_head(own)
    size = max(_BLOCK, -(-S // (_BLOCKS * _BLOCK)) * _BLOCK)
    blocks = []
    for start in range(0, S, size):  # a block of queries with all that it can see: the rest of the square is left out
        end = min(start + size, S)
        visible_BTU = packed_mask(group_BS, branch_BS, slice(start, end), S)
        seen = jax.tree.map(lambda x, end=end: x[:, :, :end], own)
        parts, visible = _with_common(before, (seen,), (visible_BTU[:, None, None, :, None],))
        blocks.append(_softmax_mean(q_BKGTMH[:, :, :, start:end], parts, visible))
    return _back(jnp.concatenate(blocks, axis=3)).reshape(q_BSNH.shape)


def packed_mask(group_BS: jax.Array | None, branch_BS: jax.Array | None, rows: slice, S: int) -> jax.Array:
    """[B or 1, rows, up to the last of them], true where a query of `attend_packed` may see a key; S is the length."""
    position = jnp.arange(S)
    seen_BTU = position[None, rows, None] >= position[None, None, : rows.stop]
    if group_BS is not None:
        seen_BTU &= group_BS[:, rows, None] == group_BS[:, None, : rows.stop]
    if branch_BS is not None:
        key_B1U = branch_BS[:, None, : rows.stop]
        seen_BTU &= (key_B1U == 0) | (key_B1U == branch_BS[:, rows, None])
    return seen_BTU


def attend_group(
    q_BSNH: jax.Array,
    own: KeyValues,
    prompt_len_B: jax.Array,
    *,
    P: int,
    G: int,
    before: KeyValues | None = None,
    core: AttentionCore = XLA,
) -> jax.Array:
    """Attention of rows that hold a prompt and its G responses, S = P + G * R.

    Args:
        q_BSNH: queries; the first P positions are the prompt's, then R for each response.
        own: keys and values of the same positions, [B, S, K, H].
        prompt_len_B: how many of the P prompt positions are real; responses do not see the others.
        P: padded prompt length.
        G: responses a prompt.
        before: see `attend_packed`.
        core: the implementation of attention.

    Returns:
        [B, S, N, H] in the dtype of the queries.
    """
    if core.name != "xla":
        assert before is None
        return _kernels(core).attend_group(q_BSNH, own, prompt_len_B, P=P, G=G, emulated=core.emulated)
    B, S, N, H = q_BSNH.shape
    R = (S - P) // G
    prompt = KeyValues(own.k[:, :P], own.v[:, :P])
    prompt_out = attend_causal(q_BSNH[:, :P], prompt, before=before)
    responses = jax.tree.map(lambda x: x[:, P:].reshape(B, G, R, *x.shape[2:]), own)
    q_BGRNH = q_BSNH[:, P:].reshape(B, G, R, N, H)
    causal_RR = jnp.tril(jnp.ones((R, R), bool))
    response_out = attend_prefix(q_BGRNH, responses, causal_RR, prompt, prompt_len_B, before=before)
    return jnp.concatenate([prompt_out, response_out.reshape(B, G * R, N, H)], axis=1)


def attend_prefix(
    q_BGTNH: jax.Array,
    own: KeyValues,
    own_mask_TU: jax.Array,
    prefix: KeyValues,
    prefix_len_B: jax.Array,
    *,
    before: KeyValues | None = None,
) -> jax.Array:
    """Softmax attention over [a prefix shared by the group | each sample's own keys], jointly.

    Args:
        q_BGTNH: T queries for each of the G samples.
        own: [B, G, U, K, H], keys and values of each sample.
        own_mask_TU: true where query t may see own key u; broadcast over the batch.
        prefix: [B, P, K, H].
        prefix_len_B: real length of each prefix.
        before: see `attend_packed`.

    Returns:
        [B, G, T, N, H] in the dtype of the queries.
    """
    seen_BP = jnp.arange(prefix.k.shape[1]) < prefix_len_B[:, None]
    parts, visible = _with_common(
        before,
        (_kv_by_head(own), _kv_by_head(prefix)),
        (own_mask_TU[:, None], seen_BP[:, None, None, None, None]),
    )
    return _back(_softmax_mean(_by_head(q_BGTNH, own.k.shape[-2]), parts, visible))


def _kernels(core: AttentionCore) -> ModuleType:
    """Imported where it is used: Pallas is slow to import, and no use on a CPU."""
    return importlib.import_module(f"stgrpo.models.attention.{core.name}")


def _by_head(q_BGTNH: jax.Array, K: int) -> jax.Array:
    """Scaled queries, [B, K, G, T, N / K, H]."""
    B, G, T, N, H = q_BGTNH.shape
    return (q_BGTNH * H**-0.5).reshape(B, G, T, K, N // K, H).transpose(0, 3, 1, 2, 4, 5)


def _kv_by_head(kv: KeyValues) -> KeyValues:
    return jax.tree.map(lambda x: jnp.moveaxis(x, -2, 1), kv)  # [B, K, G, U, H], or [B, K, P, H] of a whole group


def _back(out_BKGTMH: jax.Array) -> jax.Array:
    B, K, G, T, M, H = out_BKGTMH.shape
    return out_BKGTMH.transpose(0, 2, 3, 1, 4, 5).reshape(B, G, T, K * M, H)


Parts = tuple[KeyValues, ...]  # each [B, K, G, U, H]; [B, K, U, H] where all G share it, [K, U, H] where all rows do


def _with_common(
    before: KeyValues | None, parts: Parts, visible: tuple[jax.Array, ...]
) -> tuple[Parts, tuple[jax.Array, ...]]:
    """The parts with one more in front, all of it seen by every query; as they are where there is none."""
    if before is None:
        return parts, visible
    common = jax.tree.map(lambda x_CKH: x_CKH.swapaxes(0, 1), before)
    return (common, *parts), (jnp.ones((), bool), *visible)


@jax.custom_vjp
def _softmax_mean(q_BKGTMH: jax.Array, parts: Parts, visible: tuple[jax.Array, ...]) -> jax.Array:
    """The mean of the values of all parts under one softmax of their scores, [B, K, G, T, M, H].

    Heads stand before positions, so that every product is a plain batched one and no score is ever joined to others
    or transposed. What is visible of a part broadcasts with its scores, [B, K, G, T, M, U].
    """
    return _mean_forward(q_BKGTMH, parts, visible)[0]


def _mean_forward(q: jax.Array, parts: Parts, visible: tuple[jax.Array, ...]):
    scores = [jnp.where(seen, _dot(q, kv.k), _MASKED) for kv, seen in zip(parts, visible, strict=True)]
    top = functools.reduce(jnp.maximum, (s.max(axis=-1, keepdims=True) for s in scores))
    weights = [jnp.exp(s - top) for s in scores]
    total = _sum(w.sum(axis=-1, keepdims=True) for w in weights)
    mean = _sum(_mix(w.astype(q.dtype), kv.v) for w, kv in zip(weights, parts, strict=True)) / total
    return mean.astype(q.dtype), (q, parts, weights, total)


def _mean_backward(kept: tuple, d_mean: jax.Array):
    """The gradient by hand: scores are neither joined nor transposed here either, which saves a fifth of the time."""
    q, parts, weights, total = kept
    probabilities = [w / total for w in weights]
    pulls = [_dot(d_mean, kv.v) for kv in parts]
    average = _sum((p * d).sum(axis=-1, keepdims=True) for p, d in zip(probabilities, pulls, strict=True))
    d_scores = [(p * (d - average)).astype(q.dtype) for p, d in zip(probabilities, pulls, strict=True)]
    d_q = _sum(_mix(d, kv.k) for d, kv in zip(d_scores, parts, strict=True)).astype(q.dtype)
    d_parts = tuple(
        KeyValues(_gather(q, d, kv.k), _gather(d_mean, p.astype(q.dtype), kv.v))
        for d, p, kv in zip(d_scores, probabilities, parts, strict=True)
    )
    return d_q, d_parts, None


_softmax_mean.defvjp(_mean_forward, _mean_backward)


def _sum(terms: Iterable[jax.Array]) -> jax.Array:
    return functools.reduce(jnp.add, terms)


def _axes(kv: jax.Array) -> str:
    return {5: "bkguh", 4: "bkuh", 3: "kuh"}[kv.ndim]


def _dot(q: jax.Array, kv: jax.Array) -> jax.Array:
    return jnp.einsum(f"bkgtmh,{_axes(kv)}->bkgtmu", q, kv, preferred_element_type=jnp.float32)


def _mix(weights: jax.Array, kv: jax.Array) -> jax.Array:
    return jnp.einsum(f"bkgtmu,{_axes(kv)}->bkgtmh", weights, kv, preferred_element_type=jnp.float32)


def _gather(q: jax.Array, weights: jax.Array, like: jax.Array) -> jax.Array:
    """What all queries give to each key: heads in rows, so that it is q and the result that are transposed."""
    axes = _axes(like)[:-2] + "hu"
    out = jnp.einsum(f"bkgtmh,bkgtmu->{axes}", q, weights)  # summed in float32; a float32 result of it no CPU can give
    return out.swapaxes(-1, -2).astype(like.dtype)
