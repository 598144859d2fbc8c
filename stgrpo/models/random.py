"""Random numbers that are the same whatever the environment says of JAX's generator and of its default dtypes.

`JAX_DEFAULT_PRNG_IMPL` may name a generator whose numbers depend on what else a `vmap` draws,
`JAX_RANDOM_SEED_OFFSET` is added to every seed that JAX makes a key of, `JAX_THREEFRY_PARTITIONABLE` changes the
numbers of a key, and with `JAX_ENABLE_X64` they would be float64 where no dtype is given. So keys and numbers are made
here and nowhere else.
"""

import jax
import jax.numpy as jnp
import numpy as np

IMPLEMENTATION = "threefry2x32"
SEEDS = 2**32  # there are so many: a key of threefry is made of one word of 32 bits
_CUT = 2.0  # standard deviations
_CUT_DEVIATION = 0.87962566103423978  # of a standard normal cut off there (scipy.stats.truncnorm(-2, 2).std())


def random_key(seed: int | jax.Array) -> jax.Array:
    """The key of a seed, also of one that is traced.

    Raises:
        ValueError: a seed that is not from 0 to 2**32 - 1, of which two would have one key.
    """
    word = seed.astype(jnp.uint32) if isinstance(seed, jax.Array) else np.uint32(checked_seed(seed))
    return jax.random.wrap_key_data(jnp.stack([jnp.zeros_like(word), word]), impl=IMPLEMENTATION)


def checked_seed(seed: int) -> int:
    """The seed itself.

    Raises:
        ValueError: it is not from 0 to 2**32 - 1.
    """
    if not 0 <= seed < SEEDS:
        raise ValueError(f"seed={seed} must be at least 0 and below {SEEDS}, or two seeds would draw the same")
    return seed


def truncated_normal(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Float32 numbers of mean 0 and variance 1, from a normal cut off on both sides."""
    with jax.threefry_partitionable(True):
        return jax.random.truncated_normal(key, -_CUT, _CUT, shape, jnp.float32) / _CUT_DEVIATION


def gumbel(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Float32 numbers whose largest, added to log-probabilities, is a draw of them."""
    with jax.threefry_partitionable(True):
        return jax.random.gumbel(key, shape, jnp.float32)


def split(key: jax.Array, count: int = 2) -> jax.Array:
    """Keys that depend on the key and their number alone."""
    with jax.threefry_partitionable(True):
        return jax.random.split(key, count)
