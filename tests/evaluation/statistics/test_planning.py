"""Numbers of layouts and of plays: by hand, by counting all outcomes, and against scipy's binomial test."""

import itertools
import math

import numpy as np
import pytest

from stgrpo.evaluation.metrics import mcnemar
from stgrpo.evaluation.statistics.planning import approximate_layouts, mcnemar_power, planned_layouts
from stgrpo.evaluation.statistics.repeated import pass_at_k, pass_hat_k


def test_connors_number_by_hand():
    # (1.95996 √.3 + .84162 √(.3 - .01))² / .01
    assert approximate_layouts(0.1, 0.2, 0.8, 0.05) == pytest.approx(233.07, abs=0.05)


def test_the_power_is_the_chance_of_all_outcomes_that_the_exact_test_finds():
    n, only_a, only_b = 14, 0.05, 0.5
    power = 0.0
    for a, b in itertools.product(range(n + 1), repeat=2):
        if a + b <= n:
            first, second = [True] * a + [False] * (n - a), [False] * a + [True] * b + [False] * (n - a - b)
            ways = math.factorial(n) / (math.factorial(a) * math.factorial(b) * math.factorial(n - a - b))
            found = mcnemar(first, second).p_value <= 0.05
            power += found * ways * only_a**a * only_b**b * (1 - only_a - only_b) ** (n - a - b)
    assert mcnemar_power(n, only_a, only_b) == pytest.approx(power, abs=1e-9)


def test_the_planned_number_has_the_power_and_few_less_have_not():
    n = planned_layouts(0.05, 0.15)
    assert mcnemar_power(n, 0.05, 0.15) >= 0.8 > mcnemar_power(n - 5, 0.05, 0.15)
    assert n == pytest.approx(approximate_layouts(0.05, 0.15, 0.8, 0.05), rel=0.15)
    assert planned_layouts(0.15, 0.05) == n and mcnemar_power(5, 0.0, 0.0) == 0.0
    with pytest.raises(ValueError, match="no difference"):
        planned_layouts(0.1, 0.1)
    with pytest.raises(ValueError, match="no probabilities"):
        mcnemar_power(5, 0.7, 0.7)


def test_one_of_k_and_all_of_k_by_counting_all_choices_of_plays():
    outcomes = [True, True, False, False, False]
    for k in range(1, 6):
        choices = list(itertools.combinations(outcomes, k))
        assert pass_at_k(5, 2, k) == pytest.approx(np.mean([any(choice) for choice in choices]))
        assert pass_hat_k(5, 2, k) == pytest.approx(np.mean([all(choice) for choice in choices]))
    for wrong in ((5, 6, 1), (5, 2, 0), (5, 2, 6)):
        with pytest.raises(ValueError, match="k="):
            pass_at_k(*wrong)
