"""Several trainings that differ in their seed, on the same layouts: what varies, and what is known of their mean."""

import dataclasses
from collections.abc import Sequence

import numpy as np


@dataclasses.dataclass(frozen=True)
class Interval:
    """A mean with its interval."""

    estimate: float
    low: float
    high: float


def bootstrap(
    values_SK: np.ndarray, *, seeds: bool = True, layouts: bool = True, draws: int = 10_000, confidence: float = 0.95
) -> Interval:
    """The mean over seeds and layouts, with a percentile interval of the bootstrap over both, or over one of them.

    Seeds and layouts are drawn with replacement and independently of each other, so that a kitchen that is hard is hard
    for all seeds of a draw (the pigeonhole bootstrap, Owen 2007, Annals of Applied Statistics 1). It speaks of seeds
    and layouts that were not tried. With two to four seeds it is narrower than it should be, as any bootstrap of so
    few.

    Args:
        values_SK: [seeds, layouts] successes, or their differences between two policies.
        seeds: whether other seeds are meant; else it is these.
        layouts: whether other layouts are meant.
        draws: of the bootstrap.
        confidence: of the interval.

    Raises:
        ValueError: there is nothing to average.
    """
    values_SK = np.asarray(values_SK, float)
    if values_SK.ndim != 2 or not values_SK.size:
        raise ValueError(f"values of shape {values_SK.shape}: give a row a seed and a column a layout")
    mean_D = _means(np.random.default_rng(0), values_SK, draws if seeds else 0, draws if layouts else 0)
    return _percentiles(float(values_SK.mean()), mean_D, confidence)


def bootstrap_difference(
    a_SK: np.ndarray, b_TK: np.ndarray, *, paired: bool, draws: int = 10_000, confidence: float = 0.95
) -> Interval:
    """The mean of b minus that of a, on the same layouts, with the interval of the bootstrap over seeds and layouts.

    Args:
        a_SK: [seeds, layouts] of the first.
        b_TK: [seeds, layouts] of the second, the layouts in the same order.
        paired: whether the seeds are the same too, in the same order; else those of each are drawn by themselves.
        draws: of the bootstrap.
        confidence: of the interval.

    Raises:
        ValueError: there is nothing to average, or the shapes do not go together.
    """
    a_SK, b_TK = np.asarray(a_SK, float), np.asarray(b_TK, float)
    if a_SK.shape[1:] != b_TK.shape[1:] or (paired and a_SK.shape != b_TK.shape):
        raise ValueError(f"shapes {a_SK.shape} and {b_TK.shape}: a pair needs the same layouts, and the same seeds")
    if paired:
        return bootstrap(b_TK - a_SK, draws=draws, confidence=confidence)
    rng = np.random.default_rng(0)
    weight_DS, weight_DT = _weights(rng, len(a_SK), draws), _weights(rng, len(b_TK), draws)
    weight_DK = _weights(rng, a_SK.shape[1], draws)
    mean_D = np.sum((weight_DT @ b_TK - weight_DS @ a_SK) * weight_DK, axis=1)
    return _percentiles(float(b_TK.mean() - a_SK.mean()), mean_D, confidence)


def bootstrap_pooled(strata_SK: Sequence[np.ndarray], *, draws: int = 10_000, confidence: float = 0.95) -> Interval:
    """The mean over strata, such as tasks, each with trainings and layouts of its own, by the bootstrap over both.

    In each stratum seeds and layouts are drawn as in `bootstrap`, independently of the other strata. A stratum weighs
    as much as it has layouts. The tasks are these very ones, not a sample of others.

    Args:
        strata_SK: of each [seeds, layouts] successes, or differences; one seed alone is not drawn.
        draws: of the bootstrap.
        confidence: of the interval.

    Raises:
        ValueError: there is nothing to average.
    """
    strata_SK = [np.asarray(values_SK, float) for values_SK in strata_SK]
    if not strata_SK or not all(values_SK.ndim == 2 and values_SK.size for values_SK in strata_SK):
        raise ValueError("give at least one stratum, of each a row a seed and a column a layout")
    rng = np.random.default_rng(0)
    layouts = sum(values_SK.shape[1] for values_SK in strata_SK)
    estimate, mean_D = 0.0, np.zeros(draws)
    for values_SK in strata_SK:
        share = values_SK.shape[1] / layouts
        estimate += share * values_SK.mean()
        mean_D += share * _means(rng, values_SK, draws, draws)
    return _percentiles(float(estimate), mean_D, confidence)


def _means(rng: np.random.Generator, values_SK: np.ndarray, seeds: int, layouts: int) -> np.ndarray:
    """The mean in each draw, of so many of the seeds and of the layouts; 0 for these very ones."""
    count_S, count_K = values_SK.shape
    weight_DS, weight_DK = _weights(rng, count_S, seeds), _weights(rng, count_K, layouts)
    return np.sum((weight_DS @ values_SK) * weight_DK, axis=1)


def _percentiles(estimate: float, mean_D: np.ndarray, confidence: float) -> Interval:
    """An estimate with the interval that leaves out as many draws on either side."""
    tail = (1 - confidence) / 2
    low, high = np.quantile(mean_D, [tail, 1 - tail])
    return Interval(estimate, float(low), float(high))


def _weights(rng: np.random.Generator, count: int, draws: int) -> np.ndarray:
    """[draws, count] how much each of `count` weighs in each draw; even weights in one row for 0 draws."""
    if not draws:
        return np.full((1, count), 1 / count)
    return rng.multinomial(count, np.full(count, 1 / count), size=draws) / count


@dataclasses.dataclass(frozen=True)
class Spread:
    """How far the success rates of several trainings lie apart.

    Attributes:
        sd: their standard deviation (n - 1); None of one.
        low, high: the least and the greatest.
    """

    sd: float | None
    low: float
    high: float


def spread(values_SK: np.ndarray) -> Spread:
    """The spread over seeds of the means over layouts."""
    mean_S = np.asarray(values_SK, float).mean(axis=1)
    sd = float(mean_S.std(ddof=1)) if len(mean_S) > 1 else None
    return Spread(sd, float(mean_S.min()), float(mean_S.max()))


@dataclasses.dataclass(frozen=True)
class Variance:
    """What the variance of a single outcome is made of, by the method of moments; estimates below 0 count as 0.

    Attributes:
        seed: of the training: how far the trainings' own rates lie apart.
        layout: of the layout: how far the difficulties of layouts do.
        both: seeds that are good at some layouts; None where every layout was played once, as `decoding` has it then.
        decoding: between plays of one policy in one layout; with one play, what no other part explains.
    """

    seed: float
    layout: float
    both: float | None
    decoding: float


def variance_parts(values_SKR: np.ndarray) -> Variance:
    """Splits the variance of outcomes of a crossed design: two-way random effects, expected mean squares (ANOVA).

    Args:
        values_SKR: [seeds, layouts, plays], two seeds and two layouts at least.

    Raises:
        ValueError: there are too few of them.
    """
    values_SKR = np.asarray(values_SKR, float)
    if values_SKR.ndim != 3 or min(values_SKR.shape[:2]) < 2 or not values_SKR.size:
        raise ValueError(
            f"values of shape {values_SKR.shape}: give two seeds and two layouts at least, and their plays"
        )
    S, K, R = values_SKR.shape
    mean_SK, mean = values_SKR.mean(axis=2), values_SKR.mean()
    mean_S, mean_K = mean_SK.mean(axis=1), mean_SK.mean(axis=0)
    square_S = K * R * np.sum((mean_S - mean) ** 2) / (S - 1)
    square_K = S * R * np.sum((mean_K - mean) ** 2) / (K - 1)
    square_SK = R * np.sum((mean_SK - mean_S[:, None] - mean_K + mean) ** 2) / ((S - 1) * (K - 1))
    seed, layout = (square_S - square_SK) / (K * R), (square_K - square_SK) / (S * R)
    if R == 1:
        return Variance(max(0.0, seed), max(0.0, layout), None, float(square_SK))
    within = np.sum((values_SKR - mean_SK[:, :, None]) ** 2) / (S * K * (R - 1))
    return Variance(max(0.0, seed), max(0.0, layout), float(max(0.0, (square_SK - within) / R)), float(within))
