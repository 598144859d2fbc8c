"""The sharded update: the same numbers whatever the mesh and the micro-batches, and a first ratio of one."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from stgrpo.models.sharding import make_mesh
from stgrpo.rl.losses import Coefficients, make_loss
from stgrpo.rl.update import minibatch
from stgrpo.training.step import accumulate, build_program, loss_inputs

LOSS = make_loss("grpo", Coefficients(kl_coef=0.1, clip_low=0.2, clip_high=0.2), temperature=0.7)
MESHES = [(1, 1, 1), (8, 1, 1), (2, 2, 2)]


@pytest.fixture(scope="module")
def batch(make_groups):
    """Eight ragged groups of two."""
    rng = np.random.default_rng(0)
    return make_groups(rng.integers(1, 9, 8), rng.integers(1, 7, (8, 2)), P=8, R=6)


def mesh_of(sizes):
    return make_mesh(*sizes, devices=jax.devices()[: int(np.prod(sizes))])


def place(model, steps):
    return jax.device_put(model, jax.tree.map(lambda x: x.sharding, steps.abstract.params))


def part_of(loss):
    """The loss and its sums as a function of model and batch."""
    return lambda model, batch: loss.function(loss_inputs(model, batch, temperature=0.7, dtype=jnp.float32))


@pytest.mark.parametrize("loss", [make_loss("sft"), LOSS], ids=["sft", "grpo"])
def test_micro_batched_gradients_equal_whole_ones(tiny_shape, make_model, batch, loss):
    model = make_model(tiny_shape)

    def run(parts):
        function = jax.jit(lambda m: accumulate(part_of(loss), m, batch, parts))
        return jax.device_get(function(model))

    whole_grads, whole_loss, whole_sums = run(1)
    grads, loss, sums = run(4)
    np.testing.assert_allclose(loss, whole_loss, rtol=1e-5)
    assert sums["tokens"] == batch.mask_BGR.sum()
    for name in sums:
        np.testing.assert_allclose(sums[name], whole_sums[name], rtol=1e-5, err_msg=name)
    for mine, other in zip(jax.tree.leaves(grads), jax.tree.leaves(whole_grads), strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-4, atol=1e-5 * np.abs(other).max())


@pytest.fixture(scope="module")
def two_updates(tiny_shape, make_model, batch):
    """Metrics and parameters after two GRPO updates, by mesh."""
    results = {}
    for sizes in MESHES:
        mesh = mesh_of(sizes)
        # The gradient of one key's bias is 7e-7, a tenth of it rounding: a smaller eps would make a step of that.
        steps = build_program(tiny_shape, mesh, optax.adamw(1e-2, eps=1e-4), loss=LOSS)
        with jax.set_mesh(mesh):
            state, metrics = steps.init_from(place(make_model(tiny_shape), steps)), []
            for _ in range(2):
                state, values = steps.update(state, batch)
                metrics.append(jax.device_get(values))
        results[sizes] = metrics, state
    return results


@pytest.mark.parametrize("sizes", MESHES[1:])
def test_two_updates_are_the_same_on_every_mesh(two_updates, sizes):
    (metrics, state), (expected, one_device) = two_updates[sizes], two_updates[1, 1, 1]
    for mine, other in zip(metrics, expected, strict=True):
        assert set(mine) == set(other)
        for name in mine:
            np.testing.assert_allclose(mine[name], other[name], rtol=1e-4, atol=1e-6, err_msg=name)
    for mine, other in zip(jax.tree.leaves(state.params), jax.tree.leaves(one_device.params), strict=True):
        np.testing.assert_allclose(mine, other, atol=1e-4)


def test_parameters_and_moments_are_really_split(two_updates):
    _, state = two_updates[2, 2, 2]
    moments = state.opt_state[0]
    for tree in (state.params, moments.mu, moments.nu):
        q = tree.layers.q[...]
        assert q.addressable_shards[0].data.size * 4 == q.size
    assert state.step == 2


def test_loss_falls_when_updates_are_repeated(two_updates):
    metrics, _ = two_updates[1, 1, 1]
    assert metrics[1]["loss"] < metrics[0]["loss"]
    assert metrics[0]["grad_norm"] > 0


@pytest.mark.parametrize("sizes", [(1, 1, 1), (2, 1, 2)])
def test_log_probabilities_are_the_same_in_parts(tiny_shape, make_model, batch, sizes):
    mesh, found = mesh_of(sizes), []
    for micro_batches in (1, 2):
        steps = build_program(tiny_shape, mesh, optax.sgd(1.0), loss=LOSS, micro_batches=micro_batches)
        with jax.set_mesh(mesh):
            found.append(np.asarray(steps.logprobs(place(make_model(tiny_shape), steps), batch)))
    assert found[0].shape == batch.response_BGR.shape
    np.testing.assert_allclose(found[1], found[0], rtol=2e-6)


@pytest.mark.parametrize(("sizes", "micro_batches"), [((1, 1, 1), 2), ((2, 2, 2), 1)])
def test_first_update_after_a_rollout_has_ratio_one(tiny_shape, make_model, batch, sizes, micro_batches):
    """With old log-probabilities taken from the whole rollout, or from nowhere (one update a rollout)."""
    mesh = mesh_of(sizes)
    steps = build_program(tiny_shape, mesh, optax.sgd(1.0), loss=LOSS, micro_batches=micro_batches)
    with jax.set_mesh(mesh):
        old = np.asarray(steps.logprobs(place(make_model(tiny_shape), steps), batch))
        ratios = {}
        for name, old_logp in (("nowhere", None), ("rollout", old)):
            state = steps.init_from(place(make_model(tiny_shape), steps))
            rollout = dataclasses.replace(batch, old_logp_BGR=old_logp)
            for part in range(2 if name == "rollout" else 1):
                mine = minibatch(rollout, part, 2, aggregation="token_mean", limit=6)
                np.testing.assert_allclose(mine.weight_BGR.sum(), 1.0, rtol=1e-6)
                state, metrics = steps.update(state, mine)
                ratios[name, part] = float(metrics["ratio"])
                assert metrics["clip_fraction"] == 0.0 or part
    np.testing.assert_allclose([ratios["nowhere", 0], ratios["rollout", 0]], 1.0, atol=1e-6)
    assert abs(ratios["rollout", 1] - 1.0) > 1e-3  # the old policy stayed where it was while the policy moved
