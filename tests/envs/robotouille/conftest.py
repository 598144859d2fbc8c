"""Breadth-first search over the states of a kitchen, for tests to compare the planner with."""

from collections import defaultdict, deque
from collections.abc import Callable

import pytest

from stgrpo.envs.robotouille import RobotouilleProblem, State


@pytest.fixture(scope="session")
def breadth_first() -> Callable[[RobotouilleProblem], tuple[dict[State, list[State]], dict[State, int]]]:
    """A function that gives, for a problem, the successors of every state and the least steps to the goal."""

    def search(problem: RobotouilleProblem) -> tuple[dict[State, list[State]], dict[State, int]]:
        graph = _graph(problem)
        return graph, _distances(problem, graph)

    return search


def _graph(problem: RobotouilleProblem) -> dict[State, list[State]]:
    graph: dict[State, list[State]] = {}
    stack = [problem.initial_state()]
    while stack:
        state = stack.pop()
        if state not in graph:
            graph[state] = [problem.step(state, action) for action in problem.valid_actions(state)]
            stack += graph[state]
    return graph


def _distances(problem: RobotouilleProblem, graph: dict[State, list[State]]) -> dict[State, int]:
    before = defaultdict(list)
    for state, successors in graph.items():
        for successor in successors:
            before[successor].append(state)
    distances = {state: 0 for state in graph if problem.is_goal(state)}
    queue = deque(distances)
    while queue:
        state = queue.popleft()
        for earlier in before[state]:
            if earlier not in distances:
                distances[earlier] = distances[state] + 1
                queue.append(earlier)
    return distances
