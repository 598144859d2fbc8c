"""What an update says of the state that it made, among its metrics: whether there are numbers in it that are none."""

import jax
import jax.numpy as jnp

from stgrpo.models.finite import all_finite

FLAGS = {"params_finite": "the parameters", "optimiser_finite": "the state of the optimiser"}
"""Each flag, 1 for finite, and what it is of."""


def state_flags(params: object, opt_state: object) -> dict[str, jax.Array]:
    """One pass over the state inside the update; `divergence.finite_metrics` takes them out again."""
    trees = zip(FLAGS, (params, opt_state), strict=True)
    return {flag: all_finite(tree).astype(jnp.float32) for flag, tree in trees}
