"""What `stgrpo plan` says of sampling, against buffers that are really there, and by hand."""

import dataclasses
import pathlib
import re

import jax
import jax.numpy as jnp
import pytest

from stgrpo.cli import parse
from stgrpo.models.lora import Adapters, Lora, adapted
from stgrpo.models.sharding import abstract_tree, make_mesh
from stgrpo.models.transformer import Transformer
from stgrpo.plan.sampling import sampling_memory
from stgrpo.plan.update import plan
from stgrpo.react.policy import SamplingParams
from stgrpo.sampling.jax.decode import DecodeShape, decode_weights, empty_slots
from stgrpo.training.start import abstract_model, starting_shape

SMOKE = f"--config={pathlib.Path(__file__).resolve().parents[2] / 'configs' / 'tiny.py'}:smoke"
# Vocabulary 1024, width 32, 2 layers of 2 heads and 1 K/V head of size 16, MLP 64; tied.
TABLE, LAYERS = 1024 * 32, 2 * (2 * 32 * 32 + 2 * 32 * 16 + 3 * 32 * 64)
BIASES, NORMS = 2 * (32 + 2 * 16), 2 * 2 * 32  # of the layers


def smoke(*options):
    return parse(["plan", SMOKE, *options]).config


def memory(config, sizes, lora=None):
    mesh = make_mesh(*sizes, devices=jax.devices()[: sizes[0] * sizes[1] * sizes[2]])
    policy = abstract_model(starting_shape(config), mesh)
    if lora:
        adapters = jax.eval_shape(lambda: Adapters(policy.shape, lora))
        policy = adapted(policy, abstract_tree(adapters, policy.shape, mesh))
    return sampling_memory(config, policy, mesh)


@pytest.mark.parametrize("lora", [None, Lora(4, 8.0)])
@pytest.mark.parametrize(
    ("dtype", "weights"),
    [("float32", 4 * (LAYERS + BIASES + NORMS)), ("bfloat16", 2 * (TABLE + LAYERS + BIASES) + 4 * NORMS)],
)
def test_the_copy_of_the_weights_is_counted(dtype, weights, lora):
    """In float32 the embedding is the policy's own; adapters are merged, so there are no more with them."""
    found = memory(smoke(f"--config.model.dtype={dtype}"), (1, 1, 1), lora)
    assert found.weights == weights
    assert found.peak > found.weights + found.slots and found.temporary > 0


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("sizes", [(1, 1, 1), (2, 2, 2)])
def test_weights_and_slots_are_what_the_sampler_allocates(dtype, sizes):
    config = smoke(f"--config.model.dtype={dtype}", "--config.rollout.batch=16")
    mesh = make_mesh(*sizes, devices=jax.devices()[: sizes[0] * sizes[1] * sizes[2]])
    shape, shards = starting_shape(config), sizes[0] * sizes[1]
    abstract = abstract_model(shape, mesh)
    places = jax.tree.map(lambda x: x.sharding, abstract)
    G, R = config.grpo.group_size, config.limits.response
    decoding = DecodeShape(G, config.limits.prompt, (0,), SamplingParams(R), jnp.dtype(dtype), shards)
    with jax.set_mesh(mesh):
        model = jax.jit(lambda: Transformer(shape, jax.random.key(0)), out_shardings=places)()
        before = on_first_device(model)
        copy = on_first_device(decode_weights(model, decoding.dtype))
        slots = on_first_device(empty_slots(shape, 16 // G, decoding))
    found = sampling_memory(config, abstract, mesh)
    assert found.responses == 16
    assert found.weights == sum(size for place, size in copy.items() if place not in before)
    assert found.slots == sum(slots.values())


def on_first_device(tree):
    """Bytes of each buffer that arrays have on the first device, by its place in memory."""
    buffers = (x.addressable_shards[0].data for x in jax.tree.leaves(tree))
    return {x.unsafe_buffer_pointer(): x.nbytes for x in buffers}


def test_the_plan_says_what_sampling_takes():
    options = ("--config.mesh.data=8",)
    line = next(x for x in plan(smoke(*options)).splitlines() if x.startswith("sampling "))
    all_of_it, *parts = (float(x) for x in re.findall(r"([\d.]+) MiB", line))
    assert all_of_it == pytest.approx(sum(parts), abs=0.25)
    found = dataclasses.asdict(memory(smoke(*options), (8, 1, 1)))
    assert parts[1:3] == [round(found[name] / 2**20, 1) for name in ("weights", "slots")]
    served = plan(smoke(*options, "--config.rollout.backend=vllm"))
    assert "sampling   by rollout.backend='vllm', which is not counted here" in served
