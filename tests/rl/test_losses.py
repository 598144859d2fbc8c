"""Advantages and losses worked by hand, and gradients against finite differences."""

import dataclasses
import math
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from stgrpo.errors import UserError
from stgrpo.models.sharding import make_mesh
from stgrpo.rl.losses import (
    BASELINES,
    KL_ESTIMATORS,
    LOSSES,
    Coefficients,
    cispo_loss,
    find_loss,
    group_advantages,
    grpo_loss,
    gspo_loss,
    kl_penalty,
    make_loss,
    sft_loss,
)
from stgrpo.training.batch import AGGREGATIONS, GroupBatch, loss_weights
from stgrpo.training.health import FLAGS
from stgrpo.training.loss import LossInputs
from stgrpo.training.masked import masked_sum
from stgrpo.training.packing import pack
from stgrpo.training.step import build_program, loss_inputs

LN2 = math.log(2)


def test_advantages_by_hand():
    # Rewards 0, 0.1, 1, 1: mean 0.525, deviations -0.525, -0.425, 0.475, 0.475, std sqrt(0.226875) = 0.476314.
    got = group_advantages(jnp.array([[0.0, 0.1, 1.0, 1.0], [1.0, 0.0, 0.0, 0.0]]))
    expected = [[-1.102214, -0.892269, 0.997242, 0.997242], [1.732051, -0.577350, -0.577350, -0.577350]]
    np.testing.assert_allclose(got, expected, rtol=1e-4)


def test_dr_grpo_advantages_are_not_divided():
    got = group_advantages(jnp.array([[0.0, 0.1, 1.0, 1.0]]), scale_by_std=False)
    np.testing.assert_allclose(got, [[-0.525, -0.425, 0.475, 0.475]], rtol=1e-6)


def test_leave_one_out_advantages_by_hand():
    # Of 0, 0.1, 1, 1 the means of the others are 0.7, 2/3, 1.1/3 and 1.1/3.
    how = {"baseline": "leave_one_out", "scale_by_std": False}
    got = group_advantages(jnp.array([[0.0, 0.1, 1.0, 1.0], [0.5, 1.0, 0.5, 1.0]]), **how)
    np.testing.assert_allclose(got, [[-0.7, 0.1 - 2 / 3, 1.9 / 3, 1.9 / 3], [-1 / 3, 1 / 3] * 2], rtol=1e-5)
    with pytest.raises(ValueError, match="baseline 'mean' is none of"):
        group_advantages(jnp.zeros((1, 2)), baseline="mean")


@pytest.mark.parametrize("value", [0.0, 0.1, 0.1 + 0.9, 1 / 3, 1e-7])
@pytest.mark.parametrize("scale_by_std", [True, False])
@pytest.mark.parametrize("baseline", BASELINES)
def test_equal_rewards_have_advantage_exactly_zero(value, scale_by_std, baseline):
    for size in (2, 3, 5, 7, 8):
        how = {"scale_by_std": scale_by_std, "baseline": baseline}
        got = group_advantages(jnp.full((1, size), value, jnp.float32), **how)
        np.testing.assert_array_equal(got, np.zeros((1, size)))


def policy_loss(logp, entropy, terms, coefficients, **more):
    """GRPO's loss of log-probabilities that are given."""
    return grpo_loss(LossInputs.of(terms, logp=logp, entropy=entropy, **more), coefficients)


def two_rows(weight_BGR):
    """One prompt, a response of two tokens with advantage 2 and one of one token with advantage -1.

    Ratios to the old policy are 1.5, 1 and 0.5; reference over policy is 2, 1 and 1/2. The fourth place is padding.
    """
    logp = jnp.array([[[-1.0, -2.0], [-1.5, -9.0]]])
    batch = GroupBatch(
        prompt_BP=jnp.zeros((1, 1), jnp.int32),
        prompt_len_B=jnp.ones(1, jnp.int32),
        response_BGR=jnp.zeros((1, 2, 2), jnp.int32),
        weight_BGR=weight_BGR,
        mask_BGR=jnp.array([[[1.0, 1.0], [1.0, 0.0]]]),
        adv_BG=jnp.array([[2.0, -1.0]]),
        ref_logp_BGR=logp + jnp.array([[[LN2, 0.0], [-LN2, 0.0]]]),
        old_logp_BGR=logp - jnp.array([[[math.log(1.5), 0.0], [math.log(0.5), 0.0]]]),
    )
    return logp, batch


# Gains with the ratio clipped to 0.8 .. 1.2: 2 * 1.2 = 2.4, 2 * 1 = 2, and min(-0.5, -0.8) = -0.8.
# Weights 1/3 each; 1/4, 1/4, 1/2; 1/(2 * 5) each. Their weighted sum:
GAINS = {"token_mean": 1.2, "sequence_mean": 0.7, "dr_grpo": 0.36}
# k1 of the three tokens: -ln 2, 0, ln 2. k2: ln^2 2 / 2, 0, the same. k3: 2 - 1 - ln 2, 0, 1/2 - 1 + ln 2.
PENALTIES = {
    ("token_mean", "k1"): 0.0,
    ("token_mean", "k2"): 0.160151,
    ("token_mean", "k3"): 0.166667,
    ("sequence_mean", "k1"): 0.173287,
    ("sequence_mean", "k2"): 0.180170,
    ("sequence_mean", "k3"): 0.173287,
    ("dr_grpo", "k1"): 0.0,
    ("dr_grpo", "k2"): 0.0480453,
    ("dr_grpo", "k3"): 0.05,
}


@pytest.mark.parametrize(("aggregation", "estimator"), PENALTIES)
def test_loss_of_two_rows_by_hand(aggregation, estimator):
    logp, batch = two_rows(loss_weights(jnp.array([[2, 1]]), 2, aggregation, limit=5))
    loss = Coefficients(kl_coef=0.1, kl_estimator=estimator, clip_low=0.2, clip_high=0.2)
    total, sums = policy_loss(logp, jnp.full((1, 2, 2), 0.5), batch.terms, loss)
    expected = -GAINS[aggregation] + 0.1 * PENALTIES[aggregation, estimator]
    np.testing.assert_allclose(total, expected, rtol=1e-5)
    by_hand = {"tokens": 3, "kl": 0.5, "kl_k1": 0.0, "entropy": 1.5, "ratio": 3.0, "clip_fraction": 2.0}
    assert set(sums) == set(by_hand)
    for name, value in by_hand.items():
        np.testing.assert_allclose(sums[name], value, atol=1e-6, err_msg=name)


def test_a_correction_scales_the_gain_of_each_token_and_not_its_penalty():
    logp, batch = two_rows(loss_weights(jnp.array([[2, 1]]), 2, "token_mean"))
    correction = jnp.array([[[0.5, 2.0], [3.0, 99.0]]])
    loss = Coefficients(kl_coef=0.1, kl_estimator="k3", clip_low=0.2, clip_high=0.2)
    total, _ = policy_loss(logp, logp, batch.terms, loss, correction=correction)
    expected = -(0.5 * 2.4 + 2.0 * 2.0 + 3.0 * -0.8) / 3 + 0.1 * PENALTIES["token_mean", "k3"]
    np.testing.assert_allclose(total, expected, rtol=1e-5)


def test_every_choice_is_worked_by_hand():
    assert set(PENALTIES) == {(a, k) for a in AGGREGATIONS for k in KL_ESTIMATORS}


def test_one_ratio_a_response_by_hand():
    """GSPO: the geometric means of 1.5 and 1, and of 0.5, are 1.224745 and 0.5."""
    logp, batch = two_rows(loss_weights(jnp.array([[2, 1]]), 2, "sequence_mean"))
    for low, high, gains in ((None, None, (2 * 1.224745, -0.5)), (0.2, 0.1, (2 * 1.1, -0.8))):
        c = Coefficients(kl_coef=0.0, clip_low=low, clip_high=high)
        inputs = LossInputs.of(batch.terms, logp=logp, entropy=logp)
        (total, sums), gradient = jax.value_and_grad(
            lambda x, inputs=inputs, c=c: gspo_loss(dataclasses.replace(inputs, logp=x), c), has_aux=True
        )(logp)
        np.testing.assert_allclose(total, -sum(gains) / 2, rtol=1e-5)
        np.testing.assert_allclose(sums["ratio"], 2 * 1.224745 + 0.5, rtol=1e-5)
        free = [[[-1.224745 / 2, -1.224745 / 2], [0.25, 0.0]]]  # each token has half of its response's, or all
        np.testing.assert_allclose(gradient, free if low is None else np.zeros((1, 2, 2)), rtol=1e-5)
        assert sums["clip_fraction"] == (0.0 if low is None else 3.0)


def test_a_clipped_weight_keeps_the_gradient_by_hand():
    """CISPO: the ratios 1.5, 1 and 0.5 weigh 1.2, 1 and 0.5, and each token has its weight times its advantage."""
    logp, batch = two_rows(loss_weights(jnp.array([[2, 1]]), 2, "token_mean"))

    def total(logp):
        inputs = LossInputs.of(batch.terms, logp=logp, entropy=logp)
        return cispo_loss(inputs, Coefficients(kl_coef=0.0, clip_high=0.2))

    (value, sums), gradient = jax.value_and_grad(total, has_aux=True)(logp)
    np.testing.assert_allclose(value, -(1.2 * 2 * -1.0 + 2 * -2.0 + 0.5 * -1 * -1.5) / 3, rtol=1e-5)
    np.testing.assert_allclose(gradient, [[[-2.4 / 3, -2 / 3], [0.5 / 3, 0.0]]], rtol=1e-5)
    assert (sums["clip_fraction"], sums["tokens"]) == (1.0, 3.0)


# advantage, ratio, clip_low, clip_high -> gain, whether clipped
CLIPS = [
    (1.0, 1.5, 0.2, 0.2, 1.2, True),
    (1.0, 0.5, 0.2, 0.2, 0.5, False),
    (-1.0, 1.5, 0.2, 0.2, -1.5, False),
    (-1.0, 0.5, 0.2, 0.2, -0.8, True),
    (1.0, 1.1, 0.2, 0.2, 1.1, False),
    (-1.0, 0.9, 0.2, 0.2, -0.9, False),
    (1.0, 1.25, 0.2, 0.3, 1.25, False),
    (1.0, 1.5, 0.2, 0.3, 1.3, True),
    (-1.0, 0.65, 0.4, 0.2, -0.65, False),
    (1.0, 1.5, 0.2, None, 1.5, False),
    (-1.0, 0.5, 0.2, None, -0.8, True),
    (1.0, 1.5, None, 0.2, 1.2, True),
    (-1.0, 0.5, None, 0.2, -0.5, False),
    (1.0, 1.5, None, None, 1.5, False),
    (-1.0, 0.5, None, None, -0.5, False),
]


@pytest.mark.parametrize(("advantage", "ratio", "low", "high", "gain", "clipped"), CLIPS)
def test_clipping(advantage, ratio, low, high, gain, clipped):
    one = jnp.ones((1, 1, 1))
    batch = GroupBatch(one, one, one, one, one, adv_BG=one[..., 0] * advantage, ref_logp_BGR=-one, old_logp_BGR=-one)

    def total(logp):
        return policy_loss(logp, one, batch.terms, Coefficients(kl_coef=0.0, clip_low=low, clip_high=high))

    (value, sums), gradient = jax.value_and_grad(total, has_aux=True)(-one + math.log(ratio))
    np.testing.assert_allclose(value, -gain, rtol=1e-5)
    assert sums["clip_fraction"] == clipped
    np.testing.assert_allclose(gradient, 0.0 if clipped else -advantage * ratio, rtol=1e-5)  # d ratio / d logp = ratio


def test_without_old_log_probabilities_the_ratio_is_one_and_the_gradient_is_the_policy_gradient():
    logp, batch = two_rows(loss_weights(jnp.array([[2, 1]]), 2, "token_mean"))
    batch = dataclasses.replace(batch, old_logp_BGR=None)
    loss = Coefficients(kl_coef=0.0, clip_low=0.2, clip_high=0.2)
    (total, sums), gradient = jax.value_and_grad(policy_loss, has_aux=True)(logp, logp, batch.terms, loss)
    assert (sums["ratio"], sums["clip_fraction"]) == (3.0, 0.0)
    np.testing.assert_allclose(total, -1.0, rtol=1e-6)
    np.testing.assert_allclose(gradient, [[[-2 / 3, -2 / 3], [1 / 3, 0.0]]], rtol=1e-6)


@pytest.mark.parametrize("estimator", KL_ESTIMATORS)
def test_kl_stays_finite_and_k3_is_an_unbiased_estimate(estimator):
    far = kl_penalty(jnp.array([-1e4, 0.0]), jnp.array([0.0, -1e4]), estimator)
    assert jnp.isfinite(far).all()
    p, q = jax.nn.log_softmax(jnp.array([[0.3, -1.0, 0.7], [0.1, 0.2, -0.4]]))
    if estimator != "k2":  # k2 is biased
        expected = jnp.sum(jnp.exp(p) * (p - q))
        np.testing.assert_allclose(jnp.sum(jnp.exp(p) * kl_penalty(p, q, estimator)), expected, rtol=1e-5)


def test_weights_do_not_depend_on_padding_and_count_only_real_responses():
    length = jnp.array([[3, 1], [0, 0]])  # the second group is padding
    for size in (3, 8):
        weights = {name: loss_weights(length, size, name, limit=4) for name in AGGREGATIONS}
        np.testing.assert_allclose(weights["token_mean"].sum(-1), [[3 / 4, 1 / 4], [0, 0]], rtol=1e-6)
        np.testing.assert_allclose(weights["sequence_mean"].sum(-1), [[1 / 2, 1 / 2], [0, 0]], rtol=1e-6)
        np.testing.assert_allclose(weights["dr_grpo"].sum(-1), [[3 / 8, 1 / 8], [0, 0]], rtol=1e-6)


@pytest.mark.parametrize("estimator", KL_ESTIMATORS)
@pytest.mark.parametrize("clip", [None, 0.2])
def test_gradient_in_double_precision_equals_finite_differences(estimator, clip):
    """Through a softmax policy with 2 groups of 3 responses of 4 tokens."""
    rng = np.random.default_rng(0)
    B, G, R, V = 2, 3, 4, 5
    with jax.enable_x64(True):
        target = rng.integers(0, V, (B, G, R))
        batch = GroupBatch(
            *(jnp.zeros(1),) * 3,
            weight_BGR=loss_weights(jnp.array([[4, 2, 0], [1, 3, 4]]), R, "sequence_mean").astype(jnp.float64),
            mask_BGR=jnp.ones((B, G, R)),
            adv_BG=jnp.asarray(rng.normal(size=(B, G))),
            ref_logp_BGR=jnp.asarray(rng.uniform(-3, -1, (B, G, R))),
            old_logp_BGR=jnp.asarray(rng.uniform(-2.5, -1, (B, G, R))),
        )
        loss = Coefficients(kl_coef=0.3, kl_estimator=estimator, clip_low=clip, clip_high=clip)

        @jax.jit
        def total(logits):
            logp = jnp.take_along_axis(jax.nn.log_softmax(logits), target[..., None], axis=-1)[..., 0]
            return policy_loss(logp, jnp.zeros_like(logp), batch.terms, loss)[0]

        logits = jnp.asarray(rng.normal(size=(B, G, R, V)))
        gradient = np.asarray(jax.grad(total)(logits)).ravel()
        steps = 1e-6 * np.eye(gradient.size).reshape(-1, *logits.shape)
        numeric = np.asarray(jax.vmap(total)(logits + steps) - jax.vmap(total)(logits - steps)) / 2e-6
        assert gradient.dtype == np.float64
    np.testing.assert_allclose(gradient, numeric, atol=1e-8)


def test_gradient_through_the_decoder_equals_finite_differences(tiny_shape, make_model, make_groups):
    """In float32, along the gradient and along a random direction."""
    model = make_model(tiny_shape)
    batch = make_groups([5, 3], [[4, 2], [3, 4]])
    old = jnp.asarray(np.random.default_rng(1).uniform(-5, -3.5, (2, 2, 4)), jnp.float32)
    batch = dataclasses.replace(batch, old_logp_BGR=old)
    loss = make_loss("grpo", Coefficients(kl_coef=0.1, clip_low=0.2, clip_high=0.2), temperature=0.8)
    total = jax.jit(lambda m: loss.function(loss_inputs(m, batch, temperature=0.8, dtype=jnp.float32))[0])
    leaves, form = jax.tree.flatten(model)
    gradient = jax.tree.leaves(jax.jit(jax.grad(total))(model))
    rng = np.random.default_rng(2)
    for direction in (gradient, [rng.normal(size=x.shape).astype(np.float32) for x in leaves]):
        size = math.sqrt(sum(float(np.sum(np.square(d))) for d in direction))
        unit = [np.asarray(d) / size for d in direction]
        exact = sum(float(np.sum(np.asarray(g) * u)) for g, u in zip(gradient, unit, strict=True))

        def moved(h, unit=unit):
            return float(total(form.unflatten([x + h * u for x, u in zip(leaves, unit, strict=True)])))

        slopes = [(moved(h) - moved(-h)) / (2 * h) for h in (0.002, 0.004)]
        np.testing.assert_allclose((4 * slopes[0] - slopes[1]) / 3, exact, rtol=2e-3, atol=2e-4)


def weighted(inputs, coefficients):
    """A loss of one's own: REINFORCE with a weight against the sampler."""
    weight = jnp.minimum(
        jnp.exp(jax.lax.stop_gradient(inputs.logp - inputs.sampler_logp)), coefficients.option("cap", 2)
    )
    gain = weight * inputs.adv * inputs.logp
    return -masked_sum(gain, inputs.weight), {"weight": masked_sum(weight, inputs.mask)}


def test_a_loss_is_found_by_name_or_by_its_import_path(tmp_path, monkeypatch):
    assert find_loss("sft") is sft_loss and find_loss("grpo") is grpo_loss
    (tmp_path / "own_losses.py").write_text("def mine(inputs, coefficients):\n    return 0.0, {}\n\n\nnumber = 3\n")
    monkeypatch.chdir(tmp_path)
    assert find_loss("own_losses:mine")(None, None) == (0.0, {})
    assert str(tmp_path) not in sys.path


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("gpro", "did you mean 'grpo'\\?, or give one of your own as MODULE:FUNCTION"),
        ("no_such_module:f", "cannot be imported \\(No module named 'no_such_module'\\)"),
        ("stgrpo.rl.losses:no_such_loss", "no attribute 'no_such_loss'"),
        ("stgrpo.rl.losses:LOSSES", "is no function"),
        (":f", "cannot be imported"),
    ],
)
def test_a_loss_that_is_not_there_is_said_in_one_line(name, says):
    with pytest.raises(UserError, match=says) as caught:
        find_loss(name)
    assert "\n" not in str(caught.value)


def test_a_loss_of_ones_own_gets_all_that_a_token_has_and_trains(tiny_shape, make_model, make_groups, monkeypatch):
    """On groups and on packed rows: the same loss, and figures divided by the number of tokens."""
    monkeypatch.setitem(LOSSES, "weighted", weighted)
    batch = make_groups([5, 3], [[4, 2], [3, 4]])
    finished, logp = np.array([[1, 0], [1, 1]], np.float32), -3 * batch.mask_BGR
    batch = dataclasses.replace(batch, sampler_logp_BGR=logp, finished_BG=finished)
    loss, mesh = make_loss("weighted", Coefficients(options=(("cap", 1.25),))), make_mesh(1, devices=jax.devices()[:1])
    program, found = build_program(tiny_shape, mesh, optax.sgd(0.1), loss=loss), []
    for layout in (batch, pack(batch, 16)):
        state = program.init_from(jax.tree.map(jnp.copy, make_model(tiny_shape)))
        found.append(jax.device_get(program.update(state, layout)[1]))
        terms = jax.tree.map(np.asarray, layout.terms)
        real = terms.mask > 0
        assert sorted(terms.length[real]) == [2, 2, 3, 3, 3, 4, 4, 4, 4, 4, 4, 4, 4]
        assert terms.finished[real].sum() == 11
        responses = {(row, i) for row, i in zip(np.nonzero(real)[0], terms.response_id[real], strict=True)}
        assert len(responses) == 4
    assert set(found[0]) == {"loss", "grad_norm", "weight", *FLAGS}
    for name, value in found[0].items():
        np.testing.assert_allclose(found[1][name], value, rtol=1e-4, err_msg=name)
    assert 0 < found[0]["weight"] <= 1.25
