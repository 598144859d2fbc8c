"""Whole episodes, many in each layout: how often one ends in the fewest steps, and which states it meets.

The first unusable answer ends an episode: in the single-turn problem it is as wrong as any other.
"""

import dataclasses
from collections.abc import Callable, Hashable, Sequence

from stgrpo.analysis.graph import LayoutGraph
from stgrpo.envs.sessions import ProblemSession
from stgrpo.errors import UserError
from stgrpo.evaluation.episodes import EpisodeConfig, RecordedEpisode, play_recorded
from stgrpo.experts.planner_expert import PlannerExpert
from stgrpo.protocol import State
from stgrpo.react.policy import Policy

Feature = tuple[int | None, str]
"""Fewest steps to the goal, and the first word of the expert's action; (None, "") where the planner cannot tell."""
CHUNK = 1024
"""Episodes that are played together, at most, unless one layout has more."""


@dataclasses.dataclass(frozen=True)
class Play:
    """One episode.

    Attributes:
        success: whether it came to the goal.
        fewest: whether in the fewest steps there are.
        as_expert: whether by the expert's actions alone.
        states: in which the policy was asked, in order.
        features: of these.
        recorded: all of it.
    """

    success: bool
    fewest: bool
    as_expert: bool
    states: tuple[State, ...]
    features: tuple[Feature, ...]
    recorded: RecordedEpisode


def play(
    policy: Policy,
    graphs: Sequence[LayoutGraph],
    *,
    episodes: int,
    config: EpisodeConfig,
    progress: Callable[[int], None] = lambda done: None,
) -> list[list[Play]]:
    """Plays each layout `episodes` times.

    Args:
        policy: that plays; it draws.
        graphs: of the layouts.
        episodes: of each.
        config: style of the prompts, seed; `on_invalid` is "end".
        progress: called with the number of layouts that are done.

    Returns:
        The episodes of each layout.
    """
    plays: list[list[Play]] = []
    size = max(1, CHUNK // episodes)
    for start in range(0, len(graphs), size):
        part = graphs[start : start + size]
        sessions = [ProblemSession(graph.problem) for graph in part for _ in range(episodes)]
        played = play_recorded(sessions, policy, config=config)
        for i, graph in enumerate(part):
            reader = _Reader(graph)
            plays.append([reader.read(episode) for episode in played[i * episodes : (i + 1) * episodes]])
        progress(len(plays))
    return plays


class _Reader:
    """Reads episodes of one layout; the planner is asked once about each state."""

    def __init__(self, graph: LayoutGraph):
        self._graph = graph
        self._expert = PlannerExpert(graph.problem, graph.planner)
        self._features: dict[State, Feature] = {}
        self._actions = tuple(node.expert for node in graph.path)

    def read(self, recorded: RecordedEpisode) -> Play:
        episode, states = recorded.episode, recorded.states[:-1]
        actions = [turn.action for turn in episode.turns if not turn.failure]
        return Play(
            success=episode.success,
            fewest=episode.success and episode.steps == self._graph.nodes[0].distance,
            as_expert=episode.success and tuple(actions) == self._actions,
            states=states,
            features=tuple(map(self._feature, states)),
            recorded=recorded,
        )

    def _feature(self, state: State) -> Feature:
        if state not in self._features:
            self._features[state] = self._ask(state)
        return self._features[state]

    def _ask(self, state: State) -> Feature:
        try:
            return feature(self._graph.planner.distance(state), self._expert.action(state))
        except (UserError, ValueError):  # a state without a way out, or without a proof in the planner's time
            return None, ""


def feature(distance: int, action: str) -> Feature:
    """What is compared of states of any environment."""
    return distance, action.partition(" ")[0]


def off_path(graph: LayoutGraph, plays: Sequence[Play]) -> list[float]:
    """By step the share of episodes that are not in the expert's state of that step; those that ended count too.

    The training states of a step are one state here, so this share is the total-variation distance at that step.
    """
    at: list[Hashable] = list(graph.states[: graph.horizon])
    return [
        sum(len(play.states) <= step or play.states[step] != state for play in plays) / len(plays)
        for step, state in enumerate(at)
    ]
