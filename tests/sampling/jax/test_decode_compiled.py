"""The decode loop compiled for a GPU that is not there: for a token the weights are read, and not copied."""

import importlib.util
import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stgrpo.models.shapes import ModelShape
from stgrpo.models.sharding import make_mesh, replicated
from stgrpo.plan.topologies import target
from stgrpo.react.policy import SamplingParams
from stgrpo.sampling.jax.decode import DecodeShape, NewPrompts, decode, decode_weights, empty_slots, prefill_prompts
from stgrpo.training.start import abstract_model

COMPILER = "jax_cuda13_plugin"
SHAPE = ModelShape(2048, 1536, 2, heads=12, kv_heads=2, head_dim=128, mlp_width=8960)  # a layer of Qwen2.5-1.5B


@pytest.mark.slow
@pytest.mark.compilers
@pytest.mark.skipif(importlib.util.find_spec(COMPILER) is None, reason=f"needs the compiler in the package {COMPILER}")
def test_no_copy_of_a_weight_or_of_a_cache_is_made_for_a_token():
    there, S, G, P, R = target("h100:1"), 8, 8, 768, 128
    mesh = make_mesh(1, 1, 1, there.devices)
    shape = DecodeShape(G, P, (1,), SamplingParams(R), jnp.dtype("bfloat16"))

    def placed(tree):
        return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=replicated(mesh)), tree)

    slots = placed(jax.eval_shape(lambda: empty_slots(SHAPE, S, shape)))
    model = abstract_model(SHAPE, mesh)
    weights = placed(jax.eval_shape(lambda m: decode_weights(m, shape.dtype), model))
    prompts = NewPrompts(
        np.zeros((1, P), np.int32), np.ones(1, np.int32), np.zeros(1, np.uint32), np.zeros(1, np.int32)
    )
    new = placed(jax.eval_shape(lambda m: prefill_prompts(m, prompts, P, shape.dtype), model))
    with jax.set_mesh(mesh):
        lowered = decode.lower(weights, slots, new, np.int32(1), shape)
    text = lowered.compile(compiler_options=dict(there.options)).as_text()
    assert "__cublas" in text
    loop = text[: text.index("ENTRY ")]  # all that the loop calls comes before the main program
    made = re.findall(r"= [a-z0-9]+\[([\d,]+)\]\S* (?:concatenate|copy|transpose)\(", loop)
    sizes = [math.prod(map(int, s.split(","))) for s in made]
    smallest_weight = SHAPE.width * SHAPE.heads * SHAPE.head_dim
    cache = S * G * SHAPE.kv_heads * SHAPE.head_dim * R
    assert max(sizes, default=0) < min(smallest_weight, cache)
