"""What `stgrpo plan` says of sampling, against buffers that are really there, and by hand."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stgrpo.cli import parse
from stgrpo.errors import UserError
from stgrpo.models.lora import Adapters, Lora, adapted
from stgrpo.models.sharding import abstract_tree, make_mesh
from stgrpo.models.transformer import Transformer
from stgrpo.plan.sampling import check_tensor, longest_rollout, sampling_memory
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


def test_keys_and_values_of_what_all_prompts_begin_with_are_counted_as_a_whole_prompts():
    config = smoke()
    c, found = starting_shape(config), memory(config, (1, 1, 1))
    room = -(-config.limits.prompt // 32) * 32
    assert found.prefix == c.depth * 2 * room * c.kv_heads * c.head_dim * 4
    assert found.peak == found.copy + found.weights + found.slots + found.prefix + found.temporary


def on_first_device(tree):
    """Bytes of each buffer that arrays have on the first device, by its place in memory."""
    buffers = (x.addressable_shards[0].data for x in jax.tree.leaves(tree))
    return {x.unsafe_buffer_pointer(): x.nbytes for x in buffers}


def test_each_host_draws_its_share():
    """256 chips of four a host: a slot of eight responses on each, where one process for all would have as many."""
    config = smoke("--config.grpo.prompts=256", "--config.grpo.group_size=8", "--config.rollout.batch=512")
    devices = [type("Device", (), {"process_index": n // 4})() for n in range(256)]
    mesh = type("Mesh", (), {"devices": np.array(devices).reshape(1, 256, 1), "shape": {"data": 1, "fsdp": 256}})()
    rollout = longest_rollout(config, mesh)
    assert (rollout.slots, rollout.rounds, rollout.prefill_rows) == (256, 1, 256)
    assert rollout.decode_work(starting_shape(config)).padding == 0


def test_a_tensor_axis_over_two_hosts_is_refused():
    devices = np.array([type("Device", (), {"process_index": n // 4})() for n in range(8)]).reshape(1, 1, 8)
    mesh = type("Mesh", (), {"devices": devices, "shape": {"data": 1, "fsdp": 1, "tensor": 8}, "size": 8})()
    with pytest.raises(UserError, match=r"mesh.tensor=8 crosses hosts.*: use at most the 4 devices of one"):
        check_tensor(mesh)
