"""What a rollout gives a critic: whitening over minibatches, explained variance, and rollouts that are its alone."""

import dataclasses
from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest

from stgrpo.config import base
from stgrpo.plan.checks import validate
from stgrpo.rl.critic import critic_settings, critic_updates, explained_variance, rollouts_alone
from stgrpo.rl.programs import grpo_loss_of
from stgrpo.rl.update import needs_old_logprobs, update
from stgrpo.training.batch import LossTerms
from stgrpo.training.critic import CriticState
from stgrpo.training.health import FLAGS
from stgrpo.training.loss import LossInputs, token_sums
from stgrpo.training.timer import Timer


@pytest.fixture
def config():
    """Two updates a rollout, a critic that has two rollouts to itself."""
    config = base()
    config.grpo.baseline, config.grpo.scale_by_std = "critic", False
    config.grpo.minibatches, config.critic.warmup_rollouts = 2, 2
    return config


class Program:
    """A critic whose value is 0.25 for every token, and which learns nothing; remembers what it was given."""

    def __init__(self):
        self.seen = []

    def estimate(self, critic, batch):
        assert critic == "critic"
        mask, value = batch.terms.mask, jnp.full(batch.terms.mask.shape, 0.25)
        adv, returns = (batch.terms.adv - value) * mask, batch.terms.adv * mask
        moments = {"adv": adv, "adv_square": adv**2, "returns": returns, "returns_square": returns**2}
        return value, adv, returns, token_sums(batch.terms, **moments)

    def scale(self, given, batch):
        adv, mean, factor = given
        return (adv - mean) * factor * batch.terms.mask

    def update(self, state, batch):
        self.seen.append(np.asarray(batch.terms.adv))
        figures = {"value_loss": float(len(self.seen)), **dict.fromkeys(FLAGS, 1.0)}
        return dataclasses.replace(state, step=state.step + 1), figures


@pytest.fixture
def batches(make_groups):
    """Two ragged minibatches, rewards in place of advantages."""
    parts = [make_groups([5], [[4, 2]], R=4), make_groups([3], [[1, 3]], R=4)]
    rewards = ([[1.0, 0.0]], [[0.0, 1.0]])
    return [dataclasses.replace(b, adv_BG=np.array(r, np.float32)) for b, r in zip(parts, rewards, strict=True)]


@pytest.mark.parametrize("whiten", [True, False])
def test_advantages_are_whitened_over_the_tokens_of_all_minibatches(config, batches, whiten):
    config.critic.whiten, program = whiten, Program()
    state, counted, figures = critic_updates(config, program, CriticState("critic", None, 0), batches)
    assert state.step == 2 and len(program.seen) == 2
    rewards = np.array([1.0] * 4 + [0.0] * 2 + [0.0] + [1.0] * 3)  # of the ten tokens
    expected = (rewards - rewards.mean()) / rewards.std() if whiten else rewards - 0.25
    got = np.concatenate([np.asarray(b.terms.adv)[b.mask_BGR > 0] for b in counted])
    np.testing.assert_allclose(got, expected, rtol=1e-5)
    assert all(np.all(np.asarray(b.terms.adv)[b.mask_BGR == 0] == 0) for b in counted)
    np.testing.assert_array_equal(counted[0].terms.value, np.full((1, 2, 4), 0.25))
    assert figures == pytest.approx({"value_loss": 1.5, "explained_variance": 0.0, "returns": 0.7}, abs=1e-6)


def test_explained_variance_by_hand():
    """Returns 0 and 1: values that are right explain all, a constant nothing, the opposite less than nothing."""
    of = {"returns": 0.5, "returns_square": 0.5}
    assert explained_variance({**of, "adv": 0.0, "adv_square": 0.0}) == 1.0
    assert explained_variance({**of, "adv": 0.3, "adv_square": 0.25 + 0.09}) == pytest.approx(0.0)
    assert explained_variance({**of, "adv": 0.0, "adv_square": 1.0}) == -3.0
    assert explained_variance({"returns": 0.7, "returns_square": 0.49, "adv": 0.1, "adv_square": 0.5}) == 0.0


def test_at_first_the_critic_learns_alone(config, batches):
    """Two rollouts of two updates; then the policy learns from its advantages."""
    asked, program = [], Program()

    def learn(state, batch):
        asked.append(np.asarray(batch.terms.adv))
        return dataclasses.replace(state, step=state.step + 1), {"loss": 1.0, "ratio": 1.0, **dict.fromkeys(FLAGS, 1.0)}

    @dataclasses.dataclass(frozen=True)
    class State:
        step: int
        critic: CriticState
        policy: str = "policy"
        base: None = None

    zeros = lambda model, batch: np.zeros_like(batch.mask_BGR)  # noqa: E731
    programs = SimpleNamespace(critic=program, update=learn, logprobs=zeros)
    state, found = State(0, CriticState("critic", None, 0)), []
    for _ in range(3):
        timer = Timer()
        state, values = update(config, programs, state, "reference", batches, timer)
        found.append((state.step, state.critic.step, "loss" in values))
        assert {"value_loss", "explained_variance", "padding"} <= values.keys()
        assert "seconds_critic" in timer.seconds
    assert found == [(0, 2, False), (0, 4, False), (2, 6, True)]
    np.testing.assert_array_equal(asked, program.seen[-2:])


def test_the_kl_counts_in_the_loss_or_in_the_reward(config):
    config.grpo.minibatches, config.grpo.kl_coef = 1, 0.5
    assert critic_settings(config, 10).kl_coef == 0.0 and not needs_old_logprobs(config)
    config.critic.kl_in = "reward"
    assert critic_settings(config, 10).kl_coef == 0.5 and needs_old_logprobs(config)
    one = np.ones((1, 1, 1), np.float32)
    terms = LossTerms(one, one, 0 * one, 0 * one, one.astype(int), one, one, old_logp=-one)
    inputs = LossInputs.of(terms, logp=-one, entropy=one)
    assert grpo_loss_of(config).function(inputs)[0] == 0.0
    config.critic.kl_in = "loss"
    assert grpo_loss_of(config).function(inputs)[0] == pytest.approx(0.5 * (np.e - 2))
    config.grpo.baseline = "group_mean"
    assert critic_settings(config, 10) is None and rollouts_alone(config) == 0 and not needs_old_logprobs(config)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"grpo.baseline": "group_mean"}, "critic.warmup_rollouts=2 is for grpo.baseline='critic': use that"),
        ({"grpo.scale_by_std": True}, "is for a group's rewards, not for grpo.baseline='critic': use False"),
        ({"grpo.loss": "gspo", "grpo.aggregation": "sequence_mean"}, "an advantage a token: use 'grpo'"),
        ({"lora.rank": 8, "lora.stages": ("grpo",)}, "trains adapters, grpo.baseline='critic' a whole critic"),
        ({"grpo.steps": 2}, "leaves none of grpo.steps=2 to the policy: use at most 1"),
        (
            {"critic.optimiser": "adafactor", "critic.moment_dtype": "bfloat16"},
            "is for critic.optimiser='adamw': use float32",
        ),
    ],
)
def test_what_does_not_go_with_a_critic_is_said_in_one_line(config, changes, says):
    assert validate(config) == []
    for name, value in changes.items():
        section, _, field = name.partition(".")
        config[section][field] = value
    (error,) = validate(config)
    assert says in error
