"""Differences of success rates on the same layouts, against an independent likelihood and by simulation."""

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.stats import norm

from stgrpo.evaluation.statistics.paired import equivalence_p_value, holm, paired_difference, score


def pairs(only_a, only_b, n):
    a = [True] * only_a + [False] * (n - only_a)
    b = [False] * only_a + [True] * only_b + [False] * (n - only_a - only_b)
    return a, b


def constrained_score(only_a, only_b, n, difference):
    """The score statistic with the nuisance probability found by maximising the likelihood itself."""

    def loss(q):
        p = np.array([q + difference, q, 1 - 2 * q - difference])
        counts = np.array([only_b, only_a, n - only_a - only_b])
        return -np.sum(counts * np.log(np.maximum(p, 1e-300)))

    low, high = max(0.0, -difference), (1 - difference) / 2
    q = minimize_scalar(loss, bounds=(low, high), method="bounded", options={"xatol": 1e-12}).x
    return (only_b - only_a - n * difference) / np.sqrt(n * (2 * q + difference * (1 - difference)))


@pytest.mark.parametrize(("only_a", "only_b", "n"), [(3, 23, 200), (12, 5, 200), (2, 12, 50), (1, 1, 10), (9, 31, 40)])
def test_the_interval_is_what_the_score_test_does_not_refuse(only_a, only_b, n):
    found = paired_difference(*pairs(only_a, only_b, n))
    assert (found.only_a, found.only_b, found.n) == (only_a, only_b, n)
    assert found.estimate == pytest.approx((only_b - only_a) / n) and found.low < found.estimate < found.high
    for limit, z in ((found.low, 1.959964), (found.high, -1.959964)):
        assert score(only_a, only_b, n, limit) == pytest.approx(z, abs=1e-5)
        assert constrained_score(only_a, only_b, n, limit) == pytest.approx(z, abs=1e-3)


def test_it_is_turned_round_with_the_policies_and_the_test_of_no_difference_is_mcnemars():
    there, back = paired_difference(*pairs(3, 23, 200)), paired_difference(*pairs(23, 3, 200))
    assert (back.low, back.high) == pytest.approx((-there.high, -there.low))
    assert score(3, 23, 200, 0.0) == pytest.approx((23 - 3) / np.sqrt(23 + 3))


@pytest.mark.parametrize(("only_a", "only_b", "n"), [(0, 0, 20), (0, 20, 20), (20, 0, 20), (0, 1, 1)])
def test_it_has_a_width_and_stays_inside_at_the_ends(only_a, only_b, n):
    found = paired_difference(*pairs(only_a, only_b, n))
    assert -1 <= found.low <= found.estimate <= found.high <= 1 and found.high - found.low > 0.05
    if not only_a and not only_b:  # z² / (n + z²), by hand
        assert found.high == pytest.approx(1.959964**2 / (n + 1.959964**2), abs=1e-6)
        assert found.low == pytest.approx(-found.high)


def test_its_coverage_is_what_it_says():
    rng, n, probabilities = np.random.default_rng(0), 50, (0.04, 0.2, 0.76)
    counts = rng.multinomial(n, probabilities, size=400)
    truth = probabilities[1] - probabilities[0]
    covered = [abs(score(int(a), int(b), n, truth)) <= norm.isf(0.025) for a, b, _ in counts]
    assert 0.93 <= np.mean(covered) <= 0.98  # 0.957 (se 0.010)
    inside = [
        d.low <= truth <= d.high for d in (paired_difference(*pairs(int(a), int(b), n)) for a, b, _ in counts[:60])
    ]
    assert inside == covered[:60]


@pytest.mark.parametrize("margin", [0.02, 0.05, 0.1, 0.15])
def test_equivalence_is_an_interval_of_90_percent_inside_the_margin(margin):
    for a, b in (pairs(4, 5, 200), pairs(3, 23, 200), pairs(10, 12, 100)):
        found = paired_difference(a, b, confidence=0.9)
        inside = -margin < found.low and found.high < margin
        assert (equivalence_p_value(a, b, margin) < 0.05) == inside


def test_holm_by_hand():
    # 4 * .01; 3 * .013 = .039, kept at .04; 2 * .03; 1 * .04 kept at .06
    assert holm([0.03, 0.01, 0.04, 0.013]) == pytest.approx([0.06, 0.04, 0.06, 0.04])
    assert holm([]) == [] and holm([0.7, 0.8]) == [1.0, 1.0]


@pytest.mark.parametrize(
    "call",
    [
        lambda: paired_difference([True], [True, False]),
        lambda: paired_difference([], []),
        lambda: paired_difference([True], [True], confidence=1),
        lambda: equivalence_p_value([True], [True], 0),
    ],
)
def test_what_cannot_be_compared_is_said(call):
    with pytest.raises(ValueError, match=r"pair|confidence|margin"):
        call()
