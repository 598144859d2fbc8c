"""Each process's own copy of the policy for drawing: what travels for it, and that it changes no response."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stgrpo.models.lora import Adapters, Lora, adapted
from stgrpo.models.sharding import make_mesh, tree_shardings
from stgrpo.react.policy import SamplingParams
from stgrpo.sampling.jax import shared
from stgrpo.sampling.jax.sampler import JaxSampler
from stgrpo.sampling.jax.shared import SharedSampler, own_copy, own_mesh

PROMPTS, SEEDS, STOPS = [[5, 9, 2], [7], [1, 2, 3, 4, 5, 6, 7, 8], [60, 61, 62, 63]], [1, 2, 3, 4], (3, 17)


@pytest.fixture(scope="module")
def mesh():
    return make_mesh(1, fsdp=2, devices=jax.devices()[:2])


@pytest.fixture(scope="module")
def model(tiny_shape, make_model, mesh):
    made = jax.tree.map(lambda x: x + 0.1 * jax.random.normal(jax.random.key(1), x.shape), make_model(tiny_shape))
    return jax.device_put(made, tree_shardings(made, tiny_shape, mesh))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_copy_draws_what_the_model_draws(model, mesh, dtype):
    params = SamplingParams(6)
    alone = JaxSampler(model, STOPS, dtype=dtype, mesh=mesh).generate(PROMPTS, 3, params, SEEDS)
    sampler = SharedSampler(model, lambda m, own: JaxSampler(m, STOPS, dtype=dtype, mesh=own), mesh)
    drawn = sampler.generate(PROMPTS, 3, params, SEEDS)
    assert drawn.tokens == alone.tokens and drawn.finish == alone.finish
    pairs = itertools.zip_longest(itertools.chain(*drawn.logprobs), itertools.chain(*alone.logprobs))
    assert all(np.allclose(a, b, atol=1e-5) for a, b in pairs)


def test_matrices_travel_in_the_dtype_of_the_computation_and_nothing_else_is_rounded(model, mesh, monkeypatch):
    texts, gather = [], shared._gather

    def seen(*arguments):
        program = gather(*arguments)
        return lambda leaves: texts.append(program.lower(leaves).compile().as_text()) or program(leaves)

    monkeypatch.setattr(shared, "_gather", seen)
    copy = own_copy(model, mesh, own_mesh(mesh), jnp.dtype("bfloat16"))
    for (path, was), now in zip(jax.tree_util.tree_leaves_with_path(model), jax.tree.leaves(copy), strict=True):
        matrix = not any(word in jax.tree_util.keystr(path) for word in ("norm", "bias"))
        assert now.dtype == (jnp.bfloat16 if matrix else jnp.float32), path
        assert now.sharding.is_fully_replicated
        np.testing.assert_array_equal(np.asarray(now), np.asarray(was.astype(now.dtype)))
        part = ",".join(map(str, was.addressable_shards[0].data.shape))
        assert (
            not matrix or f"-> bf16[{part}]" in texts[0] or f"= bf16[{part}]" in texts[0]
        )  # each device's, before it goes


def test_with_adapters_all_stays_as_it_is(model, tiny_shape, mesh):
    adapters = Adapters(tiny_shape, Lora(2, 4.0))
    both = adapted(model, adapters)
    copy = own_copy(both, mesh, own_mesh(mesh), jnp.dtype("bfloat16"))
    assert all(x.dtype == jnp.float32 for x in jax.tree.leaves(copy))
