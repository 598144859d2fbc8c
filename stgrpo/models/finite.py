"""Whether numbers are numbers."""

import functools

import jax
import jax.numpy as jnp


def all_finite(tree: object) -> jax.Array:
    """Whether no number of a tree of arrays is NaN or infinite; one bool, on the devices."""
    leaves = [x for x in jax.tree.leaves(tree) if jnp.issubdtype(x.dtype, jnp.inexact)]
    return functools.reduce(jnp.logical_and, [jnp.all(jnp.isfinite(x)) for x in leaves], jnp.bool_(True))


are_finite = jax.jit(all_finite)
"""The same as a program of its own."""
