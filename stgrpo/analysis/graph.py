"""The states that the theorems speak of: an expert's path through a layout, and every way of fewest steps."""

import dataclasses
from collections.abc import Iterable, Mapping

from stgrpo.experts.planner_expert import PlannerExpert
from stgrpo.protocol import Planner, Problem, State

GOAL, UNSEEN = -1, -2
"""In the place of the number of a node: the goal, and a state that `most` left out."""


@dataclasses.dataclass(frozen=True)
class Node:
    """A state that a policy is asked about.

    Attributes:
        observation: its text.
        valid_actions: in the order of the text.
        distance: fewest steps to the goal.
        expert: the expert's action.
        optimal: where each optimal action leads: the number of a node, `GOAL` or `UNSEEN`.
    """

    observation: str
    valid_actions: tuple[str, ...]
    distance: int
    expert: str
    optimal: Mapping[str, int]

    @property
    def right(self) -> tuple[str, ...]:
        """The expert's action, then the optimal ones beside it."""
        return tuple(dict.fromkeys((self.expert, *self.optimal)))


@dataclasses.dataclass(frozen=True)
class LayoutGraph:
    """One layout: the expert's path, and the states on ways of fewest steps.

    Attributes:
        problem: of the layout.
        planner: of the problem.
        nodes: the expert's states in their order, then the others; node 0 is the start.
        states: the environment's own, one a node.
        horizon: steps of the expert.
        cut: whether states on ways of fewest steps were left out.
    """

    problem: Problem
    planner: Planner
    nodes: tuple[Node, ...]
    states: tuple[State, ...]
    horizon: int
    cut: bool

    @property
    def path(self) -> tuple[Node, ...]:
        """The expert's states."""
        return self.nodes[: self.horizon]

    @property
    def unique(self) -> bool:
        """Whether there is one way of fewest steps."""
        return not self.cut and self.count_plans() == 1

    def count_plans(self) -> int:
        """The number of ways of fewest steps; those through states that were left out are not counted."""
        counts: dict[int, int] = {GOAL: 1, UNSEEN: 0}
        for number in by_distance(self.nodes):
            counts[number] = sum(counts[after] for after in self.nodes[number].optimal.values())
        return counts[0]


def by_distance(nodes: tuple[Node, ...]) -> Iterable[int]:
    """The numbers of nodes, the nearest to the goal first: what an optimal action leads to comes before."""
    return sorted(range(len(nodes)), key=lambda number: nodes[number].distance)


def build_graph(problem: Problem, planner: Planner, *, most: int) -> LayoutGraph:
    """The graph of a layout whose start is no goal.

    Args:
        problem: of the layout.
        planner: of the problem.
        most: states, at most; those of the expert are never left out.

    Raises:
        UserError: the planner finds no way, or no proof in its time.
    """
    expert = PlannerExpert(problem, planner)
    states = _path(problem, expert)
    horizon, numbers = len(states), {state: number for number, state in enumerate(states)}
    after: dict[State, dict[str, State]] = {}
    at = 0
    while at < len(states):
        state = states[at]
        after[state] = {action: problem.step(state, action) for action in planner.optimal_actions(state)}
        for new in after[state].values():
            if new not in numbers and not problem.is_goal(new) and len(states) < max(most, horizon):
                numbers[new] = len(states)
                states.append(new)
        at += 1

    def number(state: State) -> int:
        return GOAL if problem.is_goal(state) else numbers.get(state, UNSEEN)

    nodes = tuple(
        Node(
            observation=problem.observation(state),
            valid_actions=tuple(problem.valid_actions(state)),
            distance=planner.distance(state),
            expert=expert.action(state),
            optimal={action: number(new) for action, new in after[state].items()},
        )
        for state in states
    )
    cut = any(UNSEEN in node.optimal.values() for node in nodes)
    return LayoutGraph(problem, planner, nodes, tuple(states), horizon, cut)


def _path(problem: Problem, expert: PlannerExpert) -> list[State]:
    state, states = problem.initial_state(), []
    while not problem.is_goal(state):
        states.append(state)
        state = problem.step(state, expert.action(state))
    return states
