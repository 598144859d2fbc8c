"""One policy in some layouts: its answers in every state that counts, and its episodes."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

from stgrpo.analysis.answers import Answers, Asked, ScoringPolicy, ask
from stgrpo.analysis.graph import LayoutGraph
from stgrpo.analysis.plays import Play, play
from stgrpo.analysis.theory import graph_success, path_success
from stgrpo.evaluation.episodes import EpisodeConfig
from stgrpo.react.policy import SamplingParams
from stgrpo.react.prompt import PromptStyle
from stgrpo.sampling.base import mix_seed, text_seed

ESTIMATORS = ("sampled", "scored")


@dataclasses.dataclass(frozen=True)
class Amount:
    """How much is measured: answers a state, episodes a layout, and the seed of both."""

    samples: int
    episodes: int
    seed: int


@dataclasses.dataclass(frozen=True)
class Measured:
    """Of one policy.

    Attributes:
        answers: by layout, in the order of its nodes.
        plays: by layout.
    """

    answers: tuple[tuple[Answers, ...], ...]
    plays: tuple[tuple[Play, ...], ...]

    def expert_p(self, graph: LayoutGraph, layout: int, estimator: str) -> list[float]:
        """p(s) of the expert's action along the expert's path."""
        path = zip(graph.path, self.answers[layout], strict=False)
        return [answers.probabilities(estimator)[node.expert] for node, answers in path]

    def optimal_p(self, graph: LayoutGraph, layout: int, estimator: str) -> list[float]:
        """p(s) of the set of optimal actions along the expert's path."""
        path = zip(graph.path, self.answers[layout], strict=False)
        return [sum(_of(answers.probabilities(estimator), node.optimal)) for node, answers in path]

    def path_recursion(self, graph: LayoutGraph, layout: int, estimator: str) -> float:
        """P(the expert's way) by Theorem 3.2."""
        return path_success(self.expert_p(graph, layout, estimator))

    def graph_recursion(self, graph: LayoutGraph, layout: int, estimator: str) -> float:
        """P(any way of fewest steps) by Theorem 3.2 with the optimal set."""
        return graph_success(graph, [answers.probabilities(estimator) for answers in self.answers[layout]])


def _of(probabilities: Mapping[str, float], actions: Mapping[str, int]) -> list[float]:
    return [probabilities[action] for action in actions]


def measure(
    policy: ScoringPolicy,
    graphs: Sequence[LayoutGraph],
    *,
    amount: Amount,
    style: PromptStyle,
    progress: Callable[[str, int, int], None] = lambda what, done, total: None,
) -> Measured:
    """Asks and plays.

    Args:
        policy: that is measured; it draws at the temperature at which its success is meant.
        graphs: of the layouts.
        amount: how much.
        style: of the prompts.
        progress: called with what is done, how much of it, and of how much.
    """
    asked = [
        Asked(node, mix_seed(amount.seed, text_seed(f"{graph.problem.task}/{graph.problem.layout}"), number))
        for graph in graphs
        for number, node in enumerate(graph.nodes)
    ]
    progress("states", 0, len(asked))
    answers = iter(
        ask(
            policy,
            asked,
            samples=amount.samples,
            style=style,
            progress=lambda done: progress("states", done, len(asked)),
        )
    )
    by_layout = tuple(tuple(next(answers) for _ in graph.nodes) for graph in graphs)
    progress("layouts", 0, len(graphs))
    config = EpisodeConfig(SamplingParams(policy.max_tokens), style=style, seed=mix_seed(amount.seed, 1))
    plays = play(
        policy,
        graphs,
        episodes=amount.episodes,
        config=config,
        progress=lambda done: progress("layouts", done, len(graphs)),
    )
    return Measured(by_layout, tuple(map(tuple, plays)))
