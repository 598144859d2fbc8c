"""Credit assignment, measured: the advantages that estimators give to turns, against the true ones of the planner.

Episodes of a layout are taken in groups, as a rollout of training would draw them, and every estimator sees the same
turns. Single-turn GRPO never plays: its advantage of a turn is that of the answer among fresh ones to the same state,
which are drawn once for each state that a group of episodes meets.
What an action is worth to a perfect player is `rl.advantages.true_advantages`, a function of state and action alone.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
from scipy.stats import rankdata

from stgrpo.analysis.answers import CHUNK
from stgrpo.analysis.graph import LayoutGraph
from stgrpo.analysis.plays import Play
from stgrpo.analysis.statistics import RESAMPLES, Mean
from stgrpo.errors import UserError
from stgrpo.experts.planner_expert import PlannerExpert
from stgrpo.protocol import State
from stgrpo.react.policy import Policy, Question, Response
from stgrpo.react.prompt import PromptStyle, render_messages
from stgrpo.react.response import parse_response
from stgrpo.react.reward import RewardWeights, reward
from stgrpo.rl.advantages import ADVANTAGES, Credit, true_advantages
from stgrpo.rl.episodes import distance_of, episode_reward, turns_of
from stgrpo.rl.losses import group_advantages
from stgrpo.sampling.base import mix_seed, text_seed

SINGLE = "response"
"""Single-turn GRPO, beside those of `ADVANTAGES`."""
_NONE = 1e-9


@dataclasses.dataclass(frozen=True)
class CreditSettings:
    """What a run counts advantages from.

    Attributes:
        credit: see `rl.advantages.Credit`.
        group: episodes, or answers, in a group.
        weights: of the rewards.
        target: of the reward of a single answer.
        style: of the prompts.
        seed: of fresh answers.
    """

    credit: Credit
    group: int
    weights: RewardWeights
    target: str
    style: PromptStyle
    seed: int


@dataclasses.dataclass(frozen=True)
class TurnCredit:
    """The turns of one layout in whose states the planner knows all.

    Attributes:
        estimated: by estimator the advantage of each turn.
        true_U: the true one.
        pair_U: a number for state and answer's action, the same for equal ones.
    """

    estimated: Mapping[str, np.ndarray]
    true_U: np.ndarray
    pair_U: np.ndarray


class _Judge:
    """What a single answer earns in each state of a layout; None where the planner does not know."""

    def __init__(self, graph: LayoutGraph, how: CreditSettings):
        self._graph, self._how = graph, how
        self._expert = PlannerExpert(graph.problem, graph.planner)
        self._known: dict[State, tuple[str, tuple[str, ...]] | None] = {}
        self.distance = distance_of(graph.planner, max(1, graph.problem.max_steps))

    def knows(self, state: State) -> bool:
        if state not in self._known:
            try:
                self._known[state] = self._expert.action(state), self._graph.planner.optimal_actions(state)
            except (UserError, ValueError):  # no way out, or no proof
                self._known[state] = None
        return self._known[state] is not None

    def reward(self, state: State, response: Response | None) -> float:
        known = self._known[state]
        if known is None or response is None:
            return 0.0
        parsed = parse_response(response.text, self._graph.problem.valid_actions(state))
        return reward(
            parsed,
            target=self._how.target,
            expert_action=known[0],
            optimal_actions=known[1],
            distances=self._after(state) if self._how.target == "distance" else None,
            weights=self._how.weights,
        ).total

    def _after(self, state: State) -> dict[str, int | None]:
        """Fewest steps to the goal after each action; None where there is no way."""
        problem, lost = self._graph.problem, max(1, self._graph.problem.max_steps)
        left = {action: self.distance(problem.step(state, action)) for action in problem.valid_actions(state)}
        return {action: steps if steps < lost else None for action, steps in left.items()}


def measure_credit(
    policy: Policy,
    graphs: Sequence[LayoutGraph],
    plays: Sequence[Sequence[Play]],
    *,
    how: CreditSettings,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[TurnCredit]:
    """The advantages of all turns of whole groups of episodes.

    Args:
        policy: that played, for fresh answers.
        graphs: of the layouts.
        plays: of each; what is more than whole groups is left out.
        how: advantages are counted.
        progress: called with the fresh answers that there are, and how many there will be.
    """
    judges = [_Judge(graph, how) for graph in graphs]
    groups = [[each[at : at + how.group] for at in range(0, len(each) - how.group + 1, how.group)] for each in plays]
    met = [
        [[state for state in dict.fromkeys(s for p in group for s in p.states) if judge.knows(state)] for group in each]
        for judge, each in zip(judges, groups, strict=True)
    ]
    questions = [
        question
        for graph, each in zip(graphs, met, strict=True)
        for number, states in enumerate(each)
        for question in _questions(graph, states, number, how)
    ]
    responses: list[Response | None] = []
    for at in range(0, len(questions), CHUNK):
        responses += policy.answer(questions[at : at + CHUNK])
        progress(len(responses), len(questions))
    answers, found = iter(responses), []
    for judge, each, states in zip(judges, groups, met, strict=True):
        fresh = [{s: [judge.reward(s, next(answers)) for _ in range(how.group - 1)] for s in row} for row in states]
        found.append(_layout_credit(judge, each, fresh, how))
    return found


def _questions(graph: LayoutGraph, states: Sequence[State], group: int, how: CreditSettings) -> Iterator[Question]:
    problem = graph.problem
    key = mix_seed(how.seed, text_seed(f"{problem.task}/{problem.layout}"), group)
    for number, state in enumerate(states):
        messages = render_messages(problem.observation(state), style=how.style)
        for i in range(how.group - 1):
            yield Question(messages, tuple(problem.valid_actions(state)), mix_seed(key, number, i))


def _layout_credit(
    judge: _Judge, groups: Sequence[Sequence[Play]], fresh: Sequence[Mapping[State, list[float]]], how: CreditSettings
) -> TurnCredit:
    numbers: dict[tuple[State, str | None], int] = {}
    parts = [_group_credit(judge, *each, how, numbers) for each in zip(groups, fresh, strict=True)]
    names = (SINGLE, *ADVANTAGES)
    estimated = {name: np.concatenate([part.estimated[name] for part in parts]) for name in names}
    return TurnCredit(estimated, *(np.concatenate([getattr(p, name) for p in parts]) for name in ("true_U", "pair_U")))


def _group_credit(
    judge: _Judge,
    plays: Sequence[Play],
    fresh: Mapping[State, list[float]],
    how: CreditSettings,
    numbers: dict[tuple[State, str | None], int],
) -> TurnCredit:
    """The turns of one group; `numbers` has those of the pairs of the layout, and gets new ones."""
    played = [play.recorded for play in plays]
    rewards = [episode_reward(each.episode, how.weights).total for each in played]
    turns = turns_of(played, rewards, judge.distance)
    rows = [row for each in played for row in zip(each.states, each.episode.turns, each.responses, strict=False)]
    known_U = np.array([state in fresh for state, _, _ in rows], bool)
    rewards_UG = [[judge.reward(s, response), *fresh[s]] for s, _, response in rows if s in fresh]
    among = {"baseline": how.credit.baseline, "scale_by_std": how.credit.scale_by_std}
    single_UG = group_advantages(np.array(rewards_UG, float).reshape(-1, how.group), **among)
    estimated = {name: estimator(turns, how.credit)[known_U] for name, estimator in ADVANTAGES.items()}
    taken = [(s, None if turn.failure else turn.action) for s, turn, _ in rows if s in fresh]
    pair_U = np.array([numbers.setdefault(pair, len(numbers)) for pair in taken], int)
    return TurnCredit({SINGLE: single_UG[:, 0], **estimated}, true_advantages(turns)[known_U], pair_U)


Sums = np.ndarray
"""[.., K] of a layout's turns, or of many layouts' together: all that the statistics take."""


def agreement(layouts: Sequence[TurnCredit], *, seed: int) -> dict[str, dict[str, Mean]]:
    """By estimator how its advantages go with the true ones over all turns, with intervals from layouts drawn anew.

    zero: share of turns without an advantage. right_sign: of the others, the share whose advantage is positive for an
    optimal action and negative for any other. pearson, spearman: correlation with the true ones; 0 with a constant.
    variance: of the advantages. noise: the share of it that is left among turns with the same state and action in one
    layout, which a function of these has none of; from those that were met more than once.

    Args:
        layouts: the turns of each.
        seed: of the draws.
    """
    layouts = [each for each in layouts if len(each.true_U)]
    if not layouts:
        return {}
    draws = np.random.default_rng(seed).multinomial(len(layouts), [1 / len(layouts)] * len(layouts), size=RESAMPLES)
    true = np.concatenate([each.true_U for each in layouts])
    found = {}
    for name in layouts[0].estimated:
        ranks = rankdata(np.concatenate([each.estimated[name] for each in layouts])), rankdata(true)
        cuts = np.cumsum([len(each.true_U) for each in layouts])[:-1]
        parts = zip(layouts, *(np.split(rank, cuts) for rank in ranks), strict=True)
        sums_LK = np.stack([_sums(each.estimated[name], each, a, b) for each, a, b in parts])
        values, resampled = _statistics(sums_LK.sum(0)), _statistics(draws @ sums_LK)
        found[name] = {key: _interval(values[key], resampled[key], len(layouts)) for key in values}
    return found


def _interval(value: np.ndarray, resampled: np.ndarray, n: int) -> Mean:
    low, high = np.percentile(resampled, [2.5, 97.5])
    return {"mean": float(value), "low": float(low), "high": float(high), "n": n}


def _sums(x: np.ndarray, turns: TurnCredit, rank_x: np.ndarray, rank_y: np.ndarray) -> Sums:
    y, sign = turns.true_U, np.where(np.abs(x) < _NONE, 0, np.sign(x))
    right = np.where(y == 0, 1, -1) == sign
    _, pair, count = np.unique(turns.pair_U, return_inverse=True, return_counts=True)
    within = (x**2).sum() - (np.bincount(pair, x) ** 2 / count).sum()
    return np.array(
        [len(x), (sign == 0).sum(), right.sum(), *_moments(x, y), *_moments(rank_x, rank_y), within, (count - 1).sum()]
    )


def _moments(x: np.ndarray, y: np.ndarray) -> tuple[float, ...]:
    return x.sum(), y.sum(), (x * x).sum(), (y * y).sum(), (x * y).sum()


def _statistics(sums: Sums) -> dict[str, np.ndarray]:
    n, zero, right, *moments, within, repeats = np.moveaxis(sums.astype(float), -1, 0)
    variance = np.maximum(moments[2] / n - (moments[0] / n) ** 2, 0.0)
    return {
        "zero": zero / n,
        "right_sign": _ratio(right, n - zero),
        "pearson": _correlation(n, *moments[:5]),
        "spearman": _correlation(n, *moments[5:]),
        "variance": variance,
        "noise": _ratio(_ratio(within, repeats), variance),
    }


def _correlation(
    n: np.ndarray, x: np.ndarray, y: np.ndarray, xx: np.ndarray, yy: np.ndarray, xy: np.ndarray
) -> np.ndarray:
    spread = np.maximum(n * xx - x * x, 0.0) * np.maximum(n * yy - y * y, 0.0)
    return _ratio(n * xy - x * y, np.sqrt(spread))


def _ratio(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.where(b > _NONE, a / np.where(b > _NONE, b, 1.0), 0.0)
