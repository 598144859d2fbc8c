"""Each algorithm as its config has it: loss and gradient against NumPy, on ragged groups, packed rows, and in parts."""

import dataclasses
import pathlib
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stgrpo.cli import parse
from stgrpo.data.records import Step
from stgrpo.react.overlong import Overlong
from stgrpo.react.policy import SamplingParams
from stgrpo.react.reward import Reward
from stgrpo.rl.group_batch import Group, group_batch, rollout_metrics
from stgrpo.rl.programs import grpo_loss_of
from stgrpo.rl.rollouts import Rollouts
from stgrpo.sampling.base import Samples
from stgrpo.training.loss import LossInputs
from stgrpo.training.packing import pack

ABLATIONS = pathlib.Path(__file__).resolve().parents[2] / "configs" / "ablations"
LIMIT, BUFFER, BETA = 4, 2, 0.1
LENGTHS = [[4, 2, 1], [1, 3, 4]]
ANSWERS = [[(0.1, 0.9), (0.1, 0.0), (0.0, 0.0)], [(0.1, 0.0), (0.1, 0.9), (0.1, 0.9)]]


def config_of(name):
    """The algorithm's config, with few tokens a response and a KL that counts."""
    config = parse(["grpo", f"--config={ABLATIONS / name}.py:smoke", "--dry_run"]).config
    config.limits.response, config.grpo.kl_coef = LIMIT, BETA
    if config.reward.overlong_buffer:
        config.reward.overlong_buffer = BUFFER
    return config


def groups_of(config):
    """Two prompts with three responses each."""
    groups, overlong = [], Overlong(LIMIT, config.reward.overlong_buffer, config.reward.overlong_penalty)
    for lengths, answers in zip(LENGTHS, ANSWERS, strict=True):
        rewards = tuple(Reward(form, action, form + action) for form, action in answers)
        tokens, example = tuple((7,) * n for n in lengths), SimpleNamespace(prompt_ids=(1, 2, 3))
        group = Group(example, tokens, ("",) * 3, ("stop",) * 3, rewards)
        groups.append(group.shortened(overlong) if overlong.buffer else group)
    return groups


@pytest.fixture(scope="module")
def numbers():
    """Log-probabilities under policy, old policy and reference, float32; ratios of 0.5 to 2."""
    rng = np.random.default_rng(0)
    logp = rng.uniform(-3, -0.5, (2, 3, 32)).astype(np.float32)
    old, ref = (logp + rng.uniform(-np.log(2), np.log(2), logp.shape).astype(np.float32) for _ in range(2))
    return logp, old, ref


def pessimistic(ratio, advantage, low, high):
    """Gain and slope of the clipped ratio, of one token or response."""
    bounded = min(max(ratio, 1 - low), 1 + high)
    is_clipped = bounded * advantage < ratio * advantage
    return min(ratio * advantage, bounded * advantage), 0.0 if is_clipped else ratio * advantage


def by_token(low, high):
    def gains(log_ratio, logp, advantage):
        del logp
        return np.transpose([pessimistic(np.exp(x), advantage, low, high) for x in log_ratio])

    return gains


def gspo(log_ratio, logp, advantage):
    """The slope of the sum over n tokens of one gain, which holds the mean of n logarithms."""
    del logp
    return np.tile(pessimistic(np.exp(np.mean(log_ratio)), advantage, 3e-4, 4e-4), (len(log_ratio), 1)).T


def cispo(log_ratio, logp, advantage):
    weight = np.minimum(np.exp(log_ratio), 5.0)
    return weight * advantage * logp, weight * advantage


def standardised(rewards):
    return (rewards - rewards.mean()) / (rewards.std() + 1e-6)


def less_the_others(rewards):
    return np.array([r - np.delete(rewards, i).mean() for i, r in enumerate(rewards)])


def deducted(rewards, lengths):
    """What DAPO takes off: nothing up to two tokens, a half at three, one at four."""
    return rewards - np.array([{1: 0, 2: 0, 3: 0.5, 4: 1}[n] for n in lengths])


def a_response(length):
    return 1 / length / 6


def a_token(length):
    del length
    return 1 / 15


def a_constant(length):
    del length
    return 1 / LIMIT / 6


# rewards and lengths -> advantages; a response's length -> weight of its tokens; gains and their slopes
ALGORITHMS = {
    "gspo": (lambda r, n: standardised(r), a_response, gspo),
    "cispo": (lambda r, n: standardised(r), a_token, cispo),
    "dapo": (lambda r, n: standardised(deducted(r, n)), a_token, by_token(0.2, 0.28)),
    "dr_grpo": (lambda r, n: r - r.mean(), a_constant, by_token(0.2, 0.2)),
    "rloo": (lambda r, n: less_the_others(r), a_constant, by_token(np.inf, np.inf)),
}


def by_hand(name, logp, old, ref):
    """The loss and its gradient, in double precision, a response at a time."""
    advantages, weight, gains = ALGORITHMS[name]
    total, gradient = 0.0, np.zeros(logp.shape)
    for b, lengths in enumerate(LENGTHS):
        rewards = np.array([form + action for form, action in ANSWERS[b]])
        for g, (n, advantage) in enumerate(zip(lengths, advantages(rewards, lengths), strict=True)):
            mine, before, frozen = (x[b, g, :n].astype(np.float64) for x in (logp, old, ref))
            gain, slope = gains(mine - before, mine, advantage)
            far = frozen - mine
            total += weight(n) * np.sum(BETA * (np.exp(far) - 1 - far) - gain)
            gradient[b, g, :n] = weight(n) * (BETA * (1 - np.exp(far)) - slope)
    return total, gradient


@pytest.mark.parametrize("name", ALGORITHMS)
def test_loss_and_gradient_are_those_of_the_equations_in_any_layout(name, numbers):
    config, (logp, old, ref) = config_of(name), numbers
    batch = group_batch(
        groups_of(config),
        aggregation=config.grpo.aggregation,
        scale_by_std=config.grpo.scale_by_std,
        limit=LIMIT,
        baseline=config.grpo.baseline,
    )
    assert batch.mask_BGR.shape == (2, 3, LIMIT)
    logp, old, ref = (x[..., :LIMIT] for x in (logp, old, ref))
    expected, slope = by_hand(name, logp, old, ref)
    batch, function = batch.with_logprobs(ref, old), grpo_loss_of(config).function

    @jax.jit
    def run(terms, logp):
        inputs = LossInputs.of(terms, logp=logp, entropy=jnp.zeros_like(logp))
        return jax.value_and_grad(lambda x: function(dataclasses.replace(inputs, logp=x))[0])(logp)

    value, gradient = run(batch.terms, logp)
    np.testing.assert_allclose(value, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(gradient * batch.mask_BGR, slope, rtol=1e-4, atol=1e-6)
    parts = [run(jax.tree.map(lambda x, i=i: x[i : i + 1], batch.terms), logp[i : i + 1]) for i in range(2)]
    np.testing.assert_allclose(parts[0][0] + parts[1][0], expected, rtol=1e-5, atol=1e-6)
    terms = pack(batch, 32).terms
    logp, slope = (pack(batch.with_logprobs(x, None), 32).terms.ref_logp for x in (logp, slope))
    assert terms.mask.shape[0] == 1
    value, gradient = run(terms, logp)
    np.testing.assert_allclose(value, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(gradient * terms.mask, slope, rtol=1e-4, atol=1e-6)


def test_for_a_critic_rewards_are_left_as_they_are():
    how = {"aggregation": "token_mean", "scale_by_std": False, "limit": LIMIT, "baseline": "critic"}
    batch = group_batch(groups_of(config_of("ppo")), **how)
    np.testing.assert_allclose(batch.adv_BG, [[1.0, 0.1, 0.0], [0.1, 1.0, 1.0]], rtol=1e-6)


@pytest.mark.parametrize("name", ["gspo", "cispo"])
def test_in_the_first_update_all_of_them_are_the_policy_gradient(name, numbers):
    """Whatever the clips: without old log-probabilities every ratio is 1, and the gradient is that of A log p."""
    config, (logp, _, ref) = config_of(name), (x[..., :LIMIT] for x in numbers)
    config.grpo.kl_coef = 0.0
    how = {"aggregation": config.grpo.aggregation, "scale_by_std": True, "limit": LIMIT}
    batch = group_batch(groups_of(config), **how).with_logprobs(ref, None)
    function = grpo_loss_of(config).function

    def total(logp):
        return function(LossInputs.of(batch.terms, logp=logp, entropy=logp))

    (_, sums), gradient = jax.value_and_grad(total, has_aux=True)(jnp.asarray(logp))
    np.testing.assert_allclose(gradient, -batch.weight_BGR * batch.adv_BG[..., None], rtol=1e-6)
    assert (sums["ratio"], sums["clip_fraction"], sums["tokens"]) == (15.0, 0.0, 15.0)


def test_a_deduction_for_length_counts_in_the_reward_and_not_in_what_is_drawn_again():
    """Through `Rollouts`: both responses are wrong alike, and one of them is as long as the limit."""
    config = config_of("dapo")
    config.grpo.prompts, config.grpo.resample, drawn = 1, 2, []
    step = Step("", ("a",), "", "a", optimal_actions=("a",), distance=1)
    examples = [SimpleNamespace(prompt_ids=(1, 2), step=step)]

    class Sampler:
        def generate(self, prompts, count, params, seeds):
            assert isinstance(params, SamplingParams) and count == config.grpo.group_size
            drawn.append(seeds)
            return Samples([[(5,), (5, 5, 5, 5)]] * len(prompts), [[(0.0,), (0.0,) * 4]], [["stop", "length"]], 0)

    setting = SimpleNamespace(config=config, tokenizer=SimpleNamespace(decode=lambda ids: "x" * len(ids)))
    (group,) = Rollouts(setting, examples, Sampler()).draw(0).groups
    assert [r.total for r in group.rewards] == [0.0, -1.0] and not group.has_signal
    assert len(drawn) == 3  # it was drawn again as often as may be
    batch = group_batch([group], aggregation="token_mean", scale_by_std=True, limit=LIMIT)
    values = rollout_metrics([group], batch)
    assert (values["reward"], values["reward_length"], values["groups_zero_variance"]) == (-0.5, -0.5, 0.0)
    np.testing.assert_allclose(batch.adv_BG, [[1.0, -1.0]], rtol=1e-5)
