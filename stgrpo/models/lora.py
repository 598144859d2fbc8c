"""LoRA (arXiv 2106.09685): changes of low rank to the linear maps of the layers, trained while these stay frozen.

A map becomes y = x W + alpha / rank * (x A) B, with A random and B zero at the start, so that the model starts as its
base. A model with adapters is a `Transformer` like any other; without them its arrays are those of the base.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from stgrpo.models.random import random_key
from stgrpo.models.shapes import LINEAR, ModelShape, adapter_specs, layer_specs, parameter_name, top_specs
from stgrpo.models.transformer import Layers, Transformer, declare, linear


@dataclasses.dataclass(frozen=True)
class Lora:
    """What is adapted, and how.

    Attributes:
        rank: of the changes.
        alpha: they are scaled by alpha / rank.
        targets: names of the linear maps, of `shapes.LINEAR`.
        base_dtype: in which the frozen matrices are kept; norms and biases stay float32.
        seed: of A.
        layers: the last so many are changed; 0: all. No gradient goes through those below, and nothing of them is kept
            for it.
    """

    rank: int
    alpha: float
    targets: tuple[str, ...] = tuple(LINEAR)
    base_dtype: str = "float32"
    seed: int = 0
    layers: int = 0

    def depth(self, shape: ModelShape) -> int:
        """Layers that are changed."""
        return min(self.layers or shape.depth, shape.depth)


class Adapters(nnx.Module):
    """A and B of every target, stacked over layers like the weights; inside the scan, those of one layer.

    Where the last layers alone are changed, B of those below `first` stays zero.
    """

    def __init__(self, shape: ModelShape, lora: Lora):
        self.scale = nnx.static(lora.alpha / lora.rank)
        self.first = nnx.static(shape.depth - lora.depth(shape))
        declare(self, adapter_specs(shape, lora.rank, lora.targets), random_key(lora.seed))

    def has(self, name: str) -> bool:
        """Whether a linear map is adapted."""
        return hasattr(self, name + "_a")

    def pair(self, name: str) -> tuple[jax.Array, jax.Array]:
        """A and B of a linear map."""
        return getattr(self, name + "_a")[...], getattr(self, name + "_b")[...]

    def change(self, x: jax.Array, name: str) -> jax.Array:
        """What is added to the output of a linear map of one layer, in the dtype of its input."""
        a, b = self.pair(name)
        return linear(linear(x, a, None, LINEAR[name]) * self.scale, b, None, 1)


def adapted(base: Transformer, adapters: Adapters) -> Transformer:
    """The base with adapters. Nothing is copied; the base given stays without."""
    model = jax.tree.map(lambda x: x, base)
    model.layers.adapters = adapters
    return model


def merged(model: Transformer) -> Transformer:
    """A model without adapters whose weights have them added, in float32; the model itself if it has none."""
    if not hasattr(model.layers, "adapters"):
        return model
    return _merged(without(model), model.layers.adapters)


@jax.jit
def _merged(base: Transformer, adapters: Adapters) -> Transformer:
    whole = jax.tree.map(lambda x: x, base)
    for name in LINEAR:
        if adapters.has(name):
            change = jax.vmap(lambda a, b: jnp.tensordot(a, b, 1))(*adapters.pair(name)) * adapters.scale
            setattr(whole.layers, name, nnx.Param(getattr(whole.layers, name)[...] + change))
    return whole


def layer_weight(layers: Layers, name: str, layer: int | np.integer | jax.Array) -> jax.Array:
    """One parameter of one layer as in `merged`, without merging the others."""

    def take(stacked: jax.Array) -> jax.Array:
        return jax.lax.dynamic_index_in_dim(stacked, layer, keepdims=False)

    value = take(getattr(layers, name)[...])
    if hasattr(layers, "adapters") and layers.adapters.has(name):
        a, b = map(take, layers.adapters.pair(name))
        value = value + jnp.tensordot(a, b, 1) * layers.adapters.scale
    return value


def merged_layer(layers: Layers, layer: int | jax.Array) -> Layers:
    """All parameters of one layer as in `merged`, without merging the others."""
    base = jax.tree.map(lambda x: x, layers)
    if hasattr(base, "adapters"):
        del base.adapters
    one = jax.tree.map(lambda x: jax.lax.dynamic_index_in_dim(x, layer, keepdims=False), base)
    for name in LINEAR:
        if hasattr(layers, "adapters") and layers.adapters.has(name):
            setattr(one, name, nnx.Param(layer_weight(layers, name, layer)))
    return one


def without(model: Transformer) -> Transformer:
    """The base of a model with adapters."""
    base = jax.tree.map(lambda x: x, model)
    del base.layers.adapters
    return base


def frozen(model: Transformer, dtype: str) -> Transformer:
    """The model with its matrices in a dtype; norms and biases as they are."""
    specs = {**top_specs(model.shape), **layer_specs(model.shape)}

    def cast(path: tuple, leaf: jax.Array) -> jax.Array:
        return leaf.astype(dtype) if specs[parameter_name(path)].fan_in else leaf

    return jax.tree_util.tree_map_with_path(cast, model)
