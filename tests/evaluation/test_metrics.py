"""The numbers against values worked by hand, tables of others, and the paper's own results."""

import dataclasses
import fractions
import itertools
import math
import statistics

import pytest
import scipy.stats

from stgrpo.evaluation import metrics
from stgrpo.evaluation.records import Episode, TurnRecord


def turn(failure="", exact=True, optimal=True, finish="stop", n_tokens=10) -> TurnRecord:
    return TurnRecord(0, 0, "o", "r", "a", failure, "a", exact, optimal, 3, finish, 100, n_tokens)


def episode(success: bool, steps: int, *, cap=15, failure="", turns=(), layout="x", optimal=None) -> Episode:
    return Episode("burger", layout, success, steps, cap, failure, optimal, tuple(turns))


# Newcombe 1998 (81/263), Brown, Cai, DasGupta 2001, and R's prop.test(correct = FALSE) for the rest.
@pytest.mark.parametrize(
    "k, n, low, high",
    [
        (81, 263, 0.2553, 0.3662),
        (0, 10, 0.0, 0.2775),
        (10, 10, 0.7225, 1.0),
        (5, 10, 0.2366, 0.7634),
        (7, 10, 0.3968, 0.8922),
    ],
)
def test_wilson_interval_has_the_known_values(k, n, low, high):
    assert metrics.wilson_interval(k, n) == pytest.approx((low, high), abs=5e-5)


def test_wilson_interval_solves_the_score_equation():
    # By definition its ends are the rates p at which |k/n - p| = z sqrt(p (1 - p) / n).
    for bound in metrics.wilson_interval(9, 40):
        assert abs(9 / 40 - bound) == pytest.approx(1.959964 * math.sqrt(bound * (1 - bound) / 40), rel=1e-6)


@pytest.mark.parametrize("confidence", [0.5, 0.95, 0.999])
def test_wilson_interval_is_its_closed_form(confidence):
    z = statistics.NormalDist().inv_cdf(0.5 + confidence / 2)
    for k, n in itertools.chain(*(((k, n) for k in {0, 1, n // 3, n}) for n in (1, 3, 10, 40, 263, 2000))):
        middle, half = k / n + z * z / (2 * n), z * math.sqrt(k * (n - k) / n**3 + z * z / (4 * n * n))
        ends = (middle - half) / (1 + z * z / n), (middle + half) / (1 + z * z / n)
        assert metrics.wilson_interval(k, n, confidence) == pytest.approx(ends, abs=1e-12)
    assert (
        metrics.wilson_interval(0, 40, confidence)[0] == 0.0 and metrics.wilson_interval(40, 40, confidence)[1] == 1.0
    )


def test_wilson_interval_of_nothing_and_of_nonsense():
    assert metrics.wilson_interval(0, 0) == (0.0, 1.0)
    with pytest.raises(ValueError, match="11 successes out of 10"):
        metrics.wilson_interval(11, 10)
    with pytest.raises(ValueError, match="confidence"):
        metrics.wilson_interval(1, 2, confidence=1.0)


def test_two_proportions_gives_the_p_value_of_the_papers_pooled_results():
    assert metrics.two_proportions(20, 40, 9, 40) == pytest.approx(0.011, abs=5e-4)
    assert metrics.two_proportions(9, 40, 20, 40) == metrics.two_proportions(20, 40, 9, 40)
    assert metrics.two_proportions(0, 10, 0, 10) == 1.0


def test_two_proportions_is_the_chi_square_test_of_the_table():
    for k_a, n_a, k_b, n_b in ((20, 40, 9, 40), (3, 7, 90, 100), (0, 5, 1, 9)):
        table = [[k_a, n_a - k_a], [k_b, n_b - k_b]]
        expected = scipy.stats.chi2_contingency(table, correction=False).pvalue
        assert metrics.two_proportions(k_a, n_a, k_b, n_b) == pytest.approx(expected, rel=1e-12)


def test_mcnemar_by_hand():
    # 1 against 6 discordant pairs: 2 (C(7,0) + C(7,1)) / 2^7 = 16 / 128.
    a = [True] * 3 + [True] + [False] * 6 + [False] * 2
    b = [True] * 3 + [False] + [True] * 6 + [False] * 2
    result = metrics.mcnemar(a, b)
    assert (result.both, result.only_a, result.only_b, result.neither) == (3, 1, 6, 2)
    assert result.p_value == 0.125


@pytest.mark.parametrize(
    "only_a, only_b, p", [(0, 0, 1.0), (3, 3, 1.0), (0, 6, 2 / 64), (0, 11, 2 / 2048), (5, 15, 0.041389)]
)
def test_mcnemar_p_values(only_a, only_b, p):
    a, b = [True] * only_a + [False] * only_b, [False] * only_a + [True] * only_b
    assert metrics.mcnemar(a, b).p_value == pytest.approx(p, rel=1e-4)


def test_mcnemar_is_the_exact_sum():
    for n in (1, 2, 7, 40, 400):
        for only_a in {0, 1, n // 3, n // 2, n - 1, n}:
            tail = sum(math.comb(n, i) for i in range(min(only_a, n - only_a) + 1))
            a = [True] * only_a + [False] * (n - only_a)
            p = metrics.mcnemar(a, [not success for success in a]).p_value
            assert p == pytest.approx(min(1.0, float(fractions.Fraction(2 * tail, 2**n))), rel=1e-12)


def test_mcnemar_neither_overflows_nor_takes_unequal_lists():
    assert metrics.mcnemar([False] * 3000, [True] * 3000).p_value == 0.0
    with pytest.raises(ValueError, match="2 episodes against 1"):
        metrics.mcnemar([True, False], [True])


def test_summary_counts_failures_at_the_cap_as_the_paper_does():
    # Double cheeseburger, SFT + GRPO: three layouts in 20 steps, seven failures at 35 give .3 / 30.5 / 20.
    episodes = [episode(True, 20, cap=35)] * 3 + [episode(False, 4, cap=35, failure="invalid")] * 7
    summary = metrics.summarise(episodes)
    assert (summary["sr"], summary["asat"], summary["asst"]) == (0.3, 30.5, 20)
    assert (summary["sr_low"], summary["sr_high"]) == metrics.wilson_interval(3, 10)
    assert summary["failures"]["invalid"] == 7 and summary["failures"]["timeout"] == 0


def test_summary_rates_count_every_response():
    turns = [
        turn(),
        turn(exact=False),
        turn("invalid", exact=False, optimal=False),
        turn("action", exact=False, optimal=False, finish="length", n_tokens=30),
    ]
    summary = metrics.summarise([episode(False, 2, failure="format", turns=turns)])
    assert (summary["responses"], summary["format_rate"], summary["valid_rate"]) == (4, 0.75, 0.5)
    assert (summary["exact_rate"], summary["optimal_rate"]) == (0.25, 0.5)
    assert (summary["truncated_rate"], summary["mean_tokens"]) == (0.25, 15)


def test_summary_without_success_without_planner_and_without_episodes():
    failed = metrics.summarise([episode(False, 15, failure="loop", turns=[turn(exact=None, optimal=None)])])
    assert (failed["asst"], failed["exact_rate"], failed["optimal_rate"], failed["asat"]) == (None, None, None, 15)
    empty = metrics.summarise([])
    assert empty["n"] == 0 and empty["sr"] is None and empty["sr_low"] is None and empty["asat"] is None


def test_summary_measures_steps_above_the_optimum():
    assert metrics.summarise([episode(True, 10, optimal=8), episode(True, 8, optimal=8)])["excess_steps"] == 1


def test_summary_has_the_mean_score_where_there_is_one():
    scored = [dataclasses.replace(episode(score == 1, 3), score=score) for score in (1.0, 0.4, 0.0, 0.2)]
    assert metrics.summarise(scored)["score"] == pytest.approx(0.4)
    assert metrics.summarise([episode(True, 3)])["score"] is None


def test_pairs_match_kitchens_whatever_their_order():
    a = [episode(True, 8, layout="1"), episode(False, 15, layout="2"), episode(True, 8, layout="2")]
    b = [episode(True, 9, layout="2"), episode(True, 7, layout="3"), episode(False, 15, layout="1")]
    pairs = metrics.pair_episodes(a, b)
    assert [(x.layout, x.success, y.success) for x, y in pairs] == [("1", True, False), ("2", False, True)]


def test_success_weighted_by_path_length_counts_a_failure_as_nothing():
    episodes = [
        episode(True, 10, optimal=8),
        episode(True, 8, optimal=8),
        episode(False, 15, optimal=8, failure="loop"),
    ]
    assert metrics.summarise(episodes)["spl"] == pytest.approx((0.8 + 1 + 0) / 3)
    assert metrics.summarise([episode(True, 0, optimal=0)])["spl"] == 1.0
    assert metrics.summarise([episode(True, 3, optimal=None)])["spl"] is None
