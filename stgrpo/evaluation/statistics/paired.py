"""Two policies on the same layouts: the difference of their success rates, its interval, whether it is none."""

import dataclasses
import math
from collections.abc import Sequence

from stgrpo.evaluation.metrics import pair_counts


@dataclasses.dataclass(frozen=True)
class Difference:
    """How much more often the second policy succeeds than the first, on the same layouts.

    Attributes:
        n: pairs.
        only_a, only_b: layouts solved by the first alone, by the second alone.
        estimate: success rate of the second minus that of the first, in [-1, 1].
        low, high: its interval.
    """

    n: int
    only_a: int
    only_b: int
    estimate: float
    low: float
    high: float


def paired_difference(a: Sequence[bool], b: Sequence[bool], confidence: float = 0.95) -> Difference:
    """The difference of two success rates with Tango's score interval (Statistics in Medicine 17, 1998).

    It is the set of differences that the score test of paired proportions does not refuse: it stays within [-1, 1], has
    a width where no pair is discordant, and keeps its coverage with few of them, as Wald's does not.

    Args:
        a: of the first policy, whether it solved each layout.
        b: of the second, in the same order.
        confidence: of the interval.

    Raises:
        ValueError: the lists differ in length or are empty, or the confidence is not between 0 and 1.
    """
    only_a, only_b, n = _discordant(a, b)
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"confidence is {confidence}, it must lie between 0 and 1: give 0.95 for 95 %")
    from scipy.stats import norm

    low, high = _tango_interval(only_a, only_b, n, float(norm.isf((1 - confidence) / 2)))
    return Difference(n, only_a, only_b, (only_b - only_a) / n, low, high)


def equivalence_p_value(a: Sequence[bool], b: Sequence[bool], margin: float) -> float:
    """p-value of two one-sided score tests that two success rates differ by the margin or more (TOST).

    Below 0.05 they are equivalent within the margin: the same as Tango's interval of 90 % lying inside (-margin,
    margin). A difference that is not significant is no such claim.

    Args:
        a: of the first policy, whether it solved each layout.
        b: of the second, in the same order.
        margin: the least difference that matters, above 0 and below 1.

    Raises:
        ValueError: see `paired_difference`; or the margin is out of range.
    """
    only_a, only_b, n = _discordant(a, b)
    if not 0.0 < margin < 1.0:
        raise ValueError(f"margin is {margin}, it must lie between 0 and 1: give 0.05 for five points")
    from scipy.stats import norm

    lower, upper = score(only_a, only_b, n, -margin), score(only_a, only_b, n, margin)
    return float(max(norm.sf(lower), norm.cdf(upper)))


def score(only_a: int, only_b: int, n: int, difference: float) -> float:
    """Tango's statistic of the hypothesis that the second rate is above the first by `difference`; about normal.

    z = (b - c - nΔ) / sqrt(n (2q + Δ(1 - Δ))), where b and c are the pairs solved by the second and by the first alone,
    and q is the probability of the latter that is most likely under the hypothesis.
    """
    q = _least_discordant(only_a, only_b, n, difference)
    variance = n * (2 * q + difference * (1 - difference))
    distance = only_b - only_a - n * difference
    if variance <= 1e-12:
        return math.copysign(math.inf, distance) if abs(distance) > 1e-9 else 0.0
    return distance / math.sqrt(variance)


def _least_discordant(only_a: int, only_b: int, n: int, difference: float) -> float:
    """The likeliest probability that the first alone succeeds, where the second does so more often by `difference`."""
    b = -only_a - only_b + (2 * n - only_b + only_a) * difference
    c = -only_a * difference * (1 - difference)
    root = (math.sqrt(max(0.0, b * b - 8 * n * c)) - b) / (4 * n)
    return max(root, 0.0, -difference)


def _tango_interval(only_a: int, only_b: int, n: int, z: float) -> tuple[float, float]:
    from scipy.optimize import brentq

    estimate, edge = (only_b - only_a) / n, 1 - 1e-9

    def limit(end: float, sign: float) -> float:
        def beyond(difference: float) -> float:
            return score(only_a, only_b, n, difference) - sign * z

        if sign * estimate <= -edge:  # the estimate is this end
            return estimate
        return float(brentq(beyond, end, estimate, xtol=1e-10))

    return limit(-edge, 1.0), limit(edge, -1.0)


def _discordant(a: Sequence[bool], b: Sequence[bool]) -> tuple[int, int, int]:
    _, only_a, only_b, _ = pair_counts(a, b)
    if not len(a):
        raise ValueError("no pairs: give at least one layout that both have played")
    return only_a, only_b, len(a)


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values adjusted for their number (Holm 1979): those below α keep the chance of any false finding below α."""
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    adjusted, highest = [0.0] * len(p_values), 0.0
    for rank, i in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = highest
    return adjusted
