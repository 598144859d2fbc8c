"""Hand-written kernels over a mesh: each device gets its rows and its heads, and sees a plain single-device problem."""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from stgrpo.models.attention.xla import KeyValues
from stgrpo.models.sharding import BATCH_AXES

Kernel = Callable[..., jax.Array]


def on_each_device(kernel: Kernel, q_BSNH: jax.Array, own: KeyValues, *per_row: jax.Array | None) -> jax.Array:
    """`kernel(q_BSNH, own, *per_row)` on the rows and heads of each device; XLA cannot split a custom kernel itself.

    Rows are split over the batch axes of the mesh in the context, heads over `tensor`. Where `tensor` does not divide
    the key and value heads they are repeated until it does; where it does not divide the query heads, every device
    computes all heads, as it does where parameters are concerned (see `sharding.RULES`).

    Args:
        kernel: attention of whole arrays, [B, S, N, H] from the same.
        q_BSNH: queries.
        own: keys and values [B, S, K, H].
        per_row: arrays [B, ...], or None, handed to the kernel.

    Returns:
        [B, S, N, H].
    """
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty or mesh.size == 1:
        return kernel(q_BSNH, own, *per_row)
    N, K, tensor = q_BSNH.shape[2], own.k.shape[2], mesh.shape["tensor"]
    split = tensor > 1 and N % math.lcm(K, tensor) == 0
    if split and K % tensor:
        own = jax.tree.map(lambda x: jnp.repeat(x, math.lcm(K, tensor) // K, axis=2), own)
    heads = PartitionSpec(BATCH_AXES, None, "tensor" if split else None)
    rows = tuple(None if x is None else PartitionSpec(BATCH_AXES) for x in per_row)
    mapped = jax.shard_map(kernel, in_specs=(heads, heads, *rows), out_specs=heads, check_vma=False)
    return mapped(q_BSNH, own, *per_row)
