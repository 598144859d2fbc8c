"""The mismatch of sampler and trainer, and its correction, against numbers worked by hand."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stgrpo.rl.losses import Coefficients, make_loss
from stgrpo.rl.mismatch import Mismatch, importance_weights, measured, mismatch_metrics, mismatch_sums
from stgrpo.training.batch import LossTerms
from stgrpo.training.loss import LossInputs, averages, combine
from stgrpo.training.packing import pack

OLD = np.log(np.array([[0.5, 0.2, 0.1], [0.4, 0.4, 0.9]], np.float32))
SAMPLER = np.log(np.array([[0.25, 0.4, 0.1], [0.4, 0.1, 0.1]], np.float32))
MASK = np.array([[1, 1, 1], [1, 1, 0]], np.float32)  # the last is padding


def inputs_of(old=OLD, sampler=SAMPLER, mask=MASK, **more):
    """One response a row; `old` are also the policy's own."""
    zero = np.zeros_like(mask)
    terms = LossTerms(
        weight=mask / mask.sum(),
        mask=mask,
        adv=mask,
        ref_logp=old,
        response_id=zero.astype(np.int32),
        length=mask.sum(-1, keepdims=True) * mask,
        finished=mask,
        sampler_logp=sampler,
    )
    return dataclasses.replace(LossInputs.of(terms, logp=jnp.asarray(old), entropy=zero), **more)


def metrics(old, sampler, mask=MASK):
    sums = mismatch_sums(inputs_of(old, sampler, mask), old)
    return mismatch_metrics({name: float(value) for name, value in averages(sums).items()})


def test_equal_log_probabilities_do_not_differ():
    found = metrics(OLD, OLD)
    assert found["mismatch_mean"] == found["mismatch_max"] == found["mismatch_kl"] == 0
    assert found["mismatch_pearson"] == pytest.approx(1)


def test_the_metrics_are_those_of_the_definition():
    found = metrics(OLD, SAMPLER)
    ratios = np.array([2, 0.5, 1, 1, 4.0])
    assert found["mismatch_mean"] == pytest.approx(np.mean(np.abs(np.log(ratios))), rel=1e-5)
    assert found["mismatch_max"] == pytest.approx(np.log(4), rel=1e-5)
    assert found["mismatch_kl"] == pytest.approx(np.mean(ratios - 1 - np.log(ratios)), rel=1e-5)
    real = MASK > 0
    assert found["mismatch_pearson"] == pytest.approx(np.corrcoef(OLD[real], SAMPLER[real])[0, 1], rel=1e-5)
    assert set(found) == {"mismatch_mean", "mismatch_max", "mismatch_kl", "mismatch_pearson"}


def test_one_value_for_all_tokens_has_a_correlation_that_is_a_number():
    same, other = np.full((1, 3), -1.0, np.float32), np.full((1, 3), -2.0, np.float32)
    assert metrics(same, same, np.ones((1, 3), np.float32))["mismatch_pearson"] == 1
    assert metrics(same, other, np.ones((1, 3), np.float32))["mismatch_pearson"] == 0


def test_parts_of_a_batch_make_the_figures_of_the_whole():
    parts = [inputs_of(*(x[row : row + 1] for x in (OLD, SAMPLER, MASK))) for row in (0, 1)]
    sums = combine(*(mismatch_sums(part, part.logp) for part in parts))
    found = mismatch_metrics({name: float(value) for name, value in averages(sums).items()})
    for name, value in metrics(OLD, SAMPLER).items():
        assert found[name] == pytest.approx(value, rel=1e-5), name


@pytest.mark.parametrize(
    ("kind", "cap", "expected"),
    [
        ("token", 10.0, [[2, 0.5, 1], [1, 4, 0]]),
        ("token", 1.5, [[1.5, 0.5, 1], [1, 1.5, 0]]),
        ("sequence", 10.0, [[1, 1, 1], [4, 4, 0]]),
        ("sequence", 3.0, [[1, 1, 1], [3, 3, 0]]),
    ],
)
def test_weights_are_ratios_up_to_the_cap(kind, cap, expected):
    weights = importance_weights(OLD - SAMPLER, inputs_of(), kind=kind, cap=cap)
    np.testing.assert_allclose(weights, expected, rtol=1e-5)
    seen = []

    def loss(inputs):
        seen.append(np.asarray(inputs.correction))
        return jnp.zeros(()), {"tokens": jnp.sum(inputs.mask)}

    _, sums = measured(loss, Mismatch(correction=kind, cap=cap))(inputs_of())
    np.testing.assert_allclose(seen[0], expected, rtol=1e-5)
    found, real = averages(sums), np.array(expected)[MASK > 0]
    assert found["correction_mean"] == pytest.approx(real.mean(), rel=1e-5)
    assert found["correction_capped"] == pytest.approx(np.mean(real >= cap), rel=1e-5)


def test_an_unknown_kind_is_refused():
    with pytest.raises(ValueError, match="'both' is none of"):
        importance_weights(OLD, inputs_of(), kind="both", cap=2.0)


def test_weights_of_packed_rows_are_those_of_groups(make_groups):
    batch = make_groups([3, 5, 9, 2], [[4, 2, 7], [1, 1, 3], [6, 5, 4], [2, 8, 1]], seed=3)
    rng = np.random.default_rng(1)
    batch = dataclasses.replace(batch, old_logp_BGR=rng.normal(-3, 1, batch.mask_BGR.shape).astype(np.float32))
    packed = pack(batch, 48)

    def weights(b):
        ratio = b.terms.ref_logp - b.terms.old_logp
        inputs = LossInputs.of(b.terms, logp=ratio, entropy=ratio)
        return np.asarray(importance_weights(ratio, inputs, kind="sequence", cap=1e6))

    def by_token(b, values):  # each token is known by its own log-probability
        real = b.terms.mask > 0
        return dict(zip(b.terms.old_logp[real].tolist(), values[real].tolist(), strict=True))

    mine, theirs = by_token(packed, weights(packed)), by_token(batch, weights(batch))
    assert mine.keys() == theirs.keys() and len(set(theirs.values())) == 12
    for key, value in theirs.items():
        assert mine[key] == pytest.approx(value, rel=1e-5)


@pytest.mark.parametrize("denominator", ["trainer", "sampler"])
def test_the_ratio_is_to_the_trainer_or_to_the_sampler(denominator):
    loss = make_loss("grpo", Coefficients(kl_coef=0.0), mismatch=Mismatch(denominator=denominator))
    _, sums = loss.function(inputs_of(old_logp=OLD + np.log(2).astype(np.float32)))
    ratios = {"trainer": np.full(5, 0.5), "sampler": np.array([2, 0.5, 1, 1, 4])}[denominator]
    assert sums["ratio"] == pytest.approx(ratios.sum(), rel=1e-5)
    assert averages(sums)["mismatch_max"] == pytest.approx(np.log(8), rel=1e-5)  # always between sampler and trainer


def test_measuring_changes_neither_loss_nor_gradient():
    bare, loss = make_loss("grpo", Coefficients()), make_loss("grpo", Coefficients(), mismatch=Mismatch())

    def total(logp, function):
        return function(dataclasses.replace(inputs_of(), logp=logp))[0]

    for one in (jax.value_and_grad(total)(jnp.asarray(OLD), f.function) for f in (bare, loss)):
        np.testing.assert_array_equal(one[1], jax.grad(total)(jnp.asarray(OLD), bare.function))


def test_a_batch_that_nothing_was_drawn_for_has_no_mismatch():
    loss = make_loss("grpo", Coefficients(), mismatch=Mismatch(correction="token"))
    _, sums = loss.function(inputs_of(sampler=None))
    assert not [name for name in sums if name.startswith(("mismatch", "correction"))]
