"""What the paper's theorems say of single-turn success, as functions of plain numbers."""

import math
from collections.abc import Mapping, Sequence

from stgrpo.analysis.graph import GOAL, LayoutGraph, by_distance

EPSILON = 1e-6
"""Beside the variance in the iteration of Theorem 3.1; the paper gives no value."""
_ITERATIONS, _CLOSE = 1000, 1e-9


def amplified(p_ref: float, beta: float, *, epsilon: float = EPSILON) -> tuple[float, bool]:
    """The fixed point of Theorem 3.1 that its iteration comes to from p_0 = p_ref.

    p_n = 1 / (1 + (1 - p_ref) / p_ref * exp(-(1 / beta) / sqrt(p_{n-1} (1 - p_{n-1}) + epsilon)))

    Args:
        p_ref: single-turn success of the reference.
        beta: weight of the KL.
        epsilon: see `EPSILON`.

    Returns:
        The last of at most a thousand values, and whether the iteration had come to rest.
    """
    if p_ref <= 0.0 or p_ref >= 1.0:
        return min(max(p_ref, 0.0), 1.0), True
    odds, p = math.log(p_ref) - math.log1p(-p_ref), p_ref
    for _ in range(_ITERATIONS):
        before, p = p, _sigmoid(odds + 1 / beta / math.sqrt(p * (1 - p) + epsilon))
        if abs(p - before) < _CLOSE:
            return p, True
    return p, False


def _sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x > 0 else math.exp(x) / (1 + math.exp(x))


def path_success(p: Sequence[float]) -> float:
    """Theorem 3.2 along the expert's path: P_t = p(s_t) P_{t+1}, from the start.

    Args:
        p: probability of the expert's action in each of its states.
    """
    success = 1.0
    for single in reversed(p):
        success *= single
    return success


def prefix_success(p: Sequence[float]) -> list[float]:
    """Corollary 3.2: the same for every subtask, the first 1, 2, ... steps of the expert's path."""
    return [path_success(p[:steps]) for steps in range(1, len(p) + 1)]


def graph_success(graph: LayoutGraph, p: Sequence[Mapping[str, float]]) -> float:
    """Theorem 3.2 with the set of optimal actions: P(s) = sum over optimal a of pi(a|s) P(s after a).

    What leads to a state that was left out counts as failure: where the graph is cut this is too small.

    Args:
        graph: of the layout.
        p: by node the probabilities of its optimal actions.
    """
    success = {GOAL: 1.0}
    for number in by_distance(graph.nodes):
        ways = graph.nodes[number].optimal.items()
        success[number] = sum(p[number][action] * success.get(after, 0.0) for action, after in ways)
    return success[0]


def lowered(p_ref: Sequence[float], p: Sequence[float]) -> float:
    """What Theorem 3.3's bound loses along a path where p(s) fell: P >= P_ref - sum of max(0, p_ref(s) - p(s)).

    It follows from factors in [0, 1]: replacing one of them changes a product by at most the change of the factor.
    """
    return sum(max(0.0, before - after) for before, after in zip(p_ref, p, strict=True))
