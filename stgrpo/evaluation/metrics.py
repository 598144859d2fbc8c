"""The numbers of an evaluation: SR, ASAT and ASST as the paper defines them (section V), their intervals and tests.

Pure functions of plain values.
"""

import collections
import dataclasses
import math
from collections.abc import Callable, Iterable, Sequence
from typing import TypedDict

from stgrpo.evaluation.records import FAILURES, MALFORMED, Episode, TurnRecord, played

REVISION = 1
"""Raised when a figure of an evaluation is counted otherwise."""


def wilson_interval(k: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval for a success rate of `k` out of `n` (Wilson 1927).

    It stays inside [0, 1] and keeps its coverage at rates near 0 and 1, where the normal interval has zero width: 0 of
    10 gives [0, 0.28]. Without any trial every rate is possible: (0, 1).

    Raises:
        ValueError: `k` is not between 0 and `n`.
    """
    if not 0 <= k <= n:
        raise ValueError(f"{k} successes out of {n}: the first must lie between 0 and the second")
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"confidence is {confidence}, it must lie between 0 and 1: give 0.95 for 95 %")
    if n == 0:
        return 0.0, 1.0
    from scipy.stats import binomtest  # takes a second to import, which only those pay who need it

    interval = binomtest(k, n).proportion_ci(confidence, method="wilson")
    return float(interval.low), float(interval.high)


def two_proportions(k_a: int, n_a: int, k_b: int, n_b: int) -> float:
    """Two-sided p-value of the pooled z-test that two independent samples share one success rate.

    For results whose episodes are not paired, such as the paper's: its 20 of 40 against 9 of 40 give 0.011.
    """
    pooled = (k_a + k_b) / (n_a + n_b)
    if pooled in (0.0, 1.0):
        return 1.0
    error = math.sqrt(pooled * (1 - pooled) * (1 / n_a + 1 / n_b))
    return math.erfc(abs(k_a / n_a - k_b / n_b) / error / math.sqrt(2))


@dataclasses.dataclass(frozen=True)
class McNemar:
    """Exact McNemar test of two policies on the same layouts.

    Attributes:
        both, only_a, only_b, neither: layouts solved by both, by the first alone, by the second alone, by none.
        p_value: two-sided, from the binomial distribution of the discordant pairs.
    """

    both: int
    only_a: int
    only_b: int
    neither: int
    p_value: float


def mcnemar(successes_a: Sequence[bool], successes_b: Sequence[bool]) -> McNemar:
    """Tests whether two policies differ on the same layouts, listed in the same order (McNemar 1947, exact form).

    Under the null hypothesis each discordant pair falls to either side with probability 1/2, so
    p = min(1, 2 P[Binomial(only_a + only_b, 1/2) <= min(only_a, only_b)]).

    Raises:
        ValueError: the two lists differ in length.
    """
    from scipy.stats import binomtest

    both, only_a, only_b, neither = pair_counts(successes_a, successes_b)
    p_value = float(binomtest(only_a, only_a + only_b).pvalue) if only_a + only_b else 1.0
    return McNemar(both, only_a, only_b, neither, p_value)


def pair_counts(successes_a: Sequence[bool], successes_b: Sequence[bool]) -> tuple[int, int, int, int]:
    """Layouts that both policies solve, the first alone, the second alone, and neither.

    Raises:
        ValueError: the two lists differ in length.
    """
    if len(successes_a) != len(successes_b):
        raise ValueError(f"{len(successes_a)} episodes against {len(successes_b)}: a pair needs the same layout")
    counts = collections.Counter(zip(map(bool, successes_a), map(bool, successes_b), strict=True))
    return counts[True, True], counts[True, False], counts[False, True], counts[False, False]


def pair_episodes(a: Iterable[Episode], b: Iterable[Episode]) -> list[tuple[Episode, Episode]]:
    """Episodes of two evaluations in the same layout, matched by task and layout (and by order where one repeats).

    What a server failed in one of them is no pair.
    """
    waiting: dict[tuple[str, str], list[Episode]] = {}
    for episode in b:
        waiting.setdefault((episode.task, episode.layout), []).append(episode)
    pairs = []
    for episode in a:
        partners = waiting.get((episode.task, episode.layout))
        if partners:
            pairs.append((episode, partners.pop(0)))
    return [pair for pair in pairs if len(played(pair)) == 2]


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _rate(turns: Sequence[TurnRecord], is_hit: Callable[[TurnRecord], bool | None]) -> float | None:
    """The share of hits among the turns for which a hit is defined."""
    return _mean([float(hit) for hit in map(is_hit, turns) if hit is not None])


def _path_length_ratio(episode: Episode, optimal_steps: int) -> float:
    """Optimal steps over steps taken, at most 1; 0 for a failure, 1 where the goal held from the start."""
    longest = max(episode.steps, optimal_steps)
    return float(episode.success) * (optimal_steps / longest if longest else 1.0)


class Summary(TypedDict):
    """The paper's three figures, and per-response rates that say where the failures come from.

    Rates count every response, refused and repeated ones too; a response that was refused is neither exact nor optimal.
    What has nothing to average is None.

    Attributes:
        n: episodes, without those that a server failed, which are in no figure but `server_failures`.
        successes: of them.
        sr: success rate; the paper's SR.
        sr_low: where its interval begins (Wilson).
        sr_high: where it ends.
        asat: mean steps of all episodes, a failure counted at its cap.
        asst: mean steps of the successful ones.
        excess_steps: mean steps above the optimum of the successful ones.
        spl: mean over all episodes of the optimal steps over the steps taken, 0 for a failure: success weighted by path
            length (arXiv 1807.06757, Eq. 1). Unlike ASST and `excess_steps` no failure makes it better.
        score: mean score of all episodes, where the environment gives one.
        responses: in all episodes.
        unjudged: those to states of which no planner could tell what is best.
        format_rate: share of the responses with a reasoning and an action.
        valid_rate: share whose action could be taken.
        exact_rate: share with the expert's action.
        optimal_rate: share with an action that shortens the way to the goal.
        truncated_rate: share that the limit cut.
        mean_tokens: of a response.
        failures: how many episodes failed in each way.
        server_failures: how many a server failed.
    """

    n: int
    successes: int
    sr: float | None
    sr_low: float | None
    sr_high: float | None
    asat: float | None
    asst: float | None
    excess_steps: float | None
    spl: float | None
    score: float | None
    responses: int
    unjudged: int
    format_rate: float | None
    valid_rate: float | None
    exact_rate: float | None
    optimal_rate: float | None
    truncated_rate: float | None
    mean_tokens: float | None
    failures: dict[str, int]
    server_failures: int


def summarise(episodes: Sequence[Episode], confidence: float = 0.95) -> Summary:
    """The figures of some episodes, with Wilson's interval of this confidence."""
    given, episodes = len(episodes), played(episodes)
    solved = [episode for episode in episodes if episode.success]
    turns = [turn for episode in episodes for turn in episode.turns]
    low, high = wilson_interval(len(solved), len(episodes), confidence) if episodes else (None, None)
    return {
        "n": len(episodes),
        "successes": len(solved),
        "sr": _mean([float(episode.success) for episode in episodes]),
        "sr_low": low,
        "sr_high": high,
        "asat": _mean([episode.counted_steps for episode in episodes]),
        "asst": _mean([episode.steps for episode in solved]),
        "excess_steps": _mean([e.steps - e.optimal_steps for e in solved if e.optimal_steps is not None]),
        "spl": _mean([_path_length_ratio(e, e.optimal_steps) for e in episodes if e.optimal_steps is not None]),
        "score": _mean([episode.score for episode in episodes if episode.score is not None]),
        "responses": len(turns),
        "unjudged": sum(turn.distance is None for turn in turns),
        "format_rate": _rate(turns, lambda turn: turn.failure not in MALFORMED),
        "valid_rate": _rate(turns, lambda turn: turn.failure == ""),
        "exact_rate": _rate(turns, lambda turn: turn.exact),
        "optimal_rate": _rate(turns, lambda turn: turn.optimal),
        "truncated_rate": _rate(turns, lambda turn: turn.finish == "length"),
        "mean_tokens": _mean([turn.n_tokens for turn in turns]),
        "failures": {kind: sum(e.failure == kind for e in episodes) for kind in FAILURES},
        "server_failures": given - len(episodes),
    }
