"""Every masked reduction of the project. A sum stays a sum until it is divided once by its global denominator."""

import functools

import jax
import jax.numpy as jnp


def length_mask(length: jax.Array, size: int) -> jax.Array:
    """[..., size] of float32: 1 at the first `length` places. Padding is known by length, never by token id."""
    return (jnp.arange(size) < length[..., None]).astype(jnp.float32)


def masked_sum(x: jax.Array, mask: jax.Array, axis: int | tuple[int, ...] | None = None) -> jax.Array:
    """Sum of x where the mask is 1. Values under a zero of the mask do not matter, be they NaN."""
    return jnp.sum(jnp.where(mask > 0, x, 0.0) * mask, axis=axis)


def safe_divide(total: jax.Array, count: jax.Array) -> jax.Array:
    """The quotient total / count, and 0 where nothing was counted."""
    return jnp.where(count > 0, total / jnp.where(count > 0, count, 1.0), 0.0)


def masked_mean(x: jax.Array, mask: jax.Array, axis: int | tuple[int, ...] | None = None) -> jax.Array:
    """Mean of x where the mask is 1; 0 where the mask is empty."""
    return safe_divide(masked_sum(x, mask, axis), jnp.sum(mask, axis=axis))


def response_sum(x: jax.Array, mask: jax.Array, response_id: jax.Array) -> jax.Array:
    """Of each token the sum of x over the real tokens of its response; laid out like x.

    Args:
        x: one number a token, [B, G, R] or rows [X, M].
        mask: 1 for real tokens; the sum at others means nothing.
        response_id: see `LossTerms.response_id`. A group or row has at most as many responses as places.
    """
    rows = x.shape[0]
    value, ids = (jnp.where(mask > 0, x, 0.0).reshape(rows, -1), response_id.reshape(rows, -1))
    sums = jax.vmap(functools.partial(jax.ops.segment_sum, num_segments=value.shape[1]))(value, ids)
    return jnp.take_along_axis(sums, ids, axis=1).reshape(x.shape)


def response_mean(x: jax.Array, mask: jax.Array, response_id: jax.Array) -> jax.Array:
    """Of each token the mean of x over the real tokens of its response; see `response_sum`."""
    return safe_divide(response_sum(x, mask, response_id), response_sum(mask, mask, response_id))
