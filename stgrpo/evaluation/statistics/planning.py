"""How many layouts a comparison needs, before any is played."""

import math

import numpy as np


def mcnemar_power(n: int, only_a: float, only_b: float, alpha: float = 0.05) -> float:
    """The probability that the exact two-sided McNemar test on `n` layouts finds a difference.

    Args:
        n: layouts that both policies play.
        only_a: probability that the first alone solves one.
        only_b: that the second alone does.
        alpha: level of the test.

    Raises:
        ValueError: the probabilities are none.
    """
    _check(only_a, only_b)
    from scipy.stats import binom

    if only_a + only_b == 0:
        return 0.0
    discordant_N = np.arange(n + 1)
    # The most on the smaller side with which N discordant pairs are significant: 2 P[Binomial(N, 1/2) <= it] <= alpha.
    most_N = binom.ppf(alpha / 2, discordant_N, 0.5).astype(int)
    most_N -= 2 * binom.cdf(most_N, discordant_N, 0.5) > alpha
    share = only_a / (only_a + only_b)
    found_N = binom.cdf(most_N, discordant_N, share) + binom.sf(discordant_N - most_N - 1, discordant_N, share)
    return float(np.sum(binom.pmf(discordant_N, n, only_a + only_b) * np.where(most_N < 0, 0.0, found_N)))


def planned_layouts(only_a: float, only_b: float, power: float = 0.8, alpha: float = 0.05) -> int:
    """The layouts with which the exact McNemar test has this power; more of them never has less, but for steps of one.

    It begins at the normal approximation, (z_{α/2} √ψ + z_β √(ψ - δ²))² / δ² with ψ the discordant share and δ the
    difference (Connor 1987, Biometrics 43), and goes up from there.

    Args:
        only_a: probability that the first policy alone solves a layout.
        only_b: that the second alone does.
        power: that is wanted.
        alpha: level of the test.

    Raises:
        ValueError: the probabilities are none, or equal, so that there is nothing to find.
    """
    _check(only_a, only_b)
    if only_a == only_b:
        raise ValueError("no difference: no number of layouts finds one")
    if not 0 < power < 1:
        raise ValueError(f"power={power} must lie between 0 and 1: give 0.8 for 80 %")
    n = max(1, math.floor(0.9 * approximate_layouts(only_a, only_b, power, alpha)))
    while mcnemar_power(n, only_a, only_b, alpha) < power:
        n += max(1, n // 200)
    return n


def approximate_layouts(only_a: float, only_b: float, power: float, alpha: float) -> float:
    """Connor's normal approximation, see `planned_layouts`."""
    from scipy.stats import norm

    discordant, difference = only_a + only_b, only_b - only_a
    roots = norm.isf(alpha / 2) * math.sqrt(discordant) + norm.ppf(power) * math.sqrt(discordant - difference**2)
    return float(roots**2 / difference**2)


def _check(only_a: float, only_b: float) -> None:
    if not (only_a >= 0 and only_b >= 0 and only_a + only_b <= 1):
        raise ValueError(
            f"{only_a} and {only_b} are no probabilities of what excludes each other: use shares of layouts"
        )
