"""The one path for log-probabilities: policy, old policy, reference and the SFT loss all go through here.

No tensor of the size of the vocabulary is made over a whole batch: tokens are taken in chunks, forward and backward,
and the backward pass makes the logits of a chunk again.

Over a mesh each device takes chunks of its own rows. It gathers the output embedding once for all of them and gives its
gradient away once, both of which XLA would do for every chunk; see `models.sharding.EmbeddingSharding`.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import TypeVar

import jax
import jax.numpy as jnp

from stgrpo.models.grouped import GroupRows, row_hidden
from stgrpo.models.sharding import EmbeddingSharding
from stgrpo.models.transformer import Transformer, packed_hidden
from stgrpo.training.batch import GroupBatch
from stgrpo.training.packing import Batch

CHUNK = 1024  # tokens a device whose logits exist at one time; at a vocabulary of 151,936 that is 0.6 GB in float32

_NONE = -1e30  # logit of what cannot be; its product with a probability of 0 is 0, that of infinity is none

Pair = tuple[jax.Array, jax.Array]
Carry = TypeVar("Carry")
Rows = tuple[jax.Array, ...]  # each [B, T, ...] of one device


@dataclasses.dataclass(frozen=True)
class _Softmax:
    """How products with the head become probabilities.

    Attributes:
        temperature: they are divided by it.
        vocab: rows of the head from this one on have probability 0; None where it has no more.
    """

    temperature: float
    vocab: int | None


def token_logprobs(
    hidden_BTD: jax.Array,
    head_VD: jax.Array,
    target_BT: jax.Array,
    *,
    temperature: float,
    vocab: int | None = None,
    chunk: int = CHUNK,
) -> Pair:
    """Log-probability of each target and entropy of each distribution, both [B, T] float32, in chunks of tokens.

    Args:
        hidden_BTD: hidden states that predict the targets.
        head_VD: output embedding; its products are made in the dtype of the hidden states.
        target_BT: token ids.
        temperature: logits are divided by it, as in sampling.
        vocab: ids that there are; rows of the head beyond it have probability 0. None for all.
        chunk: tokens a device and chunk, at most.
    """
    how = _Softmax(temperature, vocab if vocab is not None and vocab < len(head_VD) else None)
    with jax.named_scope("head"):
        return _token_logprobs(hidden_BTD, head_VD, target_BT, how, chunk)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def _token_logprobs(hidden: jax.Array, head_VD: jax.Array, target_BT: jax.Array, how: _Softmax, chunk: int):
    return _forward(hidden, head_VD, target_BT, how, chunk)[0]


def _forward(hidden_BTD: jax.Array, head_VD: jax.Array, target_BT: jax.Array, how: _Softmax, chunk: int):
    cut = EmbeddingSharding.of(head_VD)

    def local(head_VD: jax.Array, *rows: jax.Array) -> tuple[None, Rows]:
        whole_VD = cut.gather(head_VD.astype(hidden_BTD.dtype))

        def one(_: None, part: Rows) -> tuple[None, Rows]:
            hidden_CD, target_C = part
            return None, _distribution(hidden_CD, target_C, whole_VD, how, cut)

        return _in_chunks(one, None, rows, chunk)

    _, (logp_BT, entropy_BT, norm_BT) = cut.on_each_device(local, head_VD, hidden_BTD, target_BT)
    return (logp_BT, entropy_BT), (hidden_BTD, head_VD, target_BT, norm_BT, entropy_BT)


def _backward(how: _Softmax, chunk: int, kept: Rows, d_both: Pair):
    hidden_BTD, head_VD, *others = kept
    cut, dtype = EmbeddingSharding.of(head_VD), hidden_BTD.dtype

    def local(head_VD: jax.Array, *rows: jax.Array) -> tuple[jax.Array, jax.Array]:
        whole_VD = cut.gather(head_VD.astype(dtype))

        def one(d_head_DV: jax.Array, part: Rows) -> tuple[jax.Array, Rows]:
            d_logits_CV = _d_logits(part, whole_VD, how, cut).astype(dtype)
            d_hidden_CD = cut.sum(jnp.einsum("cv,vd->cd", d_logits_CV, whole_VD))
            # that way round, so that the large operand is read as it lies; see `models.transformer.linear`
            d_part_DV = jnp.einsum("cd,cv->dv", part[0], d_logits_CV, preferred_element_type=jnp.float32)
            return d_head_DV + d_part_DV, (d_hidden_CD,)

        zero_DV = jnp.zeros(whole_VD.shape[::-1], jnp.float32)  # a sum of hundreds of chunks
        d_head_DV, (d_hidden_BTD,) = _in_chunks(one, zero_DV, rows, chunk)
        return cut.reduce(d_head_DV).T, d_hidden_BTD

    d_head_VD, d_hidden_BTD = cut.on_each_device(local, head_VD, hidden_BTD, *others, *d_both)
    return d_hidden_BTD, d_head_VD.astype(head_VD.dtype), None


_token_logprobs.defvjp(_forward, _backward)


def _distribution(
    hidden_CD: jax.Array, target_C: jax.Array, head_VD: jax.Array, how: _Softmax, cut: EmbeddingSharding
) -> Rows:
    """Log-probability of the target, entropy, and the logarithm of the sum of all exponentials, [C] each."""
    logits_CV = _logits(hidden_CD, head_VD, how, cut)
    top_C = cut.max(logits_CV.max(axis=-1))
    weight_CV = jnp.exp(logits_CV - top_C[:, None])
    # the same difference anew, or XLA would keep it: one more tensor of this size
    rest_CV = logits_CV - jax.lax.optimization_barrier(top_C)[:, None]
    at_C = cut.own(target_C, len(head_VD))
    picked_C = jnp.take_along_axis(logits_CV, jnp.clip(at_C, 0, len(head_VD) - 1)[:, None], axis=-1)[:, 0] - top_C
    picked_C = jnp.where((at_C >= 0) & (at_C < len(head_VD)), picked_C, 0.0)
    total_C, pull_C, picked_C = cut.sum((weight_CV.sum(axis=-1), (weight_CV * rest_CV).sum(axis=-1), picked_C))
    log_total_C = jnp.log(total_C)
    # of the entropy neither part is negative: no difference of two large numbers
    return picked_C - log_total_C, log_total_C - pull_C / total_C, top_C + log_total_C


def _d_logits(part: Rows, head_VD: jax.Array, how: _Softmax, cut: EmbeddingSharding) -> jax.Array:
    """Gradient of the product behind the logits z, [C, V].

    With p the probabilities: d logp / dz = onehot - p, and d entropy / dz = -p (log p + entropy).

    Args:
        part: hidden states [C, D]; targets, what `_distribution` returned last and second, and the gradients of its
            first two, [C] each.
        head_VD: this device's part of the vocabulary.
        how: logits become probabilities.
        cut: how the output embedding lies over the mesh.
    """
    hidden_CD, target_C, *numbers = part
    norm_C1, entropy_C1, d_logp_C1, d_entropy_C1 = (x[:, None] for x in numbers)
    log_CV = _logits(hidden_CD, head_VD, how, cut) - norm_C1
    pull_CV = d_logp_C1 + d_entropy_C1 * (log_CV + entropy_C1)
    is_target_CV = jnp.arange(len(head_VD)) == cut.own(target_C[:, None], len(head_VD))
    return (jnp.where(is_target_CV, d_logp_C1, 0.0) - jnp.exp(log_CV) * pull_CV) / how.temperature


def _logits(hidden_CD: jax.Array, head_VD: jax.Array, how: _Softmax, cut: EmbeddingSharding) -> jax.Array:
    logits_CV = jnp.einsum("cd,vd->cv", hidden_CD, head_VD, preferred_element_type=jnp.float32) / how.temperature
    if how.vocab is None:
        return logits_CV
    return jnp.where(jnp.arange(len(head_VD)) < cut.own(how.vocab, len(head_VD)), logits_CV, _NONE)


def _in_chunks(
    one: Callable[[Carry, Rows], tuple[Carry, Rows]], carry: Carry, rows: Rows, chunk: int
) -> tuple[Carry, Rows]:
    """Scans over equal chunks of the tokens of arrays [B, T, ...]; what `one` returns of each comes back so too."""
    B, T = rows[0].shape[:2]
    count = -(-B * T // chunk)
    size = -(-B * T // count)

    def cut_up(x: jax.Array) -> jax.Array:
        flat = x.reshape(B * T, *x.shape[2:])
        return jnp.pad(flat, [(0, count * size - B * T)] + [(0, 0)] * (x.ndim - 2)).reshape(count, size, *x.shape[2:])

    def joined(x: jax.Array) -> jax.Array:
        return x.reshape(count * size, *x.shape[2:])[: B * T].reshape(B, T, *x.shape[2:])

    carry, outputs = jax.lax.scan(one, carry, tuple(cut_up(x) for x in rows))
    return carry, tuple(joined(x) for x in outputs)


def response_logprobs(
    model: Transformer,
    prompt_BP: jax.Array,
    prompt_len_B: jax.Array,
    response_BGR: jax.Array,
    *,
    temperature: float = 1.0,
    dtype: jnp.dtype = jnp.float32,
) -> Pair:
    """Log-probabilities and entropies of response tokens, both [B, G, R] float32, from P + G * R tokens a group."""
    rows = GroupRows(prompt_BP, prompt_len_B, response_BGR)
    return _row_logprobs(model, rows, temperature=temperature, dtype=dtype)


def _row_logprobs(model: Transformer, rows: GroupRows, *, temperature: float, dtype: jnp.dtype) -> Pair:
    B, G, R = rows.response_BGR.shape
    _, hidden_BGRD = row_hidden(model, rows, dtype)
    both = token_logprobs(
        hidden_BGRD.reshape(B, G * R, -1),
        model.head_VD,
        rows.response_BGR.reshape(B, G * R),
        temperature=temperature,
        vocab=model.shape.real_vocab,
    )
    logp_BGR, entropy_BGR = (x.reshape(B, G, R) for x in both)
    return logp_BGR, entropy_BGR


def batch_logprobs(
    model: Transformer, batch: Batch, *, temperature: float = 1.0, dtype: jnp.dtype = jnp.float32
) -> Pair:
    """Log-probabilities and entropies in the layout of the batch's loss terms, float32."""
    if isinstance(batch, GroupBatch):
        return _row_logprobs(model, batch.rows, temperature=temperature, dtype=dtype)
    hidden_XMD = batch_hidden(model, batch, dtype)
    how = {"temperature": temperature, "vocab": model.shape.real_vocab}
    return token_logprobs(hidden_XMD, model.head_VD, batch.target_XM, **how)


def batch_hidden(model: Transformer, batch: Batch, dtype: jnp.dtype = jnp.float32) -> jax.Array:
    """The hidden state before each token that the batch's loss terms are of, in their layout and one axis more."""
    if isinstance(batch, GroupBatch):
        return row_hidden(model, batch.rows, dtype)[1]
    hidden_XSD = packed_hidden(
        model, batch.token_XS, batch.position_XS, (batch.segment_ids_XS, batch.response_ids_XS), dtype
    )
    return jnp.take_along_axis(hidden_XSD, batch.source_XM[..., None], axis=1)
