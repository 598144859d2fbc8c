"""Seeds and layouts: intervals of their mean by simulation, parts of the variance by hand and by simulation."""

import math

import numpy as np
import pytest

from stgrpo.evaluation.statistics.crossed import bootstrap, bootstrap_pooled, spread, variance_parts


def normal(rng, S, K, R=1, seed=0.0, layout=0.0, both=0.0, decoding=0.0):
    values = seed * rng.normal(size=(S, 1, 1)) + layout * rng.normal(size=(1, K, 1))
    return values + both * rng.normal(size=(S, K, 1)) + decoding * rng.normal(size=(S, K, R))


def test_over_layouts_alone_the_interval_is_the_standard_error_of_their_means():
    values = np.random.default_rng(1).random((3, 200)) < 0.6
    found = bootstrap(values, seeds=False)
    half = 1.96 * values.mean(axis=0).std() / np.sqrt(200)
    assert found.estimate == pytest.approx(values.mean())
    assert (found.low, found.high) == pytest.approx((found.estimate - half, found.estimate + half), abs=0.004)


def test_the_interval_over_both_covers_the_mean_and_the_one_over_layouts_does_not_where_seeds_differ():
    rng, both, layouts = np.random.default_rng(2), 0, 0
    for _ in range(80):
        values = normal(rng, 12, 60, seed=1.0, layout=1.0, decoding=1.0)[:, :, 0]
        found = bootstrap(values, draws=300)
        both += found.low <= 0 <= found.high
        found = bootstrap(values, draws=300, seeds=False)
        layouts += found.low <= 0 <= found.high
    assert 0.87 <= both / 80 <= 0.99 and layouts / 80 < 0.75


def test_the_same_numbers_give_the_same_interval_and_one_seed_has_no_spread():
    values = np.eye(4)
    assert bootstrap(values) == bootstrap(values)
    assert bootstrap(values[:1]).low == bootstrap(values[:1], seeds=False).low == 0.0
    one, three = spread(values[:1]), spread([[1, 1], [1, 0], [0, 0]])
    assert one.sd is None and (three.sd, three.low, three.high) == (0.5, 0.0, 1.0)


def test_the_parts_of_the_variance_by_hand():
    # Means of rows 1, 2 and of columns 1.5, 1.5; mean squares: rows 4·(¼+¼)=2, columns 0, both 2·4·¼=2, within ½.
    parts = variance_parts([[[0.5, 1.5], [0.5, 1.5]], [[2.5, 1.5], [2.5, 1.5]]])
    assert (parts.seed, parts.layout, parts.both, parts.decoding) == (0.5, 0.0, 0.0, 0.5)
    parts = variance_parts(np.array([[0.0, 1.0], [1.0, 2.0], [5.0, 6.0]])[:, :, None])  # rows and columns only add up
    assert (parts.seed, parts.layout) == pytest.approx((7.0, 0.5)) and parts.both is None
    assert parts.decoding == pytest.approx(0.0, abs=1e-12)


def test_the_parts_of_the_variance_are_those_it_was_made_of():
    rng = np.random.default_rng(3)
    values = normal(rng, 150, 150, 4, seed=1.0, layout=2.0, both=0.5, decoding=1.5)
    parts = variance_parts(values)
    assert (parts.seed, parts.layout) == pytest.approx((1.0, 4.0), rel=0.3)
    assert (parts.both, parts.decoding) == pytest.approx((0.25, 2.25), rel=0.05)


@pytest.mark.parametrize("values", [np.zeros((1, 5, 1)), np.zeros((5, 5)), np.zeros((2, 2, 0))])
def test_too_few_are_refused(values):
    with pytest.raises(ValueError, match="two seeds and two layouts"):
        variance_parts(values)
    with pytest.raises(ValueError, match="a row a seed"):
        bootstrap(np.zeros((0, 3)))


def test_one_stratum_is_the_bootstrap_over_both():
    values = np.random.default_rng(1).random((3, 50)) < 0.7
    assert bootstrap_pooled([values]) == bootstrap(values)


def test_strata_weigh_as_their_layouts_and_vary_by_themselves():
    rng = np.random.default_rng(2)
    few, many = rng.random((2, 20)) < 0.2, rng.random((3, 180)) < 0.9
    found = bootstrap_pooled([few, many])
    assert found.estimate == pytest.approx(0.1 * few.mean() + 0.9 * many.mean())
    widths = [one.high - one.low for one in (bootstrap(few), bootstrap(many), found)]
    expected = math.hypot(0.1 * widths[0], 0.9 * widths[1])  # of independent means
    assert widths[2] == pytest.approx(expected, rel=0.1)


@pytest.mark.parametrize("strata", [[], [np.ones((2, 0))], [np.ones(3)]])
def test_nothing_to_pool_is_refused(strata):
    with pytest.raises(ValueError, match="give at least one stratum"):
        bootstrap_pooled(strata)
