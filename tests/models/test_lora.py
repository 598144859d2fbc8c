"""Adapters against weights that NumPy has merged: outputs, gradients, and what is left alone."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stgrpo.models.huggingface.weights import named_arrays
from stgrpo.models.lora import Adapters, Lora, adapted, frozen, merged, merged_layer, without
from stgrpo.models.shapes import LINEAR, adapter_specs, layer_specs
from stgrpo.models.sharding import make_mesh, tree_shardings
from stgrpo.models.transformer import dense_hidden
from stgrpo.react.policy import SamplingParams
from stgrpo.sampling.jax.sampler import JaxSampler

LORA = Lora(rank=3, alpha=6.0)
# Equations over layers: a weight from its pair, and back from the gradient of the weight to those of the pair.
MERGE = {name: "ldr,lrnh->ldnh" if name in "qkv" else "lnhr,lrd->lnhd" if name == "o" else "lir,lro->lio"
         for name in LINEAR}  # fmt: skip
TOKENS = np.random.default_rng(0).integers(0, 64, (2, 7))


def random_adapters(shape, lora=LORA, seed=5):
    leaves, form = jax.tree.flatten(Adapters(shape, lora))
    keys = jax.random.split(jax.random.key(seed), len(leaves))
    adapters = form.unflatten([0.2 * jax.random.normal(k, x.shape) for x, k in zip(leaves, keys, strict=True)])
    for name in lora.targets:  # as training leaves them
        b = getattr(adapters, name + "_b")
        b[...] = b[...].at[: adapters.first].set(0.0)
    return adapters


def merged_by_hand(base, adapters, names):
    """The base with alpha / rank * A B added to its weights, in float64."""
    model = jax.tree.map(lambda x: x, base)
    for name in names:
        a, b = (np.asarray(getattr(adapters, name + part)[...], np.float64) for part in ("_a", "_b"))
        weight = np.asarray(getattr(base.layers, name)[...]) + 2.0 * np.einsum(MERGE[name], a, b)
        getattr(model.layers, name)[...] = jnp.asarray(weight, jnp.float32)
    return model


def loss(model):
    hidden = dense_hidden(model, TOKENS)
    return jnp.sum(hidden * jax.random.normal(jax.random.key(9), hidden.shape))


@pytest.fixture(scope="module")
def base(tiny_shape, make_model):
    return make_model(tiny_shape)


@pytest.fixture(scope="module", params=[(tuple(LINEAR), 0), (("q", "down"), 0), (tuple(LINEAR), 1)], ids=str)
def pair(request, tiny_shape):
    """Random adapters, of all layers or the last one, and the names of their targets."""
    targets, layers = request.param
    return random_adapters(tiny_shape, dataclasses.replace(LORA, targets=targets, layers=layers)), targets


def test_a_model_with_adapters_is_the_merged_one(base, pair):
    adapters, names = pair
    by_hand = merged_by_hand(base, adapters, names)
    wanted = jax.jit(dense_hidden)(by_hand, TOKENS)
    model = adapted(base, adapters)
    assert np.abs(jax.jit(dense_hidden)(base, TOKENS) - wanted).max() > 0.1
    np.testing.assert_allclose(jax.jit(dense_hidden)(model, TOKENS), wanted, atol=1e-5)
    for mine, other in zip(jax.tree.leaves(merged(model)), jax.tree.leaves(by_hand), strict=True):
        np.testing.assert_allclose(mine, other, atol=1e-6)


def test_servers_and_exports_get_the_merged_weights_layer_by_layer(base, pair):
    model = adapted(base, pair[0])
    for (name, mine), (other_name, other) in zip(
        named_arrays(model), named_arrays(merged_by_hand(base, *pair)), strict=True
    ):
        assert name == other_name
        np.testing.assert_allclose(mine, other, atol=1e-6)


def test_the_sampler_draws_the_same_from_adapters_as_from_the_merged_model(base, pair):
    drawn = []
    for model in (adapted(base, pair[0]), merged_by_hand(base, *pair), base):
        sampler = JaxSampler(model, (63,))
        drawn.append(sampler.generate([[1, 2, 3], [4, 5]], 2, SamplingParams(max_tokens=8), seeds=[0, 1]))
    assert drawn[0].tokens == drawn[1].tokens != drawn[2].tokens
    flat = [[x for group in s.logprobs for row in group for x in row] for s in drawn[:2]]
    np.testing.assert_allclose(*flat, atol=1e-5)


def test_gradients_of_adapters_are_those_of_the_weights_projected(base, pair):
    """dL/dA = scale * dL/dW B', dL/dB = scale * A' dL/dW, with dL/dW of the dense model at the merged weights.

    Below the layers that are changed there is none.
    """
    adapters, names = pair
    below = adapters.first
    mine = jax.jit(jax.grad(lambda x: loss(adapted(base, x))))(adapters)
    dense = jax.jit(jax.grad(loss))(merged_by_hand(base, adapters, names))
    for name in names:
        a, b = (np.asarray(getattr(adapters, name + part)[...]) for part in ("_a", "_b"))
        pair_of, weight = MERGE[name].split("->")
        first, second = pair_of.split(",")
        slope = np.asarray(getattr(dense.layers, name)[...])
        wanted_a = 2.0 * np.einsum(f"{weight},{second}->{first}", slope, b)
        wanted_b = 2.0 * np.einsum(f"{first},{weight}->{second}", a, slope)
        for part, wanted in (("_a", wanted_a), ("_b", wanted_b)):
            got = np.asarray(getattr(mine, name + part)[...])
            assert np.abs(got - wanted)[below:].max() < 1e-4 * np.abs(wanted[below:]).max(), name + part
            assert not np.any(got[:below])


def test_gradients_equal_finite_differences(base, tiny_shape):
    adapters = random_adapters(tiny_shape)
    value, slope = jax.jit(jax.value_and_grad(lambda x: loss(adapted(base, x))))(adapters)
    direction = random_adapters(tiny_shape, seed=6)
    step = 1e-3
    sides = [
        jax.jit(lambda x: loss(adapted(base, x)))(jax.tree.map(lambda x, d, s=s: x + s * step * d, adapters, direction))
        for s in (1, -1)
    ]
    expected = sum(jnp.vdot(g, d) for g, d in zip(jax.tree.leaves(slope), jax.tree.leaves(direction), strict=True))
    assert np.isfinite(value)
    np.testing.assert_allclose((sides[0] - sides[1]) / (2 * step), expected, rtol=5e-3)


def test_at_its_start_a_model_with_adapters_is_its_base(base, tiny_shape):
    model = adapted(base, Adapters(tiny_shape, LORA))
    np.testing.assert_array_equal(*(jax.jit(dense_hidden)(m, TOKENS) for m in (model, base)))
    slope = jax.jit(jax.grad(lambda x: loss(adapted(base, x))))(model.layers.adapters)
    assert jnp.abs(slope.q_b[...]).max() > 0 and jnp.abs(slope.q_a[...]).max() == 0
    start = np.asarray(model.layers.adapters.o_a[...])
    assert 0.7 < start.std() * np.sqrt(tiny_shape.heads * tiny_shape.head_dim) < 1.3
    other = Adapters(tiny_shape, dataclasses.replace(LORA, seed=1))
    assert (np.asarray(other.o_a[...]) != start).mean() > 0.9


def test_the_base_is_shared_not_copied_and_never_changed(base, tiny_shape):
    model = adapted(base, random_adapters(tiny_shape))
    assert not hasattr(base.layers, "adapters") and merged(base) is base
    assert model.layers.q[...] is base.layers.q[...] and without(model).layers.q[...] is base.layers.q[...]
    assert jax.tree.structure(without(model)) == jax.tree.structure(base)


def test_a_frozen_base_keeps_norms_and_biases_and_merges_in_float32(base, tiny_shape):
    cold = frozen(base, "bfloat16")
    kinds = {name: getattr(cold.layers, name)[...].dtype for name in layer_specs(tiny_shape)}
    assert {n for n, kind in kinds.items() if kind == jnp.bfloat16} == set(LINEAR)
    assert cold.embedding[...].dtype == jnp.bfloat16 and cold.final_norm[...].dtype == jnp.float32
    adapters = random_adapters(tiny_shape)
    whole, rounded = merged(adapted(cold, adapters)), jax.tree.map(lambda x: x.astype(jnp.float32), cold)
    assert whole.layers.q[...].dtype == jnp.float32
    for mine, other in zip(
        jax.tree.leaves(whole), jax.tree.leaves(merged_by_hand(rounded, adapters, LINEAR)), strict=True
    ):
        np.testing.assert_allclose(mine, other, atol=1e-6)


def test_a_layer_merged_by_itself_is_that_of_the_whole(base, tiny_shape):
    model = adapted(base, random_adapters(tiny_shape))
    whole = merged(model).layers
    for at in range(tiny_shape.depth):
        for mine, other in zip(jax.tree.leaves(merged_layer(model.layers, at)), jax.tree.leaves(whole), strict=True):
            np.testing.assert_allclose(mine, other[at], atol=1e-6)
    assert hasattr(model.layers, "adapters")


def test_adapters_are_cut_like_the_weights_they_change(tiny_shape):
    mesh = make_mesh(2, 2, 2)
    abstract = jax.eval_shape(lambda: Adapters(tiny_shape, dataclasses.replace(LORA, rank=4)))
    placed = jax.tree_util.tree_leaves_with_path(tree_shardings(abstract, tiny_shape, mesh))
    cut = {path[0].name: tuple(sharding.spec) for path, sharding in placed}
    assert cut["q_a"] == (None, "fsdp", None) and cut["q_b"] == (None, "fsdp", "tensor", None)
    assert cut["o_a"] == (None, "tensor", None, "fsdp") and cut["o_b"] == (None, None, "fsdp")
    assert cut["down_a"] == (None, "tensor", "fsdp") and cut["gate_b"] == (None, "fsdp", "tensor")
    sizes = {name: spec.shape for name, spec in adapter_specs(tiny_shape, 4).items()}
    assert sizes["o_a"] == (2, 4, 8, 4) and sizes["k_b"] == (2, 4, 2, 8)
    assert {name: getattr(abstract, name).shape for name in sizes} == sizes
