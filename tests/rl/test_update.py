"""The updates of one rollout: which log-probabilities they take, what they log, and that numbers stay on devices."""

import dataclasses
import logging

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from stgrpo.config import base
from stgrpo.models.sharding import make_mesh
from stgrpo.rl.losses import Coefficients, make_loss
from stgrpo.rl.mismatch import Mismatch
from stgrpo.rl.update import alarm, has_several_updates, minibatches, update, with_logprobs
from stgrpo.training.packing import pack
from stgrpo.training.step import build_program
from stgrpo.training.timer import Timer

TEMPERATURE = 0.7
# float32 and bfloat16: what the first digits of a log-probability are worth
ATOL = {"float32": 2e-5, "bfloat16": 6e-2}


@pytest.fixture(scope="module", params=ATOL)
def case(request, tiny_shape, make_model, make_groups):
    """A program, a policy, another model as the reference, and a rollout with a sampler's log-probabilities."""
    dtype, mesh = request.param, make_mesh(1, devices=jax.devices()[:1])
    loss = make_loss(
        "grpo",
        Coefficients(kl_coef=0.1, clip_low=0.2, clip_high=0.2),
        temperature=TEMPERATURE,
        mismatch=Mismatch(correction="token", cap=1.5),
    )
    program = build_program(tiny_shape, mesh, optax.sgd(0.1), loss=loss, dtype=jnp.dtype(dtype))
    batch = make_groups([5, 3, 4, 8], [[4, 2], [3, 4], [1, 6], [5, 5]], P=8, R=6)
    policy, reference = make_model(tiny_shape), make_model(tiny_shape, 7)
    exact = jax.device_get(program.logprobs(policy, batch))
    noise = np.random.default_rng(0).normal(scale=0.3, size=exact.shape).astype(np.float32)
    batch = dataclasses.replace(batch, sampler_logp_BGR=(exact - noise) * batch.mask_BGR)
    return dtype, program, policy, reference, batch, noise


def settings(**grpo):
    config = base()
    config.grpo.update(grpo)
    config.rollout.mismatch_alarm = 0.1
    return config


def run(case, config, layout=lambda batch: batch):
    _, program, policy, reference, batch, _ = case
    state = program.init_from(jax.tree.map(jnp.copy, policy))
    parts = [layout(part) for part in minibatches(config, batch)]
    return update(config, program, state, reference, parts, Timer())


def test_a_whole_model_is_not_trained_without_a_reference(case):
    _, program, policy, _, batch, _ = case
    state = program.init_from(jax.tree.map(jnp.copy, policy))
    with pytest.raises(ValueError, match="needs a reference"):
        update(settings(), program, state, None, [batch], Timer())


def test_the_reference_is_asked_always_and_the_policy_only_if_it_will_move(case):
    dtype, program, policy, reference, batch, _ = case
    for several in (False, True):
        mine = with_logprobs(program, policy, reference, batch, several=several)
        np.testing.assert_array_equal(mine.ref_logp_BGR, program.logprobs(reference, batch))
        assert isinstance(mine.ref_logp_BGR, jax.Array)  # it never came to the host
        if several:
            np.testing.assert_array_equal(mine.old_logp_BGR, program.logprobs(policy, batch))
        else:
            assert mine.old_logp_BGR is None
        assert mine.sampler_logp_BGR is batch.sampler_logp_BGR
    assert np.abs(np.asarray(mine.ref_logp_BGR) - np.asarray(mine.old_logp_BGR)).max() > 10 * ATOL[dtype]


@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize("packed", [False, True], ids=["groups", "rows"])
def test_the_mismatch_is_that_of_sampler_and_trainer_before_the_first_update(case, several, packed):
    """However many updates move the policy away from it, and in each layout."""
    dtype, *_, batch, noise = case
    config = settings(prompts=4, group_size=2, minibatches=1, passes=2 if several else 1)
    assert has_several_updates(config) == several
    _, values = run(case, config, (lambda b: pack(b, 32)) if packed else (lambda b: b))
    real = np.abs(noise[batch.mask_BGR > 0])
    assert values["mismatch_mean"] == pytest.approx(real.mean(), abs=ATOL[dtype])
    assert values["mismatch_max"] == pytest.approx(real.max(), abs=ATOL[dtype])
    assert values["mismatch_alarm"] == 1.0
    ratio = np.minimum(np.exp(noise[batch.mask_BGR > 0]), 1.5)
    assert values["correction_mean"] == pytest.approx(ratio.mean(), rel=2 * ATOL[dtype])
    assert values["ratio_first"] == pytest.approx(1.0, abs=1e-6 if dtype == "float32" or not several else 2e-2)
    assert not [name for name in values if name in ("mismatch_x", "mismatch_xy", "tokens")]


def test_metrics_are_means_over_updates_and_the_state_has_done_them_all(case):
    config = settings(prompts=4, group_size=2, minibatches=2, passes=2)
    state, values = run(case, config)
    assert state.step == 4
    assert all(np.isfinite(value) for value in values.values())
    assert values["ratio"] != values["ratio_first"]
    assert values["tokens_processed"] == case[4].size and 0 < values["padding"] < 1


def test_the_frozen_reference_holds_the_policy_back(case):
    """With a KL and no advantages, updates bring the policy nearer to the reference."""
    _, program, policy, reference, batch, _ = case
    still = dataclasses.replace(batch, adv_BG=np.zeros_like(batch.adv_BG))
    config = settings(prompts=4, group_size=2, minibatches=1, passes=4)
    state = program.init_from(jax.tree.map(jnp.copy, policy))
    kl = []
    for _ in range(2):
        state, values = update(config, program, state, reference, [still], Timer())
        kl.append(values["kl"])
    assert kl[1] < kl[0]


def test_the_alarm_rings_above_its_limit_and_never_at_zero(caplog):
    config = settings()
    with caplog.at_level(logging.WARNING):
        assert alarm(config, {"mismatch_mean": 0.09}) == {"mismatch_alarm": 0.0}
        assert not caplog.records
        assert alarm(config, {"mismatch_mean": 0.25}) == {"mismatch_alarm": 1.0}
        assert "differ by 0.25 on average, rollout.mismatch_alarm is 0.1" in caplog.text
    config.rollout.mismatch_alarm = 0.0
    assert alarm(config, {"mismatch_mean": 9.0}) == {"mismatch_alarm": 0.0}
    assert alarm(config, {}) == {}
