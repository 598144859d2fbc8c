"""One attention core for training and for sampling: queries against a shared prefix and against their own past.

A group holds one prompt and G responses. The prompt attends to itself once; each response attends to the prompt's keys
and values, shared by the group, and to its own. The softmax runs over both parts together: merging two softmaxes by
their log-sum-exp gives the same output but, where an implementation stops the gradient of the residual, the wrong
gradient.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from stgrpo.models.shapes import ModelShape

_MASKED = -1e30  # finite, so that a fully masked row gives numbers and no NaN in the backward pass


@dataclasses.dataclass(frozen=True)
class KeyValues:
    """Keys and values of one layer, [..., length, K, H]."""

    k: jax.Array
    v: jax.Array


jax.tree_util.register_dataclass(KeyValues, ["k", "v"], [])


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


def causal_mask(length: int) -> jax.Array:
    """[length, length], true where a query may see a key."""
    return jnp.tril(jnp.ones((length, length), bool))


def attend_causal(q_BSNH: jax.Array, own: KeyValues) -> jax.Array:
    """Causal attention over whole rows, [B, S, N, H]. Right padding needs no mask: nothing real looks at it."""
    S = q_BSNH.shape[1]
    own = KeyValues(own.k[:, None], own.v[:, None])
    return attend_prefix(q_BSNH[:, None], own, causal_mask(S), None, None)[:, 0]


def packed_mask(group_XS: jax.Array, branch_XS: jax.Array | None) -> jax.Array:
    """[X, S, S], true where a token of a packed row may see another: see `stgrpo.training.packing`.

    Args:
      group_XS: the group of each token; 0 for padding, which sees itself.
      branch_XS: 0 for a prompt's token, else the response; None where every group has one response.
    """
    seen_XSS = causal_mask(group_XS.shape[1]) & (group_XS[:, :, None] == group_XS[:, None, :])
    if branch_XS is None:
        return seen_XSS
    query_XS1, key_X1S = branch_XS[:, :, None], branch_XS[:, None, :]
    return seen_XSS & ((key_X1S == 0) | (key_X1S == query_XS1))


def attend_masked(q_BSNH: jax.Array, own: KeyValues, seen_BSS: jax.Array) -> jax.Array:
    """Attention over whole rows with a mask of their own, [B, S, N, H]."""
    return jax.nn.dot_product_attention(q_BSNH, own.k, own.v, mask=seen_BSS[:, None], implementation="xla")


def attend_group(q_BSNH: jax.Array, own: KeyValues, prompt_len_B: jax.Array, *, P: int, G: int) -> jax.Array:
    """Attention of rows that hold a prompt and its G responses, S = P + G * R.

    Args:
      q_BSNH: queries; the first P positions are the prompt's, then R for each response.
      own: keys and values of the same positions, [B, S, K, H].
      prompt_len_B: how many of the P prompt positions are real; responses do not see the others.
      P: padded prompt length.
      G: responses a prompt.

    Returns:
      [B, S, N, H].
    """
    B, S, N, H = q_BSNH.shape
    R = (S - P) // G
    prompt = KeyValues(own.k[:, :P], own.v[:, :P])
    prompt_out = attend_causal(q_BSNH[:, :P], prompt)
    responses = jax.tree.map(lambda x: x[:, P:].reshape(B, G, R, *x.shape[2:]), own)
    q_BGRNH = q_BSNH[:, P:].reshape(B, G, R, N, H)
    response_out = attend_prefix(q_BGRNH, responses, causal_mask(R), prompt, prompt_len_B)
    return jnp.concatenate([prompt_out, response_out.reshape(B, G * R, N, H)], axis=1)


def attend_prefix(
    q_BGTNH: jax.Array,
    own: KeyValues,
    own_mask_TU: jax.Array,
    prefix: KeyValues | None,
    prefix_len_B: jax.Array | None,
) -> jax.Array:
    """Softmax attention over [a prefix shared by the group | each sample's own keys], jointly.

    Args:
      q_BGTNH: T queries for each of the G samples.
      own: [B, G, U, K, H], keys and values of each sample.
      own_mask_TU: true where query t may see own key u; broadcast over the batch.
      prefix: [B, P, K, H], or None.
      prefix_len_B: real length of each prefix; None with no prefix.

    Returns:
      [B, G, T, N, H] in the dtype of the queries.
    """
    B, G, T, N, H = q_BGTNH.shape
    K = own.k.shape[-2]
    q = q_BGTNH.reshape(B, G, T, K, N // K, H) * H**-0.5
    scores = jnp.einsum("bgtkmh,bgukh->bgkmtu", q, own.k, preferred_element_type=jnp.float32)
    scores = jnp.where(own_mask_TU, scores, _MASKED)
    U = scores.shape[-1]
    if prefix is not None:
        P = prefix.k.shape[1]
        prefix_scores = jnp.einsum("bgtkmh,bpkh->bgkmtp", q, prefix.k, preferred_element_type=jnp.float32)
        seen_BP = jnp.arange(P) < prefix_len_B[:, None]
        prefix_scores = jnp.where(seen_BP[:, None, None, None, None], prefix_scores, _MASKED)
        scores = jnp.concatenate([scores, prefix_scores], axis=-1)
    weights = jax.nn.softmax(scores, axis=-1).astype(q.dtype)
    out = jnp.einsum("bgkmtu,bgukh->bgtkmh", weights[..., :U], own.v)
    if prefix is not None:
        out += jnp.einsum("bgkmtp,bpkh->bgtkmh", weights[..., U:], prefix.v)
    return out.reshape(B, G, T, N, H)
