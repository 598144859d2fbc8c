"""A layer for decoding whose products that read the same are one: queries, keys and values; gate and up.

XLA for GPUs joins the weights of such products itself where it finds them apart: in a decode loop, anew for every
token, which reads and writes as much again as the weights have.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx

from stgrpo.models.transformer import Layers

_AS_THEY_ARE = ("attention_norm", "q_norm", "k_norm", "o", "mlp_norm", "down")
_QKV = ("q", "k", "v")


class JoinedLayer(Layers):
    """One layer, joined along axes that a mesh does not cut: `qkv` [D, K, N / K + 2, H], `gate_up` [D, 2, F].

    Where a mesh cuts query heads but not the fewer key and value heads, q, k and v stay apart.
    """

    def __init__(self, layer: Layers):
        """Of one layer; see `lora.merged_layer`."""
        parts = {name: getattr(layer, name)[...] for name in vars(layer) if isinstance(getattr(layer, name), nnx.Param)}
        for name in _AS_THEY_ARE:
            if name in parts:
                setattr(self, name, nnx.Param(parts[name]))
        self.gate_up = nnx.Param(jnp.stack([parts["gate"], parts["up"]], axis=-2))
        bias = [f"{name}_bias" for name in _QKV if f"{name}_bias" in parts]
        if _cut_unlike(*parts["q"].shape[-2:-1], *parts["k"].shape[-2:-1]):
            for name in (*_QKV, *bias):
                setattr(self, name, nnx.Param(parts[name]))
            return
        self.qkv = nnx.Param(_by_key_head(*(parts[name] for name in _QKV)))
        if bias:
            self.qkv_bias = nnx.Param(_by_key_head(*(parts[name] for name in bias)))

    def _queries_keys_values(self, h_BSD: jax.Array) -> Sequence[jax.Array]:
        if not hasattr(self, "qkv"):
            return super()._queries_keys_values(h_BSD)
        out = self._linear(h_BSD, "qkv")
        q = out[..., :-2, :]
        return q.reshape(*q.shape[:-3], -1, q.shape[-1]), out[..., -2, :], out[..., -1, :]

    def _gate_up(self, h_BSD: jax.Array) -> Sequence[jax.Array]:
        out = self._linear(h_BSD, "gate_up")
        return out[..., 0, :], out[..., 1, :]


def _by_key_head(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
    """[..., N, H] and twice [..., K, H] as [..., K, N / K + 2, H]."""
    grouped = q.reshape(*k.shape[:-1], -1, k.shape[-1])
    return jnp.concatenate([grouped, k[..., None, :], v[..., None, :]], axis=-2)


def _cut_unlike(heads: int, kv_heads: int) -> bool:
    mesh = jax.sharding.get_abstract_mesh()
    return not mesh.empty and heads % mesh.shape["tensor"] == 0 and kv_heads % mesh.shape["tensor"] != 0
