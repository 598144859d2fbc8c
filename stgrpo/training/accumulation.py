"""A batch taken in equal parts, one after the other: the same numbers as in one piece, up to rounding."""

from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp

from stgrpo.training.loss import Sums, combine, empty
from stgrpo.training.packing import Batch

Params = TypeVar("Params")
Rows = TypeVar("Rows", bound=Batch)


def _parts(batch: Rows, count: int) -> Rows:
    """The batch in equal parts on a new leading axis, strided, so that every part has rows of every device."""
    return jax.tree.map(lambda x: x.reshape(x.shape[0] // count, count, *x.shape[1:]).swapaxes(0, 1), batch)


def accumulate(
    loss_fn: Callable[[Params, Batch], tuple[jax.Array, Sums]], params: Params, batch: Batch, micro_batches: int
) -> tuple[Any, jax.Array, Sums]:
    """Gradient, loss and sums of a batch taken in equal parts: the same numbers as in one piece, up to rounding."""
    grad_fn = jax.value_and_grad(loss_fn, has_aux=True)
    if micro_batches == 1:
        (loss, sums), grads = grad_fn(params, batch)
        return grads, loss, sums

    parts = _parts(batch, micro_batches)
    shapes = jax.eval_shape(grad_fn, params, jax.tree.map(lambda x: x[0], parts))
    (_, sums_shape), _ = shapes
    (zero_loss, _), zero_grads = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)

    def body(total, part):
        ((loss, sums), grads), ((more_loss, more_sums), more_grads) = total, grad_fn(params, part)
        return ((loss + more_loss, combine(sums, more_sums)), jax.tree.map(jnp.add, grads, more_grads)), None

    start = (zero_loss, empty(sums_shape)), zero_grads
    ((loss, sums), grads), _ = jax.lax.scan(body, start, parts)
    return grads, loss, sums


def in_parts(function: Callable[[Rows], jax.Array], batch: Rows, micro_batches: int) -> jax.Array:
    """What a function gives for each row of a batch [rows, ...], taken in equal parts."""
    if micro_batches == 1:
        return function(batch)
    found = jax.lax.map(function, _parts(batch, micro_batches)).swapaxes(0, 1)
    return found.reshape(-1, *found.shape[2:])
