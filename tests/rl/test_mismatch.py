"""The mismatch of sampler and trainer, and its correction, against numbers worked by hand."""

import dataclasses

import numpy as np
import pytest

from stgrpo.rl.mismatch import correction_metrics, importance_weights, mismatch_metrics
from stgrpo.training.packing import pack

OLD = np.log(np.array([[0.5, 0.2, 0.1], [0.4, 0.4, 0.9]], np.float32))
SAMPLER = np.log(np.array([[0.25, 0.4, 0.1], [0.4, 0.1, 0.1]], np.float32))
MASK = np.array([[1, 1, 1], [1, 1, 0]], np.float32)  # the last is padding
RESPONSES = np.array([[0, 0, 0], [1, 1, 1]])


def test_equal_log_probabilities_do_not_differ():
    found = mismatch_metrics(OLD, OLD, MASK)
    assert found["mismatch_mean"] == found["mismatch_max"] == found["mismatch_kl"] == 0
    assert found["mismatch_pearson"] == pytest.approx(1)


def test_the_metrics_are_those_of_the_definition():
    found = mismatch_metrics(OLD, SAMPLER, MASK)
    ratios = np.array([2, 0.5, 1, 1, 4.0])
    assert found["mismatch_mean"] == pytest.approx(np.mean(np.abs(np.log(ratios))), rel=1e-5)
    assert found["mismatch_max"] == pytest.approx(np.log(4), rel=1e-5)
    assert found["mismatch_kl"] == pytest.approx(np.mean(ratios - 1 - np.log(ratios)), rel=1e-5)
    real = MASK > 0
    assert found["mismatch_pearson"] == pytest.approx(np.corrcoef(OLD[real], SAMPLER[real])[0, 1], rel=1e-5)


def test_one_value_for_all_tokens_has_a_correlation_that_is_a_number():
    same, other = np.full((1, 3), -1.0), np.full((1, 3), -2.0)
    assert mismatch_metrics(same, same, np.ones((1, 3)))["mismatch_pearson"] == 1
    assert mismatch_metrics(same, other, np.ones((1, 3)))["mismatch_pearson"] == 0


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
    weights = importance_weights(OLD - SAMPLER, MASK, RESPONSES, kind=kind, cap=cap)
    np.testing.assert_allclose(weights, expected, rtol=1e-5)
    found = correction_metrics(weights, MASK, cap=cap)
    real = np.array(expected)[MASK > 0]
    assert found["correction_mean"] == pytest.approx(real.mean(), rel=1e-5)
    assert found["correction_capped"] == pytest.approx(np.mean(real >= cap), rel=1e-5)


def test_an_unknown_kind_is_refused():
    with pytest.raises(ValueError, match="'both' is none of"):
        importance_weights(OLD, MASK, RESPONSES, kind="both", cap=2.0)


def test_weights_of_packed_rows_are_those_of_groups(make_groups):
    batch = make_groups([3, 5, 9, 2], [[4, 2, 7], [1, 1, 3], [6, 5, 4], [2, 8, 1]], seed=3)
    rng = np.random.default_rng(1)
    batch = dataclasses.replace(batch, old_logp_BGR=rng.normal(-3, 1, batch.mask_BGR.shape).astype(np.float32))
    packed = pack(batch, 48)

    def weights(b):
        ratio = b.terms.ref_logp - b.terms.old_logp
        return importance_weights(ratio, b.terms.mask, b.responses, kind="sequence", cap=1e6)

    def by_token(b, values):  # each token is known by its own log-probability
        real = b.terms.mask > 0
        return dict(zip(b.terms.old_logp[real].tolist(), values[real].tolist(), strict=True))

    mine, theirs = by_token(packed, weights(packed)), by_token(batch, weights(batch))
    assert mine.keys() == theirs.keys() and len(set(theirs.values())) == 12
    for key, value in theirs.items():
        assert mine[key] == pytest.approx(value, rel=1e-5)
