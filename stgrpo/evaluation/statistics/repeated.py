"""Several plays of one layout, as at a temperature above 0: whether one of k succeeds, whether all of k do."""

import math


def pass_at_k(plays: int, successes: int, k: int) -> float:
    """The probability that at least one of `k` plays succeeds, without bias: 1 - C(n - c, k) / C(n, k).

    Of Chen et al. 2021 (arXiv 2107.03374), Eq. 1; the mean over layouts is their pass@k.

    Args:
        plays: of the layout, n; `k` at least.
        successes: of them, c.
        k: of how many plays one is to succeed.

    Raises:
        ValueError: the numbers do not go together.
    """
    _check(plays, successes, k)
    return 1 - math.comb(plays - successes, k) / math.comb(plays, k)


def pass_hat_k(plays: int, successes: int, k: int) -> float:
    """The probability that all of `k` plays succeed, without bias: C(c, k) / C(n, k), pass^k of arXiv 2406.12045.

    Args and errors are those of `pass_at_k`.
    """
    _check(plays, successes, k)
    return math.comb(successes, k) / math.comb(plays, k)


def _check(plays: int, successes: int, k: int) -> None:
    if not (0 <= successes <= plays and 1 <= k <= plays):
        raise ValueError(f"k={k} of {plays} plays with {successes} successes: k and the successes go up to the plays")
