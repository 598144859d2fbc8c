"""Every masked reduction of the project. A sum stays a sum until it is divided once by its global denominator."""

import jax
import jax.numpy as jnp


def length_mask(length: jax.Array, size: int) -> jax.Array:
    """[..., size] of float32: 1 at the first `length` places. Padding is known by length, never by token id."""
    return (jnp.arange(size) < length[..., None]).astype(jnp.float32)


def masked_sum(x: jax.Array, mask: jax.Array, axis: int | tuple[int, ...] | None = None) -> jax.Array:
    """Sum of x where the mask is 1. Values under a zero of the mask do not matter, be they NaN."""
    return jnp.sum(jnp.where(mask > 0, x, 0.0) * mask, axis=axis)


def safe_divide(total: jax.Array, count: jax.Array) -> jax.Array:
    """total / count, and 0 where nothing was counted."""
    return jnp.where(count > 0, total / jnp.where(count > 0, count, 1.0), 0.0)


def masked_mean(x: jax.Array, mask: jax.Array, axis: int | tuple[int, ...] | None = None) -> jax.Array:
    """Mean of x where the mask is 1; 0 where the mask is empty."""
    return safe_divide(masked_sum(x, mask, axis), jnp.sum(mask, axis=axis))
