"""Decoding in slots, the device's side of the embedded sampler: a prefill, and one compiled loop over slots.

The prefill knows the prompts alone, not the slots, so that one program serves all numbers of slots, all group sizes
and ways to draw; the loop's program puts what it made into slots.

A slot holds a prompt and its G responses; S slots are decoded together, and one whose responses have all ended can be
given another prompt while the others go on. All slots write to the same column of their buffers, that of the clock
modulo R: no response is longer than R, so none meets its own beginning, and a step changes one column in place instead
of gathering S positions.

Layers are unrolled, each with buffers and weights of its own, so that a step copies none of them. Shapes: `S` slots,
`G` responses, `P` prompt, `R` response, `L`, `K`, `M` = N / K query heads a key/value head, `H`, `D`, `V` as elsewhere.
"""

import dataclasses
import functools
from typing import Generic, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import PartitionSpec

from stgrpo.models.attention.xla import KeyValues, attend_causal, rotary, rotary_frequencies
from stgrpo.models.lora import merged_layer
from stgrpo.models.random import random_key
from stgrpo.models.shapes import ModelShape, layer_specs, top_specs
from stgrpo.models.sharding import BATCH_AXES, constrain_batch, gathered
from stgrpo.models.transformer import Layers, Transformer, keys_values, rms_norm
from stgrpo.react.policy import SamplingParams
from stgrpo.sampling.jax.categorical import draw
from stgrpo.sampling.jax.fused_layer import JoinedLayer

A = TypeVar("A", bound=jax.Array | np.ndarray)
Module = TypeVar("Module", bound=nnx.Module)
_MASKED = -1e30


@dataclasses.dataclass(frozen=True)
class DecodeShape:
    """What a decode loop is compiled for, the number of slots apart.

    Attributes:
        group: responses a prompt.
        prompt: P, the longest prompt the slots take, at most the room that the prefill makes.
        stop_ids: tokens that end a response.
        params: how to draw; `max_tokens` is R.
        dtype: of the computation.
        shards: devices that slots and new prompts are split over, each having as many of them.
    """

    group: int
    prompt: int
    stop_ids: tuple[int, ...]
    params: SamplingParams
    dtype: jnp.dtype
    shards: int = 1


@dataclasses.dataclass(frozen=True)
class Weights:
    """The parameters as decoding reads them: matrices in the dtype of the computation, one set a layer."""

    embedding_VD: jax.Array
    head_VD: jax.Array
    final_norm_D: jax.Array
    layers: tuple[JoinedLayer, ...]
    shape: ModelShape


@dataclasses.dataclass(frozen=True)
class LayerCache:
    """Keys and values of one layer, laid out as the two matrix products of a step read them.

    With keys as [P, H] the product with the few queries of a group took eight times as long on a CPU.
    """

    prefix_k_SKHP: jax.Array
    prefix_v_SKPH: jax.Array
    own_k_SGKHR: jax.Array
    own_v_SGKRH: jax.Array


@dataclasses.dataclass(frozen=True)
class Slots:
    """What the loop carries. Of the arrays over R, a response's token j is in column (start + j) modulo R.

    Attributes:
        clock: steps done.
        start_S: the clock when the slot got its prompt.
        prompt_len_S: real length of its prompt.
        seed_S: of its responses.
        hidden_SGD: what the next token is predicted from.
        layers: keys and values.
        tokens_SGR: drawn ids.
        logp_SGR: their log-probabilities.
        length_SG: tokens drawn.
        stopped_SG: whether a stop token was drawn.
        done_SG: whether the response has ended, by that or by its length; in a slot without a prompt, true.
    """

    clock: jax.Array
    start_S: jax.Array
    prompt_len_S: jax.Array
    seed_S: jax.Array
    hidden_SGD: jax.Array
    layers: tuple[LayerCache, ...]
    tokens_SGR: jax.Array
    logp_SGR: jax.Array
    length_SG: jax.Array
    stopped_SG: jax.Array
    done_SG: jax.Array


@dataclasses.dataclass(frozen=True)
class NewPrompts(Generic[A]):
    """Prompts for slots that are free, as many for each device that slots are split over.

    Attributes:
        prompt_BP: token ids, padded on the right; without those that were read before for all of them.
        length_B: real lengths, with what was read before; at least a token more than that.
        seed_B: of their responses.
        slot_B: the slot each gets, counted among those of its device; one that there is not leaves the prompt out.
    """

    prompt_BP: A
    length_B: A
    seed_B: A
    slot_B: A


@dataclasses.dataclass(frozen=True)
class Prefilled:
    """New prompts as slots take them: their keys and values, and what the first token is predicted from."""

    k_LBKHP: jax.Array
    v_LBKPH: jax.Array
    hidden_BD: jax.Array
    length_B: jax.Array
    seed_B: jax.Array
    slot_B: jax.Array


for _type, _static in ((Weights, ["shape"]), (LayerCache, []), (Slots, []), (NewPrompts, []), (Prefilled, [])):
    _names = [f.name for f in dataclasses.fields(_type) if f.name not in _static]
    jax.tree_util.register_dataclass(_type, _names, _static)


def decode_weights(model: Transformer, dtype: jnp.dtype) -> Weights:
    """The weights for decoding, adapters merged. Norms, vectors of a layer, stay float32: they are applied in it.

    What has the dtype already and is not of a layer is the model's own array. Layers are taken one after the other by
    one program: cutting them out in one took longer to compile than the decode loop, and merged all adapters at once.
    Over a mesh they are gathered along `fsdp`, once instead of for every token; cut over `tensor` they stay.
    """
    shape, rest = model.shape, jax.tree.map(lambda x: x, model)
    del rest.layers
    rest = gathered(_lower(rest, dtype), shape)
    layers = tuple(take_layer(model.layers, np.int32(at), shape, dtype) for at in range(shape.depth))
    return Weights(rest.embedding[...], rest.head_VD, rest.final_norm[...], layers, shape)


@functools.partial(jax.jit, static_argnames=("shape", "dtype"))
def take_layer(layers: Layers, at: jax.Array, shape: ModelShape, dtype: jnp.dtype) -> JoinedLayer:
    """One layer of all, its adapters merged and its matrices in a dtype, those that read the same joined."""
    return JoinedLayer(gathered(_lower(merged_layer(layers, at), dtype), shape))


def decode_dtypes(model: Transformer, dtype: jnp.dtype) -> Transformer:
    """What a copy for decoding and prefills can have each parameter in, with the same result: a tree of dtypes.

    Matrices are used in the dtype of the computation; norms and biases stay as they are. Adapters are merged into
    their matrices before, so with these nothing changes.
    """
    specs = {**top_specs(model.shape), **layer_specs(model.shape)}
    matrices = set() if hasattr(model.layers, "adapters") else {name for name, spec in specs.items() if spec.fan_in}

    def one(path: tuple, x: jax.Array) -> jnp.dtype:
        return dtype if any(getattr(key, "name", "") in matrices for key in path) else x.dtype

    return jax.tree_util.tree_map_with_path(one, model)


def _lower(tree: Module, dtype: jnp.dtype) -> Module:
    return jax.tree.map(lambda x: x.astype(dtype) if x.ndim > 1 else x, tree)


@functools.partial(jax.jit, static_argnames=("model", "size", "shape"))
def empty_slots(model: ModelShape, size: int, shape: DecodeShape) -> Slots:
    """Slots without prompts, split over the batch axes of the mesh and, by key/value heads, over its tensor axis."""
    c, S, G, R = model, size, shape.group, shape.params.max_tokens

    def zeros(*sizes: int, dtype: jnp.dtype = jnp.int32) -> jax.Array:
        return constrain_batch(jnp.zeros((S, *sizes), dtype))

    def cache() -> LayerCache:
        prefix_k = _placed(jnp.zeros((S, c.kv_heads, c.head_dim, shape.prompt), shape.dtype), 0, 1)
        prefix_v = _placed(jnp.zeros((S, c.kv_heads, shape.prompt, c.head_dim), shape.dtype), 0, 1)
        own_k = _placed(jnp.zeros((S, G, c.kv_heads, c.head_dim, R), shape.dtype), 0, 2)
        own_v = _placed(jnp.zeros((S, G, c.kv_heads, R, c.head_dim), shape.dtype), 0, 2)
        return LayerCache(prefix_k, prefix_v, own_k, own_v)

    return Slots(
        clock=jnp.int32(0),
        start_S=zeros(),
        prompt_len_S=zeros(),
        seed_S=zeros(dtype=jnp.uint32),
        hidden_SGD=zeros(G, c.width, dtype=shape.dtype),
        layers=tuple(cache() for _ in range(c.depth)),
        tokens_SGR=zeros(G, R),
        logp_SGR=zeros(G, R, dtype=jnp.float32),
        length_SG=zeros(G),
        stopped_SG=zeros(G, dtype=jnp.bool_),
        done_SG=~zeros(G, dtype=jnp.bool_),
    )


def _placed(x: jax.Array, batch: int, heads: int) -> jax.Array:
    """Keeps one axis split over the batch axes of the mesh, and a later one over its tensor axis if that fits."""
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty:
        return x
    split: list[str | tuple[str, ...] | None] = [None] * (heads + 1)
    split[batch] = BATCH_AXES
    split[heads] = "tensor" if x.shape[heads] % mesh.shape["tensor"] == 0 else None
    return jax.lax.with_sharding_constraint(x, PartitionSpec(*split))


@functools.partial(jax.jit, static_argnames="dtype")
def read_prefix(model: Transformer, token_C: jax.Array, dtype: jnp.dtype) -> KeyValues:
    """Runs what all prompts begin with, once: its keys and values [L, C, K, H], in the dtype of the computation."""
    return jax.tree.map(lambda x: x.astype(dtype), keys_values(model, token_C, dtype))


def prefill(
    model: Transformer,
    prompt_BP: jax.Array,
    length_B: jax.Array,
    dtype: jnp.dtype,
    before: KeyValues | None = None,
) -> tuple[KeyValues, jax.Array]:
    """Runs each prompt once: its keys and values [L, B, P, K, H] and the last real token's hidden state [B, D].

    Args:
        model: the policy; behind something, one whose attention is XLA's.
        prompt_BP: token ids, padded on the right.
        length_B: real lengths.
        dtype: of the computation.
        before: keys and values [L, C, K, H] of what all prompts begin with and `prompt_BP` leaves out.
    """
    start = before.k.shape[1] if before else 0
    positions = jnp.broadcast_to(start + jnp.arange(prompt_BP.shape[1]), prompt_BP.shape)

    def attend(q_BPNH: jax.Array, kv: KeyValues, before_CKH: KeyValues | None = None) -> tuple[jax.Array, KeyValues]:
        return attend_causal(q_BPNH, kv, before=before_CKH, core=model.core), kv

    hidden_BPD, own = model.hidden(prompt_BP, positions, attend, before, dtype)
    last_B1D = jnp.take_along_axis(hidden_BPD, (length_B - 1)[:, None, None], axis=1)
    return own, last_B1D[:, 0]


@functools.partial(jax.jit, static_argnames=("room", "dtype"))
def prefill_prompts(
    model: Transformer, new: NewPrompts, room: int, dtype: jnp.dtype, before: KeyValues | None = None
) -> Prefilled:
    """Runs new prompts; their keys and values are padded to `room` tokens, whatever the prompts are padded to.

    What was read before for all of them, see `read_prefix`, is copied in front of each one's own.
    """
    start = before.k.shape[1] if before else 0
    own, last_BD = prefill(model, new.prompt_BP, new.length_B - start, dtype, before)
    k_LBPKH, v_LBPKH = own.k, own.v
    if before:
        k_LBPKH, v_LBPKH = _behind(before.k, own.k), _behind(before.v, own.v)
    pad = ((0, 0), (0, 0), (0, room - start - new.prompt_BP.shape[1]), (0, 0), (0, 0))
    k_LBPKH, v_LBPKH = (jnp.pad(x_LBPKH, pad) for x_LBPKH in (k_LBPKH, v_LBPKH))
    k_LBKHP, v_LBKPH = _placed(jnp.moveaxis(k_LBPKH, 2, 4), 1, 2), _placed(v_LBPKH.swapaxes(2, 3), 1, 2)
    return Prefilled(k_LBKHP, v_LBKPH, constrain_batch(last_BD), new.length_B, new.seed_B, new.slot_B)


def _behind(before_LCKH: jax.Array, own_LBPKH: jax.Array) -> jax.Array:
    """What each prompt has of its own behind what all begin with."""
    L, B, _, K, H = own_LBPKH.shape
    before_LBCKH = jnp.broadcast_to(before_LCKH[:, None], (L, B, before_LCKH.shape[1], K, H))
    return jnp.concatenate([before_LBCKH, own_LBPKH], axis=2)


@functools.partial(jax.jit, static_argnames="shape", donate_argnames="slots")
def decode(weights: Weights, slots: Slots, new: Prefilled, wanted: jax.Array, shape: DecodeShape) -> Slots:
    """Puts new prompts into their slots, then decodes until at least `wanted` slots are free; with 0, not at all."""

    def busy(slots: Slots) -> jax.Array:
        return jnp.sum(jnp.all(slots.done_SG, axis=1)) < wanted

    return jax.lax.while_loop(busy, functools.partial(_step, weights, shape), _filled(slots, new, shape))


def _filled(slots: Slots, new: Prefilled, shape: DecodeShape) -> Slots:
    """The slots with new prompts; those that get none are left as they are."""

    def put(old_S: jax.Array, new_B: jax.Array) -> jax.Array:
        """Writes rows in place, each device its own."""
        old_DS, new_DB, slot_DB = (x.reshape(shape.shards, -1, *x.shape[1:]) for x in (old_S, new_B, new.slot_B))
        write = jax.vmap(lambda old_S, new_B, slot_B: old_S.at[slot_B].set(new_B.astype(old_S.dtype), mode="drop"))
        return write(old_DS, new_DB, slot_DB).reshape(old_S.shape)

    def fill(old_S: jax.Array, value: jax.Array | bool | int) -> jax.Array:
        return put(old_S, jnp.full((len(new.slot_B), *old_S.shape[1:]), value))

    P = shape.prompt
    layers = tuple(
        dataclasses.replace(
            layer,
            prefix_k_SKHP=put(layer.prefix_k_SKHP, new.k_LBKHP[at, ..., :P]),
            prefix_v_SKPH=put(layer.prefix_v_SKPH, new.v_LBKPH[at, :, :, :P]),
        )
        for at, layer in enumerate(slots.layers)
    )
    hidden_BGD = jnp.broadcast_to(new.hidden_BD[:, None], (len(new.slot_B), *slots.hidden_SGD.shape[1:]))
    return dataclasses.replace(
        slots,
        start_S=fill(slots.start_S, slots.clock),
        prompt_len_S=put(slots.prompt_len_S, new.length_B),
        seed_S=put(slots.seed_S, new.seed_B),
        hidden_SGD=put(slots.hidden_SGD, hidden_BGD),
        layers=layers,
        length_SG=fill(slots.length_SG, 0),
        stopped_SG=fill(slots.stopped_SG, False),
        done_SG=fill(slots.done_SG, False),
    )


def _step(weights: Weights, shape: DecodeShape, slots: Slots) -> Slots:
    R = shape.params.max_tokens
    at_S, column, alive_SG = slots.clock - slots.start_S, slots.clock % R, ~slots.done_SG
    with jax.named_scope("draw"):
        logits_SGV, key_SG = _logits(weights, slots.hidden_SGD), _keys(slots.seed_S, at_S, shape.group)
        token_SG, logp_SG = draw(logits_SGV, key_SG, shape.params)
    with jax.named_scope("forward"):
        hidden_SGD, layers = _forward(weights, slots, token_SG, at_S, column)
    stopped_SG = slots.stopped_SG | (alive_SG & jnp.isin(token_SG, jnp.asarray(shape.stop_ids, jnp.int32)))
    length_SG = slots.length_SG + alive_SG.astype(jnp.int32)

    def write(row_SGR: jax.Array, new_SG: jax.Array) -> jax.Array:
        old_SG1 = jax.lax.dynamic_slice_in_dim(row_SGR, column, 1, axis=2)  # an ended response keeps what it has
        return _write_column(row_SGR, jnp.where(alive_SG[..., None], new_SG[..., None], old_SG1), column, 2)

    return dataclasses.replace(
        slots,
        clock=slots.clock + 1,
        hidden_SGD=hidden_SGD,
        layers=layers,
        tokens_SGR=write(slots.tokens_SGR, token_SG),
        logp_SGR=write(slots.logp_SGR, logp_SG),
        length_SG=length_SG,
        stopped_SG=stopped_SG,
        done_SG=slots.done_SG | stopped_SG | (length_SG >= R),
    )


def _logits(weights: Weights, hidden_SGD: jax.Array) -> jax.Array:
    """What tokens are drawn by, [S, G, V] float32; rows of the vocabulary without a token are never drawn."""
    logits_SGV = jnp.einsum("sgd,vd->sgv", hidden_SGD, weights.head_VD, preferred_element_type=jnp.float32)
    if not weights.shape.tokens:
        return logits_SGV
    return jnp.where(jnp.arange(weights.shape.vocab_size) < weights.shape.tokens, logits_SGV, _MASKED)


def _keys(seed_S: jax.Array, at_S: jax.Array, group: int) -> jax.Array:
    """A key a response and token, [S, G]: of the prompt's seed, the response's number and the token's, nothing else."""

    def one(seed: jax.Array, at: jax.Array, g: jax.Array) -> jax.Array:
        return jax.random.fold_in(jax.random.fold_in(random_key(seed), g), at)

    return jax.vmap(lambda seed, at: jax.vmap(lambda g: one(seed, at, g))(jnp.arange(group)))(seed_S, at_S)


def _write_column(x: jax.Array, new: jax.Array, column: jax.Array, axis: int) -> jax.Array:
    return jax.lax.dynamic_update_slice_in_dim(x, new.astype(x.dtype), column, axis=axis)


def _forward(
    weights: Weights, slots: Slots, token_SG: jax.Array, at_S: jax.Array, column: jax.Array
) -> tuple[jax.Array, tuple[LayerCache, ...]]:
    """Hidden states after one more token a response, and the caches with its keys and values."""
    c, R = weights.shape, slots.tokens_SGR.shape[-1]
    position_SG = jnp.broadcast_to((slots.prompt_len_S + at_S)[:, None], token_SG.shape)
    rope = rotary(position_SG, rotary_frequencies(c))
    seen_SR = (column - jnp.arange(R)) % R <= at_S[:, None]  # columns by how many steps ago they were written
    x_SGD, layers = jnp.take(weights.embedding_VD, token_SG, axis=0), []

    def attend(cache: LayerCache, q_SGNH: jax.Array, new: KeyValues) -> tuple[jax.Array, LayerCache]:
        cache = dataclasses.replace(
            cache,
            own_k_SGKHR=_write_column(cache.own_k_SGKHR, new.k[..., None], column, 4),
            own_v_SGKRH=_write_column(cache.own_v_SGKRH, new.v[..., None, :], column, 3),
        )
        return attend_cached(q_SGNH, cache, slots.prompt_len_S, seen_SR), cache

    for layer, cache in zip(weights.layers, slots.layers, strict=True):
        x_SGD, kept = layer(constrain_batch(x_SGD), rope, functools.partial(attend, cache), c.norm_eps)
        layers.append(kept)
    return rms_norm(x_SGD, weights.final_norm_D, c.norm_eps), tuple(layers)


def attend_cached(q_SGNH: jax.Array, cache: LayerCache, prompt_len_S: jax.Array, seen_SR: jax.Array) -> jax.Array:
    """What `attend_prefix` computes, for one query a response and with the caches' layout; no gradients.

    Args:
        q_SGNH: a query a response and head.
        cache: of the layer; its own part has this token's keys and values already.
        prompt_len_S: real length of each prompt.
        seen_SR: which columns of its own a slot's responses see.

    Returns:
        [S, G, N, H] in the dtype of the queries.
    """
    S, G, N, H = q_SGNH.shape
    K, P = cache.prefix_v_SKPH.shape[1:3]
    q_SGKMH = q_SGNH.reshape(S, G, K, N // K, H) * H**-0.5
    q_SKXH = q_SGKMH.swapaxes(1, 2).reshape(S, K, -1, H)  # X = G * M: all queries that meet the same prefix
    prefix_SKXP = jnp.einsum("skxh,skhp->skxp", q_SKXH, cache.prefix_k_SKHP, preferred_element_type=jnp.float32)
    prefix_SKXP = jnp.where((jnp.arange(P) < prompt_len_S[:, None])[:, None, None], prefix_SKXP, _MASKED)
    own_SGKMR = jnp.einsum("sgkmh,sgkhr->sgkmr", q_SGKMH, cache.own_k_SGKHR, preferred_element_type=jnp.float32)
    own_SGKMR = jnp.where(seen_SR[:, None, None, None], own_SGKMR, _MASKED)

    def by_response(x_SKX: jax.Array) -> jax.Array:
        return x_SKX.reshape(S, K, G, N // K, -1).swapaxes(1, 2)

    def by_head(x_SGKM: jax.Array) -> jax.Array:
        return x_SGKM.swapaxes(1, 2).reshape(S, K, G * N // K, -1)

    top_SGKM1 = jnp.maximum(by_response(prefix_SKXP.max(-1)), own_SGKMR.max(-1, keepdims=True))
    own_SGKMR = jnp.exp(own_SGKMR - top_SGKM1)
    prefix_SKXP = jnp.exp(prefix_SKXP - by_head(top_SGKM1))
    total_SGKM1 = own_SGKMR.sum(-1, keepdims=True) + by_response(prefix_SKXP.sum(-1))
    out_SKXH = jnp.einsum(
        "skxp,skph->skxh", prefix_SKXP.astype(q_SGNH.dtype), cache.prefix_v_SKPH, preferred_element_type=jnp.float32
    )
    out_SGKMH = by_response(out_SKXH) + jnp.einsum(
        "sgkmr,sgkrh->sgkmh", own_SGKMR.astype(q_SGNH.dtype), cache.own_v_SGKRH, preferred_element_type=jnp.float32
    )
    return (out_SGKMH / total_SGKM1).astype(q_SGNH.dtype).reshape(S, G, N, H)
