"""The embedded sampler: one prefill a prompt, G samples decoded from the shared prefix in one compiled loop."""

import dataclasses
import functools
import math
from collections.abc import Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from stgrpo.data.padding import bucket, pad_rows
from stgrpo.models.attention import KeyValues, attend_causal, attend_prefix
from stgrpo.models.sharding import BATCH_AXES, batch_sharding
from stgrpo.models.transformer import Transformer
from stgrpo.rollout.base import Samples, SamplingParams

Row = tuple[list[list[int]], list[list[float]], list[str]]


@dataclasses.dataclass(frozen=True)
class DecodeShape:
    """What a compiled decode loop is specialised to."""

    group: int
    stop_ids: tuple[int, ...]
    params: SamplingParams
    dtype: jnp.dtype


@dataclasses.dataclass(frozen=True)
class DecodeState:
    """Carry of the decode loop. `next` is the position in the response that is sampled now."""

    next: jax.Array
    logits_BGV: jax.Array
    cache_LBGR: KeyValues
    tokens_BGR: jax.Array
    logp_BGR: jax.Array
    length_BG: jax.Array
    done_BG: jax.Array


jax.tree_util.register_dataclass(DecodeState, [f.name for f in dataclasses.fields(DecodeState)], [])


class JaxSampler:
    """Draws from a `Transformer` on the devices it lies on.

    Prompts are padded to buckets of length and of count, so the number of compilations is bounded by the number of
    buckets; padding prompts finish at once.
    """

    def __init__(
        self,
        model: Transformer,
        stop_ids: tuple[int, ...],
        *,
        dtype: jnp.dtype = jnp.float32,
        batch: int = 256,
        mesh: Mesh | None = None,
    ):
        """Wraps a model.

        Args:
          model: the policy.
          stop_ids: tokens that end a response.
          dtype: of the computation.
          batch: the most responses that are decoded at one time; more prompts are taken in several loops.
          mesh: prompts are split over its data and fsdp axes; None for one device.
        """
        self._model, self._version = model, 0
        self._stop_ids, self._dtype, self._batch, self.mesh = stop_ids, dtype, batch, mesh

    def update_weights(self, params: Transformer, version: int) -> None:
        """The trainer's own arrays are used; nothing is copied."""
        self._model, self._version = params, version

    def generate(
        self, prompts: Sequence[Sequence[int]], group_size: int, params: SamplingParams, seeds: Sequence[int]
    ) -> Samples:
        """See `Sampler.generate`."""
        shape = DecodeShape(group_size, self._stop_ids, params, self._dtype)
        limit = max(1, self._batch // group_size)
        order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
        tokens, logprobs, finish = ([None] * len(prompts) for _ in range(3))
        for at in range(0, len(order), limit):
            rows = order[at : at + limit]
            part = self._generate([prompts[i] for i in rows], [seeds[i] for i in rows], shape)
            for i, row in zip(rows, part, strict=True):
                tokens[i], logprobs[i], finish[i] = row
        return Samples(tokens, logprobs, finish, self._version)

    def _generate(self, prompts: list[Sequence[int]], seeds: list[int], shape: DecodeShape) -> Iterator[Row]:
        shards = math.prod(self.mesh.shape[a] for a in BATCH_AXES) if self.mesh else 1
        B = -(-bucket(len(prompts), smallest=1) // shards) * shards
        prompt_BP, length_B = pad_rows(prompts, rows_to=B, smallest=32)
        seed_B = np.zeros(B, np.uint32)
        seed_B[: len(seeds)] = seeds
        arrays = (prompt_BP, np.maximum(length_B, 1), seed_B, length_B > 0)
        if self.mesh:
            arrays = jax.device_put(arrays, batch_sharding(self.mesh))
        tokens, logp, length, done = jax.device_get(_generate_groups(self._model, *arrays, shape))
        for b in range(len(prompts)):
            yield (
                [ids[:n].tolist() for ids, n in zip(tokens[b], length[b], strict=True)],
                [values[:n].tolist() for values, n in zip(logp[b], length[b], strict=True)],
                ["stop" if d else "length" for d in done[b]],
            )


def draw(logits_BGV: jax.Array, key_BG: jax.Array, params: SamplingParams) -> tuple[jax.Array, jax.Array]:
    """One token a row and its log-probability at the temperature (before top-k and top-p).

    Args:
      logits_BGV: float32.
      key_BG: a random key a row.
      params: temperature, top-p, top-k; static.
    """
    scaled = logits_BGV / params.temperature if params.temperature else logits_BGV
    logp_BGV = jax.nn.log_softmax(scaled)
    if params.temperature:
        kept = _truncate(logp_BGV, params)
        noise = jax.vmap(jax.vmap(lambda k: jax.random.gumbel(k, logits_BGV.shape[-1:])))(key_BG)
        token_BG = jnp.argmax(kept + noise, axis=-1)
    else:
        token_BG = jnp.argmax(logp_BGV, axis=-1)
    return token_BG.astype(jnp.int32), jnp.take_along_axis(logp_BGV, token_BG[..., None], axis=-1)[..., 0]


def _truncate(logp_BGV: jax.Array, params: SamplingParams) -> jax.Array:
    kept = logp_BGV
    if params.top_k:
        kth = jax.lax.top_k(kept, params.top_k)[0][..., -1:]
        kept = jnp.where(kept < kth, -jnp.inf, kept)
    if params.top_p < 1.0:
        ordered = jnp.sort(jax.nn.softmax(kept), axis=-1, descending=True)
        before = jnp.cumsum(ordered, axis=-1) - ordered
        least = jnp.min(jnp.where(before < params.top_p, ordered, jnp.inf), axis=-1, keepdims=True)
        kept = jnp.where(jax.nn.softmax(kept) < least, -jnp.inf, kept)
    return kept


@functools.partial(jax.jit, static_argnames="shape")
def _generate_groups(
    model: Transformer,
    prompt_BP: jax.Array,
    length_B: jax.Array,
    seed_B: jax.Array,
    real_B: jax.Array,
    shape: DecodeShape,
):
    prefix, last_BD = prefill(model, prompt_BP, length_B, shape.dtype)
    key_BG = jax.vmap(
        lambda seed: jax.vmap(lambda g: jax.random.fold_in(jax.random.key(seed), g))(jnp.arange(shape.group))
    )(seed_B)
    state = _initial_state(model, last_BD, real_B, shape)
    step = functools.partial(_decode_step, model, prefix, length_B, key_BG, shape)
    state = jax.lax.while_loop(lambda s: (s.next < shape.params.max_tokens) & ~jnp.all(s.done_BG), step, state)
    return state.tokens_BGR, state.logp_BGR, state.length_BG, state.done_BG


def prefill(
    model: Transformer, prompt_BP: jax.Array, length_B: jax.Array, dtype: jnp.dtype
) -> tuple[KeyValues, jax.Array]:
    """Runs each prompt once: its keys and values [L, B, P, K, H] and the last real token's hidden state [B, D]."""
    positions = jnp.broadcast_to(jnp.arange(prompt_BP.shape[1]), prompt_BP.shape)
    hidden_BPD, prefix = model.hidden(prompt_BP, positions, lambda q, kv: (attend_causal(q, kv), kv), dtype=dtype)
    last_B1D = jnp.take_along_axis(hidden_BPD, (length_B - 1)[:, None, None], axis=1)
    return prefix, last_B1D[:, 0]


def _logits(model: Transformer, hidden: jax.Array) -> jax.Array:
    return jnp.einsum("...d,vd->...v", hidden, model.head_VD.astype(hidden.dtype), preferred_element_type=jnp.float32)


def _initial_state(model: Transformer, last_BD: jax.Array, real_B: jax.Array, shape: DecodeShape) -> DecodeState:
    c, R, B, G = model.shape, shape.params.max_tokens, last_BD.shape[0], shape.group
    empty = jnp.zeros((c.depth, B, G, R, c.kv_heads, c.head_dim), shape.dtype)
    first_B1V = _logits(model, last_BD)[:, None]
    return DecodeState(
        next=jnp.int32(0),
        logits_BGV=jnp.broadcast_to(first_B1V, (B, G, first_B1V.shape[-1])),
        cache_LBGR=KeyValues(empty, empty),
        tokens_BGR=jnp.zeros((B, G, R), jnp.int32),
        logp_BGR=jnp.zeros((B, G, R), jnp.float32),
        length_BG=jnp.zeros((B, G), jnp.int32),
        done_BG=jnp.broadcast_to(~real_B[:, None], (B, G)),
    )


def _decode_step(
    model: Transformer,
    prefix: KeyValues,
    length_B: jax.Array,
    key_BG: jax.Array,
    shape: DecodeShape,
    state: DecodeState,
) -> DecodeState:
    r, (B, G) = state.next, state.done_BG.shape
    keys = jax.vmap(jax.vmap(lambda k: jax.random.fold_in(k, r)))(key_BG)
    token_BG, logp_BG = draw(state.logits_BGV, keys, shape.params)
    alive_BG = ~state.done_BG
    stopped_BG = jnp.isin(token_BG, jnp.asarray(shape.stop_ids, jnp.int32))
    own_mask_TU = (jnp.arange(shape.params.max_tokens) <= r)[None]

    def attend(q_BSNH, kv, layer):
        own, prefix_kv = layer
        own = jax.tree.map(
            lambda cache, new: jax.lax.dynamic_update_slice_in_dim(
                cache, new.reshape(B, G, 1, *new.shape[2:]), r, axis=2
            ),
            own,
            kv,
        )
        q_BGTNH = q_BSNH.reshape(B, G, 1, *q_BSNH.shape[2:])
        return attend_prefix(q_BGTNH, own, own_mask_TU, prefix_kv, length_B).reshape(q_BSNH.shape), own

    positions_BG = jnp.broadcast_to(length_B[:, None] + r, (B, G))
    hidden_BGD, cache = model.hidden(token_BG, positions_BG, attend, (state.cache_LBGR, prefix), dtype=shape.dtype)
    return DecodeState(
        next=r + 1,
        logits_BGV=_logits(model, hidden_BGD),
        cache_LBGR=cache,
        tokens_BGR=state.tokens_BGR.at[:, :, r].set(jnp.where(alive_BG, token_BG, 0)),
        logp_BGR=state.logp_BGR.at[:, :, r].set(jnp.where(alive_BG, logp_BG, 0.0)),
        length_BG=state.length_BG + alive_BG,
        done_BG=state.done_BG | stopped_BG,
    )
