"""PPO's critic: advantages against a loop in NumPy, when it is GRPO, value loss by hand, its program, and on disk."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from stgrpo.models.critic import Critic
from stgrpo.models.sharding import make_mesh
from stgrpo.models.transformer import Transformer
from stgrpo.rl.losses import Coefficients, group_advantages, grpo_loss, make_loss
from stgrpo.training.checkpointing import CheckpointMetadata, Checkpoints
from stgrpo.training.critic import CriticSettings, advantages, value_loss
from stgrpo.training.loss import LossInputs
from stgrpo.training.packing import pack
from stgrpo.training.step import build_program

LENGTHS = [[4, 2, 1], [1, 3, 4]]
counted = jax.jit(advantages, static_argnums=2)
SGD = optax.sgd(0.1)


@pytest.fixture(scope="module")
def ragged(make_groups):
    """Two groups of three with old log-probabilities; rewards in place of advantages, as before a critic has spoken."""
    batch = make_groups([5, 3], LENGTHS)
    old = batch.ref_logp_BGR + np.random.default_rng(1).normal(scale=0.3, size=(2, 3, 4)).astype(np.float32)
    rewards = np.array([[1.0, 0.1, 0.0], [0.1, 1.0, 1.0]], np.float32)
    return dataclasses.replace(batch, old_logp_BGR=old, adv_BG=rewards)


def laid_out(batch, values_BGR):
    """Numbers of the tokens, as they lie in packed rows."""
    return pack(batch.with_logprobs(values_BGR, None), 64).terms.ref_logp


def by_loop(batch, value_BGR, gamma, lam, kl):
    """Advantages of Eq. 16, from the last token of each response back to its first."""
    found = np.zeros((2, 3, 4))
    for b, g in np.ndindex(2, 3):
        n, later, following = LENGTHS[b][g], 0.0, 0.0
        for t in reversed(range(n)):
            reward = batch.adv_BG[b, g] if t == n - 1 else 0.0
            reward -= kl * (batch.old_logp_BGR[b, g, t] - batch.ref_logp_BGR[b, g, t])
            surprise = reward + gamma * following - value_BGR[b, g, t]
            later = found[b, g, t] = surprise + gamma * lam * later
            following = value_BGR[b, g, t]
    return found


@pytest.mark.parametrize(("gamma", "lam", "kl"), [(1.0, 1.0, 0.0), (0.9, 0.8, 0.0), (0.95, 0.0, 0.2)])
def test_advantages_and_returns_are_those_of_a_loop_in_any_layout(ragged, gamma, lam, kl):
    value = np.random.default_rng(2).normal(size=(2, 3, 4)).astype(np.float32)
    settings = CriticSettings(SGD, gamma=gamma, gae_lambda=lam, kl_coef=kl)
    expected = by_loop(ragged, value, gamma, lam, kl)
    returns = (expected + value) * ragged.mask_BGR
    for got, wanted in zip(counted(value, ragged.terms, settings), (expected, returns), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-6)
    rows = pack(ragged, 64)
    assert rows.terms.mask.shape[0] == 1
    for got, wanted in zip(counted(laid_out(ragged, value), rows.terms, settings), (expected, returns), strict=True):
        np.testing.assert_allclose(got, laid_out(ragged, wanted.astype(np.float32)), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("packed", [False, True], ids=["groups", "rows"])
def test_with_the_groups_mean_for_a_value_it_is_grpo_without_the_standard_deviation(ragged, packed):
    """With gamma = lambda = 1, no whitening and the KL in the loss: the same loss and the same gradient."""
    grouped = dataclasses.replace(ragged, adv_BG=np.asarray(group_advantages(ragged.adv_BG, scale_by_std=False)))
    mean = np.broadcast_to(ragged.adv_BG.mean(-1)[:, None, None], (2, 3, 4)).astype(np.float32)
    logp = ragged.old_logp_BGR + np.random.default_rng(3).normal(scale=0.2, size=(2, 3, 4)).astype(np.float32)
    if packed:
        mean, logp = laid_out(ragged, mean), laid_out(ragged, logp)
        ragged, grouped = pack(ragged, 64), pack(grouped, 64)
    adv, returns = counted(mean, ragged.terms, CriticSettings(SGD))
    valued = ragged.with_values(value=mean, adv=adv, returns=returns)
    coefficients = Coefficients(kl_coef=0.1, clip_low=0.2, clip_high=0.2)

    def gradient(batch):
        def total(logp):
            return grpo_loss(LossInputs.of(batch.terms, logp=logp, entropy=logp), coefficients)[0]

        return jax.jit(jax.value_and_grad(total))(jnp.asarray(logp))

    (mine, my_slope), (other, slope) = gradient(valued), gradient(grouped)
    np.testing.assert_allclose(mine, other, rtol=1e-5)
    np.testing.assert_allclose(my_slope, slope, rtol=1e-4, atol=1e-7)
    assert np.abs(slope).max() > 0.01


def test_value_loss_by_hand(ragged):
    # Three tokens whose values were 0 and should have been 1, 1 and 0; now they are 0.5, 0.1 and -0.5. No further than
    # 0.2 from 0 the first counts as 0.2, and errs by 0.64 instead of 0.25; the last errs by 0.25, instead of 0.04.
    returns, value, old = jnp.array([[1.0, 1.0, 0.0, 9.0]]), jnp.array([[0.5, 0.1, -0.5, 7.0]]), jnp.zeros((1, 4))
    mask = jnp.array([[1.0, 1.0, 1.0, 0.0]])
    terms = dataclasses.replace(ragged.terms, weight=mask / 3, mask=mask, value=old, returns=returns)
    run = jax.jit(jax.value_and_grad(lambda v, clip: value_loss(v, terms, clip), has_aux=True), static_argnums=1)
    (total, sums), slope = run(value, 0.2)
    np.testing.assert_allclose(total, 0.5 * (0.64 + 0.81 + 0.25) / 3, rtol=1e-5)
    np.testing.assert_allclose(slope, [[0.0, -0.9 / 3, -0.5 / 3, 0.0]], atol=1e-6)
    np.testing.assert_allclose([sums["value_clip_fraction"], sums["value"], sums["tokens"]], [1, 0.1, 3], rtol=1e-5)
    (total, sums), slope = run(value, 0.0)
    np.testing.assert_allclose(total, 0.5 * (0.25 + 0.81 + 0.25) / 3, rtol=1e-5)
    np.testing.assert_allclose(slope, [[-0.5 / 3, -0.9 / 3, -0.5 / 3, 0.0]], atol=1e-6)


@pytest.fixture(scope="module")
def programs(tiny_shape):
    """With a critic, by micro-batches."""
    mesh, critic = make_mesh(1, devices=jax.devices()[:1]), CriticSettings(optax.adam(3e-2))
    how = {"loss": make_loss("grpo", Coefficients(kl_coef=0.1)), "critic": critic}
    return {n: build_program(tiny_shape, mesh, optax.adam(1e-2), micro_batches=n, **how) for n in (1, 2)}


def test_a_critic_learns_returns_and_nothing_of_it_is_the_policys(programs, make_model, tiny_shape, ragged):
    state = programs[1].init_from(jax.tree.map(jnp.copy, make_model(tiny_shape)))
    critic, losses = state.critic, []
    for one, other in zip(jax.tree.leaves(critic.params.model), jax.tree.leaves(make_model(tiny_shape)), strict=True):
        np.testing.assert_array_equal(one, other)  # it starts as the policy is
    value, adv, returns, sums = programs[1].critic.estimate(critic.params, ragged)
    np.testing.assert_array_equal(value, np.zeros((2, 3, 4)))
    np.testing.assert_allclose(returns, ragged.adv_BG[..., None] * ragged.mask_BGR, rtol=1e-6)
    assert sums["tokens"] == 15
    scaled = programs[1].critic.scale((adv, 0.25, 2.0), ragged)
    np.testing.assert_allclose(scaled, (adv - 0.25) * 2 * ragged.mask_BGR, rtol=1e-6)
    batch = ragged.with_values(value=value, adv=scaled, returns=returns)
    for _ in range(8):
        critic, metrics = programs[1].critic.update(critic, batch)
        losses.append(float(metrics["value_loss"]))
    assert losses[-1] < 0.2 * losses[0] and critic.step == 8
    kept = jax.device_get(critic)
    state, metrics = programs[1].update(dataclasses.replace(state, critic=critic), batch)
    assert metrics["grad_norm"] > 0
    for before, after in zip(jax.tree.leaves(kept), jax.tree.leaves(state.critic), strict=True):
        np.testing.assert_array_equal(before, after)


def test_a_critics_update_is_the_same_in_rows_and_in_parts(programs, make_model, tiny_shape, ragged):
    """From a head that is not 0, so that values differ and the whole decoder has a gradient."""
    head = np.random.default_rng(4).normal(size=tiny_shape.width).astype(np.float32)
    results = []
    for layout, parts in ((ragged, 1), (pack(ragged, 16, unit=2), 2)):
        program = programs[parts]
        critic = program.init_from(jax.tree.map(jnp.copy, make_model(tiny_shape))).critic
        critic.params.value_head[...] = jnp.asarray(head)
        value, adv, returns, sums = program.critic.estimate(critic.params, layout)
        assert np.abs(np.asarray(value)[layout.terms.mask > 0]).min() > 0
        critic, metrics = program.critic.update(critic, layout.with_values(value=value, adv=adv, returns=returns))
        results.append(jax.device_get((dict(sums), metrics, critic.params)))
    for expected, got in zip(*map(jax.tree.leaves, results), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-3, atol=1e-4)


def test_an_output_embedding_of_its_own_is_left_out(tiny_shape):
    shape = dataclasses.replace(tiny_shape, tie_embeddings=False)
    model = jax.eval_shape(lambda: Transformer(shape, jax.random.key(0)))
    critic = jax.eval_shape(Critic, model)
    assert hasattr(model, "head") and not hasattr(critic.model, "head")
    assert len(jax.tree.leaves(critic)) == len(jax.tree.leaves(model))  # one less, and the value's head


def test_a_checkpoint_holds_critic_and_optimiser(programs, make_model, tiny_shape, ragged, tmp_path):
    program = programs[1]
    state = program.init_from(make_model(tiny_shape))
    value, adv, returns, _ = program.critic.estimate(state.critic.params, ragged)
    batch = ragged.with_values(value=value, adv=adv, returns=returns)
    critic, _ = program.critic.update(state.critic, batch)
    state = dataclasses.replace(state, critic=critic)
    with Checkpoints(tmp_path / "grpo") as checkpoints:
        checkpoints.save(state, CheckpointMetadata("grpo", 1, 2, tiny_shape, {}, {}))
        restored, _ = checkpoints.restore(program.abstract)
    assert jax.tree.structure(restored) == jax.tree.structure(state) and restored.critic.step == 1
    further = [dataclasses.replace(s, critic=program.critic.update(s.critic, batch)[0]) for s in (restored, state)]
    for mine, other in zip(*map(jax.tree.leaves, further), strict=True):
        np.testing.assert_array_equal(mine, other)  # it goes on as if it had not been away
