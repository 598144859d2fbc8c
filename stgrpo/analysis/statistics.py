"""Intervals for differences, and for means over layouts."""

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import TypedDict

import numpy as np

from stgrpo.evaluation.metrics import wilson_interval

RESAMPLES = 2000


class Mean(TypedDict):
    """A mean with its 95 % interval, of n layouts; None where there is none."""

    mean: float | None
    low: float | None
    high: float | None
    n: int


def newcombe_interval(k_a: int, n_a: int, k_b: int, n_b: int) -> tuple[float, float]:
    """95 % interval of p_b - p_a for independent samples, from Wilson's of each (Newcombe 1998, method 10)."""
    (low_a, high_a), (low_b, high_b) = wilson_interval(k_a, n_a), wilson_interval(k_b, n_b)
    a, b = k_a / n_a, k_b / n_b
    below = math.hypot(b - low_b, high_a - a)
    above = math.hypot(high_b - b, a - low_a)
    return b - a - below, b - a + above


def bootstrap_mean(values: Sequence[float], *, seed: int) -> Mean:
    """The mean over layouts and the percentiles 2.5 and 97.5 of means of layouts drawn with replacement.

    Layouts are what is drawn: what a policy does in the states of one goes together.
    """
    if not values:
        return {"mean": None, "low": None, "high": None, "n": 0}
    x = np.asarray(values, np.float64)
    drawn = np.random.default_rng(seed).integers(len(x), size=(RESAMPLES, len(x)))
    low, high = np.percentile(x[drawn].mean(axis=1), [2.5, 97.5])
    return {"mean": float(x.mean()), "low": float(low), "high": float(high), "n": len(x)}


def total_variation(a: Mapping[Hashable, float], b: Mapping[Hashable, float]) -> float:
    """Half the sum of |a - b| of two distributions that are given by counts; 0 to 1.

    Raises:
        ValueError: one of them counts nothing.
    """
    total_a, total_b = sum(a.values()), sum(b.values())
    if not total_a or not total_b:
        raise ValueError("a distribution without counts has no distance to another")
    return sum(abs(a.get(key, 0) / total_a - b.get(key, 0) / total_b) for key in a.keys() | b.keys()) / 2
