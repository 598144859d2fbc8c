"""The decoder: Qwen2/2.5, Qwen3 and Llama 3 in Flax NNX by their shape, its layers stacked, scanned and rematerialised.

NNX modules are pytrees, so the model goes straight through `jax.jit`, `jax.grad`, `jax.lax.scan` and optax.
Parameters are float32; the forward pass computes in the dtype it is asked for.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import jax
import jax.numpy as jnp
from flax import nnx

from stgrpo.models.attention.xla import (
    XLA,
    AttentionCore,
    KeyValues,
    attend_causal,
    attend_packed,
    rotary,
    rotary_frequencies,
    rotate,
)
from stgrpo.models.random import split
from stgrpo.models.shapes import LINEAR, ModelShape, ParameterSpec, layer_specs, top_specs
from stgrpo.models.sharding import constrain_batch, constrain_width

Carry = TypeVar("Carry")
Stacked = TypeVar("Stacked")
Attend = Callable[..., tuple[jax.Array, Carry]]
"""Of queries and new keys and values, and of what a layer has besides (`Transformer.hidden`)."""


def rms_norm(x: jax.Array, scale_D: jax.Array, eps: float) -> jax.Array:
    """Root-mean-square norm (arXiv 1910.07467), computed in float32."""
    y = x.astype(jnp.float32)
    y *= jax.lax.rsqrt(jnp.mean(y * y, axis=-1, keepdims=True) + eps)
    return (y * scale_D).astype(x.dtype)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def linear(x: jax.Array, w: jax.Array, bias: jax.Array | None, inputs: int) -> jax.Array:
    """Returns x W + bias over the last `inputs` axes of x and the first of w, [..., outputs of w], in the dtype of x.

    Its own gradient, for two reasons. Those of W and bias are sums over all tokens and all devices, which stay in
    float32. And the derivative of a product has W the other way round and turned back, for which XLA copies the large
    gradient of the output so that its columns are rows; asked for as W lies, it comes more than twice as fast on a CPU.
    """
    out = jnp.tensordot(x, w.astype(x.dtype), inputs)
    return out if bias is None else out + bias.astype(x.dtype)


def _linear_forward(x: jax.Array, w: jax.Array, bias: jax.Array | None, inputs: int):
    return linear(x, w, bias, inputs), (x, w, bias)


def _linear_backward(inputs: int, kept: tuple[jax.Array, jax.Array, jax.Array | None], d_out: jax.Array):
    x, w, bias = kept
    tokens, outputs = tuple(range(x.ndim - inputs)), w.ndim - inputs
    d_x = jnp.tensordot(d_out, w.astype(x.dtype), (tuple(range(-outputs, 0)), tuple(range(inputs, w.ndim))))
    d_w = jnp.tensordot(x, d_out, (tokens, tokens), preferred_element_type=jnp.float32)
    d_bias = None if bias is None else jnp.sum(d_out, axis=tokens, dtype=jnp.float32).astype(bias.dtype)
    return d_x, d_w.astype(w.dtype), d_bias


linear.defvjp(_linear_forward, _linear_backward)


class Layers(nnx.Module):
    """The parameters of all layers on one leading axis; inside the scan, those of one layer."""

    attention_norm: nnx.Param[jax.Array]
    mlp_norm: nnx.Param[jax.Array]
    q_norm: nnx.Param[jax.Array]
    k_norm: nnx.Param[jax.Array]

    def __init__(self, shape: ModelShape, key: jax.Array):
        declare(self, layer_specs(shape), key)

    def __call__(self, x_BSD: jax.Array, rope: tuple[jax.Array, jax.Array], attend: Attend, eps: float):
        """One pre-norm block. `attend` gets queries and the new keys and values, and returns what the scan keeps."""
        with jax.named_scope("attention"):
            h = rms_norm(x_BSD, self.attention_norm[...], eps)
            q, k, v = self._queries_keys_values(h)
            if hasattr(self, "q_norm"):
                q, k = rms_norm(q, self.q_norm[...], eps), rms_norm(k, self.k_norm[...], eps)
            out, kept = attend(rotate(q, rope), KeyValues(rotate(k, rope), v))
            x_BSD += self._linear(out, "o")
        with jax.named_scope("mlp"):
            h = rms_norm(x_BSD, self.mlp_norm[...], eps)
            gate, up = self._gate_up(h)
            x_BSD += self._linear(jax.nn.silu(gate) * up, "down")
        return x_BSD, kept

    def _queries_keys_values(self, h_BSD: jax.Array) -> Sequence[jax.Array]:
        return [self._linear(h_BSD, name) for name in ("q", "k", "v")]

    def _gate_up(self, h_BSD: jax.Array) -> Sequence[jax.Array]:
        return [self._linear(h_BSD, name) for name in ("gate", "up")]

    def _linear(self, x: jax.Array, name: str) -> jax.Array:
        """One linear map, with its bias and its adapter (`models.lora`) where it has them, in its input's dtype."""
        bias = getattr(self, name + "_bias")[...] if hasattr(self, name + "_bias") else None
        weight, inputs = getattr(self, name)[...], LINEAR.get(name, 1)
        if not (hasattr(self, "adapters") and self.adapters.has(name)):
            return linear(x, weight, bias, inputs)
        out = linear(x, weight, None, inputs) + self.adapters.change(x, name)
        return out if bias is None else out + bias.astype(x.dtype)


class Transformer(nnx.Module):
    """A decoder with its head. Every method is pure; under `jax.eval_shape` it is an abstract model."""

    embedding: nnx.Param[jax.Array]
    head: nnx.Param[jax.Array]
    final_norm: nnx.Param[jax.Array]
    before_k: nnx.Variable[jax.Array]
    before_v: nnx.Variable[jax.Array]

    def __init__(self, shape: ModelShape, key: jax.Array, *, remat: bool = True, core: AttentionCore = XLA):
        """With `remat` the backward pass computes each layer again instead of keeping what is inside it."""
        top_key, layer_key = split(key)
        self.shape = nnx.static(shape)
        self.remat = nnx.static(remat)
        self.core = nnx.static(core)
        declare(self, top_specs(shape), top_key)
        self.layers = Layers(shape, layer_key)

    @property
    def before(self) -> KeyValues | None:
        """Keys and values [L, C, K, H] of what the model has read before whatever it is given; see `primed`."""
        return KeyValues(self.before_k[...], self.before_v[...]) if hasattr(self, "before_k") else None

    @property
    def head_VD(self) -> jax.Array:
        """The output embedding: the input's when tied."""
        return (self.embedding if self.shape.tie_embeddings else self.head)[...]

    def hidden(
        self,
        tokens_BS: jax.Array,
        positions_BS: jax.Array,
        attend: Attend,
        layered=None,
        dtype=jnp.float32,
        *,
        below_BSD: jax.Array | None = None,
    ):
        """Final hidden states of rows of tokens.

        Args:
            tokens_BS: token ids.
            positions_BS: their positions.
            attend: called in each layer as `attend(q_BSNH, new KeyValues)`, or with that layer's slice of `layered`
                as third argument if there is one; returns the attention output and what is to be kept of the layer.
            layered: a pytree with leading axis L, such as a cache.
            dtype: of the computation.
            below_BSD: what `below` gave for these rows, in place of going through those layers; None to go.

        Returns:
            hidden_BSD after the final norm, and what was kept, stacked over layers; of those above alone where
            `below_BSD` stands for the others.
        """
        body, (frozen, above) = self._body(positions_BS, attend), self._halves(layered)
        kept_below = None
        if below_BSD is not None:
            x_BSD = constrain_batch(below_BSD.astype(dtype))
        else:
            x_BSD, kept_below = self._through_frozen(body, tokens_BS, frozen, dtype)
        x_BSD, kept = jax.lax.scan(body, x_BSD, above)
        if kept_below is not None:
            kept = jax.tree.map(lambda *parts: jnp.concatenate(parts), kept_below, kept)
        return rms_norm(x_BSD, self.final_norm[...], self.shape.norm_eps), kept

    def below(self, tokens_BS: jax.Array, positions_BS: jax.Array, attend: Attend, layered=None, dtype=jnp.float32):
        """What the layers below all adapters give, [B, S, D]: the same as long as no adapter is among them."""
        frozen, _ = self._halves(layered)
        return self._through_frozen(self._body(positions_BS, attend), tokens_BS, frozen, dtype)[0]

    def _body(self, positions_BS: jax.Array, attend: Attend):
        """What a scan does in each layer."""
        rope = rotary(positions_BS, rotary_frequencies(self.shape))

        def body(x, scanned):
            layer, extra = scanned
            here = attend if extra is None else lambda q, kv: attend(q, kv, extra)
            return layer(constrain_batch(x), rope, here, self.shape.norm_eps)

        return jax.checkpoint(body) if self.remat else body

    def _halves(self, layered):
        """The layers below all adapters, where no gradient is asked for, and the others, each with its extra.

        None and all of them, where all have adapters or none has.
        """
        first = self.layers.adapters.first if hasattr(self.layers, "adapters") else 0
        if not first:
            return None, (self.layers, layered)
        below, above = _cut((self.layers, layered), first)
        del below[0].adapters
        return jax.lax.stop_gradient(below), above

    def _through_frozen(self, body, tokens_BS: jax.Array, frozen, dtype: jnp.dtype):
        """Embeddings, taken through the layers below all adapters; and what was kept of these."""
        x_BSD = constrain_width(jnp.take(self.embedding[...], tokens_BS, axis=0)).astype(dtype)
        x_BSD = constrain_batch(x_BSD)
        return (x_BSD, None) if frozen is None else jax.lax.scan(body, x_BSD, frozen)


def _cut(stacked: Stacked, at: int) -> tuple[Stacked, Stacked]:
    """The first so many layers of a pytree that has them on its leading axis, and the others."""
    return jax.tree.map(lambda x: x[:at], stacked), jax.tree.map(lambda x: x[at:], stacked)


def primed(model: Transformer, before: KeyValues | None) -> Transformer:
    """The model as it is after it has read some tokens: whatever it is given comes behind them.

    Args:
        model: nothing of it is copied; the one given stays as it is.
        before: what `keys_values` gave; None for the model itself.
    """
    if before is None:
        return model
    model = jax.tree.map(lambda x: x, model)
    model.before_k, model.before_v = nnx.Variable(before.k), nnx.Variable(before.v)
    return model


def keys_values(model: Transformer, token_C: Sequence[int] | jax.Array, dtype=jnp.float32) -> KeyValues:
    """What all layers keep of one text, [L, C, K, H] float32, differentiable.

    Float32 whatever it is computed in, since its gradient is a sum over all that comes behind it.
    """
    token_BC = jnp.asarray([token_C], jnp.int32)

    def attend(q, kv):
        return attend_causal(q, kv, core=model.core), kv

    _, kept_LBCKH = model.hidden(token_BC, jnp.arange(len(token_C))[None], attend, dtype=dtype)
    return jax.tree.map(lambda x: x[:, 0].astype(jnp.float32), kept_LBCKH)


def packed_hidden(
    model: Transformer,
    token_XS: jax.Array,
    position_XS: jax.Array,
    place_XS: tuple[jax.Array, jax.Array | None],
    dtype=jnp.float32,
) -> jax.Array:
    """Hidden states [X, S, D] of packed rows; `place_XS` is the group and the branch of each token (`PackedBatch`)."""

    def attend(q, kv, before=None):
        return attend_packed(q, kv, group_BS=place_XS[0], branch_BS=place_XS[1], before=before, core=model.core), None

    return model.hidden(token_XS, *behind(model, position_XS, dtype, attend))[0]


def behind(
    model: Transformer, position_BS: jax.Array, dtype: jnp.dtype, attend: Attend
) -> tuple[jax.Array, Attend, KeyValues | None, jnp.dtype]:
    """The arguments of `Transformer.hidden` after the tokens: rows behind what the model has read before, if anything.

    Args:
        model: see `primed`.
        position_BS: of the tokens, from 0.
        dtype: of the computation.
        attend: among the rows; what was read before is its third argument.
    """
    before = model.before
    if before is None:
        return position_BS, attend, None, dtype
    return before.k.shape[1] + position_BS, attend, jax.tree.map(lambda x: x.astype(dtype), before), dtype


def dense_hidden(model: Transformer, tokens_BS: jax.Array, dtype=jnp.float32) -> jax.Array:
    """Hidden states of plain rows, the prompt repeated with each response: what `grouped.row_hidden` is held to."""
    positions_BS = jnp.broadcast_to(jnp.arange(tokens_BS.shape[1]), tokens_BS.shape)

    def attend(q, kv):
        return attend_causal(q, kv, core=model.core), None

    return model.hidden(tokens_BS, positions_BS, attend, dtype=dtype)[0]


def declare(module: nnx.Module, specs: Mapping[str, ParameterSpec], key: jax.Array) -> None:
    """Gives a module the parameters of a table, at their start."""
    for (name, spec), k in zip(specs.items(), split(key, len(specs)), strict=True):
        setattr(module, name, nnx.Param(spec.initial(k)))
