"""What a train state holds: adapters on a frozen base, float32 parameters under bfloat16, all of it donated."""

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from stgrpo.models.lora import Lora, without
from stgrpo.models.sharding import make_mesh
from stgrpo.rl.losses import Coefficients, make_loss
from stgrpo.training.checkpointing import CheckpointMetadata, Checkpoints
from stgrpo.training.optimiser import OptimiserSettings, make_optimiser
from stgrpo.training.step import build_program
from stgrpo.training.step_folders import read_leaves

LOSS = make_loss("grpo", Coefficients(kl_coef=0.1, clip_low=0.2, clip_high=0.2), temperature=0.7)
LORA = Lora(rank=4, alpha=8.0)
ADAMW = OptimiserSettings(1e-2, 0, 10, schedule="constant")
ONE, EIGHT = (1, 1, 1), (2, 2, 2)


@pytest.fixture(scope="module")
def batch(make_groups):
    rng = np.random.default_rng(0)
    return make_groups(rng.integers(1, 9, 8), rng.integers(1, 7, (8, 2)), P=8, R=6)


def steps_on(shape, sizes=ONE, *, settings=ADAMW, **options):
    mesh = make_mesh(*sizes, devices=jax.devices()[: int(np.prod(sizes))])
    return build_program(shape, mesh, make_optimiser(settings), loss=LOSS, **options)


def start(steps, model):
    return steps.init_from(
        jax.device_put(jax.tree.map(jnp.copy, model), jax.tree.map(lambda x: x.sharding, steps.model))
    )


def updated(steps, state, batch, count):
    metrics = []
    with jax.set_mesh(steps.mesh):
        for _ in range(count):
            state, values = steps.update(state, batch)
            metrics.append(jax.device_get(values))
    return state, metrics


def assert_alike(mine, expected, **tolerances):
    for values, other in zip(mine, expected, strict=True):
        for name in other:
            np.testing.assert_allclose(values[name], other[name], err_msg=name, **tolerances)


@pytest.fixture(scope="module")
def one_device(tiny_shape, make_model, batch):
    """Four updates of adapters: the state and the metrics."""
    steps = steps_on(tiny_shape, lora=LORA)
    return updated(steps, start(steps, make_model(tiny_shape)), batch, 4)


def test_adapters_learn_and_their_base_stays_as_it_is(one_device, tiny_shape, make_model):
    state, metrics = one_device
    assert metrics[-1]["loss"] < metrics[0]["loss"] and metrics[0]["grad_norm"] > 0
    for mine, given in zip(jax.tree.leaves(state.base), jax.tree.leaves(make_model(tiny_shape)), strict=True):
        np.testing.assert_array_equal(mine, given)
    trained = sum(x.size for x in jax.tree.leaves(state.params))
    # One layer, rank 4: q 32 + 32, k and v 32 + 16, o 32 + 32, gate, up and down 32 + 48.
    assert trained == 2 * 4 * (2 * 64 + 2 * 48 + 3 * 80)
    assert sum(x.size for x in jax.tree.leaves(state.opt_state) if x.ndim) == 2 * trained


@pytest.mark.parametrize(("sizes", "micro_batches"), [(ONE, 4), (EIGHT, 1)])
def test_adapters_learn_the_same_on_every_mesh_and_in_parts(
    one_device, tiny_shape, make_model, batch, sizes, micro_batches
):
    steps = steps_on(tiny_shape, sizes, micro_batches=micro_batches, lora=LORA)
    state, metrics = updated(steps, start(steps, make_model(tiny_shape)), batch, 2)
    assert_alike(metrics, one_device[1][:2], rtol=1e-4, atol=1e-6)
    if sizes == EIGHT:
        a = state.params.q_a[...]
        assert a.addressable_shards[0].data.size * 2 == a.size


def test_adapters_go_on_from_a_checkpoint_as_if_nothing_had_been(tiny_shape, make_model, batch, tmp_path):
    steps = steps_on(tiny_shape, EIGHT, lora=LORA)
    state, _ = updated(steps, start(steps, make_model(tiny_shape)), batch, 1)
    checkpoints = Checkpoints(tmp_path / "grpo")
    checkpoints.save(state, CheckpointMetadata("grpo", 1, 2, tiny_shape, {}, {}, lora=LORA, base="1234abcd"))
    written = sum(leaf.size for _, leaf in read_leaves(tmp_path / "grpo" / "1" / "params"))
    assert (
        written == sum(x.size for x in jax.tree.leaves(state.params)) < sum(x.size for x in jax.tree.leaves(state.base))
    )
    _, expected = updated(steps, state, batch, 1)
    restored, record = checkpoints.restore(steps.abstract)
    assert record.lora == LORA and record.base == "1234abcd" and restored.base is None
    base = start(steps, make_model(tiny_shape)).base
    _, metrics = updated(steps, dataclasses.replace(restored, base=base), batch, 1)
    assert_alike(metrics, expected, rtol=0)


@pytest.mark.parametrize(
    ("dtype", "lora"),
    [("bfloat16", None), ("float32", LORA), ("bfloat16", dataclasses.replace(LORA, base_dtype="bfloat16"))],
    ids=["bf16", "lora", "bf16 lora"],
)
def test_policy_old_policy_and_reference_are_one_path(tiny_shape, make_model, batch, lora, dtype):
    """At first all three are the same to the bit; the ratio of an update to old log-probabilities is one."""
    steps = steps_on(tiny_shape, micro_batches=2, dtype=jnp.dtype(dtype), lora=lora)
    with jax.set_mesh(steps.mesh):
        state = start(steps, make_model(tiny_shape))
        old = np.asarray(steps.logprobs(state.policy, batch))
        if lora:
            np.testing.assert_array_equal(old, steps.logprobs(without(state.policy), batch))
        kinds = [x.dtype for x in jax.tree.leaves(state)]
        for _ in range(2):
            rollout = dataclasses.replace(batch, old_logp_BGR=np.asarray(steps.logprobs(state.policy, batch)))
            state, metrics = steps.update(state, rollout)
            # A part of a batch is multiplied in another order than the whole, which bfloat16 shows.
            np.testing.assert_allclose(metrics["ratio"], 1.0, atol=1e-6 if dtype == "float32" else 2e-5)
            assert metrics["clip_fraction"] == 0.0
        assert np.abs(np.asarray(steps.logprobs(state.policy, batch)) - old).max() > 1e-3
    assert [x.dtype for x in jax.tree.leaves(state)] == kinds
    masters = jax.tree.leaves((state.params, optax.tree.get(state.opt_state, "mu")))
    assert all(x.dtype == jnp.float32 for x in masters)


@pytest.mark.parametrize(
    ("settings", "lora"),
    [
        (ADAMW, None),
        (dataclasses.replace(ADAMW, moment_dtype="bfloat16"), None),
        (dataclasses.replace(ADAMW, name="adafactor"), None),
        (dataclasses.replace(ADAMW, name="muon"), None),
        (ADAMW, dataclasses.replace(LORA, base_dtype="bfloat16")),
    ],
    ids=["adamw", "bf16 moments", "adafactor", "muon", "lora"],
)
def test_every_array_of_the_state_is_given_to_the_update(tiny_shape, batch, settings, lora):
    steps = steps_on(tiny_shape, settings=settings, micro_batches=2, lora=lora)
    with jax.set_mesh(steps.mesh):
        compiled = steps.update.lower(steps.abstract, batch).compile()
    (aliases,) = re.findall(r"input_output_alias=\{(.*?)\}, entry", compiled.as_text())
    leaves = [x for x in jax.tree.leaves(steps.abstract) if x.shape != (1,)]  # Adafactor's stand-ins for nothing
    assert len(re.findall(r"-alias\)", aliases)) == len(leaves)
    held = sum(x.dtype.itemsize * int(np.prod(x.sharding.shard_shape(x.shape))) for x in leaves)
    assert compiled.memory_analysis().alias_size_in_bytes == held
