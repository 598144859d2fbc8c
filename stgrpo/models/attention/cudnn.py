"""Attention on NVIDIA GPUs: cuDNN's fused kernel behind `jax.nn.dot_product_attention`, in bfloat16.

A group is two calls. Its prompt is a plain causal row. Its responses are G rows of R queries against
[own keys | the prompt's keys]: own keys first, so that what is padding, the end of the prompt, is the end of the row
and goes in as a length, and one small mask, causal over the own part, serves all rows. Each response has a copy of the
prompt's keys and values, which is little where few heads of them serve many queries.
"""

import functools

import jax
import jax.numpy as jnp

from stgrpo.models.attention.mesh import on_each_device
from stgrpo.models.attention.xla import KeyValues, packed_mask


def attend_packed(
    q_BSNH: jax.Array, own: KeyValues, group_BS: jax.Array | None, branch_BS: jax.Array | None, emulated: bool
) -> jax.Array:
    """See `attention.attend_packed`; with `emulated` XLA answers the call to cuDNN."""
    S = q_BSNH.shape[1]
    fused = _fused(emulated)

    def kernel(q, kv, group, branch):
        if group is None:
            return fused(q, kv.k, kv.v, is_causal=True)
        q, k, v = (_even(x) for x in (q, kv.k, kv.v))
        group, branch = (None if x is None else _even(x) for x in (group, branch))
        T = q.shape[1]
        return fused(q, k, v, mask=packed_mask(group, branch, slice(0, T), T)[:, None], is_causal=True)[:, :S]

    return on_each_device(kernel, q_BSNH, own, group_BS, branch_BS)


def attend_group(
    q_BSNH: jax.Array, own: KeyValues, prompt_len_B: jax.Array, *, P: int, G: int, emulated: bool
) -> jax.Array:
    """See `attention.attend_group`; with `emulated` XLA answers the call to cuDNN."""
    R = (q_BSNH.shape[1] - P) // G
    fused = _fused(emulated)

    def kernel(q, kv, prompt_len):
        B = q.shape[0]
        prompt_out = fused(q[:, :P], kv.k[:, :P], kv.v[:, :P], is_causal=True)
        q_XRNH, k_XRKH, v_XRKH = (_even(x[:, P:].reshape(B * G, R, *x.shape[2:])) for x in (q, kv.k, kv.v))
        k, v = (
            jnp.concatenate([mine, jnp.repeat(_even(x[:, :P]), G, axis=0)], axis=1)
            for mine, x in ((k_XRKH, kv.k), (v_XRKH, kv.v))
        )
        T, U = q_XRNH.shape[1], k.shape[1]
        seen_TU = (jnp.arange(U) <= jnp.arange(T)[:, None]) | (jnp.arange(U) >= T)
        length_X = jnp.repeat(T + prompt_len, G).astype(jnp.int32)
        out = fused(q_XRNH, k, v, mask=seen_TU[None, None], key_value_seq_lengths=length_X)
        return jnp.concatenate([prompt_out, out[:, :R].reshape(B, G * R, *q.shape[2:])], axis=1)

    return on_each_device(kernel, q_BSNH, own, prompt_len_B)


def _fused(emulated: bool) -> functools.partial:
    return functools.partial(jax.nn.dot_product_attention, implementation="xla" if emulated else "cudnn")


def _even(x: jax.Array) -> jax.Array:
    """Rows of even length, which cuDNN wants where a mask is given."""
    return jnp.pad(x, [(0, 0), (0, x.shape[1] % 2)] + [(0, 0)] * (x.ndim - 2))
