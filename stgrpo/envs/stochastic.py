"""Environments in which actions fail: with probability p an action does nothing, and only time passes.

Whether the action at some time fails is a function of (seed, task, layout, time): an episode can be repeated, a `step`
is pure, and other actions in the same layout meet the same failures. The time is part of the state and is not shown.

    environment = FlakyEnvironment(envs.get("robotouille"), 0.1, seed=0)
"""

import random
from math import ceil
from typing import NamedTuple

from stgrpo.envs.sessions import require_problems
from stgrpo.errors import UserError
from stgrpo.protocol import (
    Ending,
    Environment,
    Instructions,
    Planner,
    Problem,
    PureEnvironment,
    Scoring,
    State,
    benchmark_set_of,
    benchmark_sets_of,
    expert_action_of,
    instructions_of,
    object_names_of,
    planner_of,
    wait_of,
)


def passed(problem: Problem, state: State) -> State:
    """Returns the state after a step in which only time passes: after the problem's `wait`, if that is valid."""
    wait = wait_of(problem)
    return problem.step(state, wait) if wait is not None and wait in problem.valid_actions(state) else state


class FlakyState(NamedTuple):
    """A state of the problem that is wrapped, and the number of actions taken so far."""

    inner: State
    time: int = 0


class FlakyProblem:
    """A problem whose actions fail with probability `p`.

    A failed action acts as the problem's `wait` where it has one and that is valid, so that timers go on; elsewhere the
    state stays as it is. The cap is longer by the factor 1 / (1 - p), by which the expected number of steps of a plan
    grows.

    Args:
        problem: the deterministic problem.
        p: the probability, at least 0 and below 1.
        seed: what the failures are drawn from.

    Raises:
        UserError: p is not such a probability.
    """

    def __init__(self, problem: Problem, p: float, seed: int = 0):
        if not 0 <= p < 1:
            raise UserError(f"failure probability {p}: out of range; use one from 0 to below 1")
        self.problem, self.p, self.seed = problem, p, seed
        self.task, self.layout, self.goal = problem.task, problem.layout, problem.goal
        self.max_steps = ceil(problem.max_steps / (1 - p))

    def initial_state(self) -> FlakyState:
        """Returns the start, before any action."""
        return FlakyState(self.problem.initial_state())

    def observation(self, state: FlakyState) -> str:
        """Returns the text of the wrapped problem: what an agent sees says nothing of failures to come."""
        return self.problem.observation(state.inner)

    def valid_actions(self, state: FlakyState) -> tuple[str, ...]:
        """Returns the valid actions; each may fail."""
        return self.problem.valid_actions(state.inner)

    def fails(self, state: FlakyState) -> bool:
        """Says whether the next action fails, whichever it is."""
        return random.Random(f"{self.seed}/{self.task}/{self.layout}/{state.time}").random() < self.p

    def step(self, state: FlakyState, action: str) -> FlakyState:
        """Returns the state after an action, or after its failure.

        Raises:
            InvalidAction: the action is not valid in this state.
        """
        after = self.problem.step(state.inner, action)
        if self.fails(state):
            after = passed(self.problem, state.inner)
        return FlakyState(after, state.time + 1)

    def is_goal(self, state: FlakyState) -> bool:
        """Says whether the goal holds."""
        return self.problem.is_goal(state.inner)

    def is_over(self, state: FlakyState) -> bool:
        """Says whether nothing more can be done in the wrapped problem."""
        return isinstance(self.problem, Ending) and self.problem.is_over(state.inner)


class ScoredFlakyProblem(FlakyProblem):
    """One whose wrapped problem has a score, which failures do not change."""

    def score(self, state: FlakyState) -> float:
        """Returns the score of an episode that ends in a state."""
        assert isinstance(self.problem, Scoring)
        return self.problem.score(state.inner)


class FlakyPlanner:
    """The planner of the problem that is wrapped, which reckons as if nothing failed from here on.

    Where no timer runs, a failure leaves everything as it was: then its actions are also those with the least expected
    number of steps, which is distance / (1 - p).

    Args:
        planner: of that problem.
        wait: its action that only lets time pass; None without one.
    """

    def __init__(self, planner: Planner, wait: str | None = None):
        self._planner, self._wait = planner, wait

    def distance(self, state: FlakyState) -> int:
        """Returns the least number of steps to the goal if no further action fails."""
        return self._planner.distance(state.inner)

    def optimal_actions(self, state: FlakyState) -> tuple[str, ...]:
        """Returns the actions that bring the goal one step nearer if they do not fail."""
        return self._planner.optimal_actions(state.inner)

    def expert_action(self, state: FlakyState) -> str | None:
        """Returns what the expert does, who has no failures in mind."""
        return expert_action_of(self._planner, state.inner, self._wait)


class FlakyEnvironment:
    """An environment all of whose problems are flaky; tasks, families and layouts are those of the wrapped one.

    Args:
        environment: the deterministic environment; one of pure problems.
        p: the probability that an action fails, at least 0 and below 1.
        seed: what the failures are drawn from.

    Raises:
        UserError: the environment has sessions alone.
    """

    def __init__(self, environment: Environment, p: float, seed: int = 0):
        self._environment: PureEnvironment = require_problems(environment, f"env.failure={p}")
        self._p, self._seed = p, seed
        self.tasks, self.families = environment.tasks, environment.families
        self.benchmark_layouts, self.layouts = environment.benchmark_layouts, environment.layouts

    def make(self, task: str, layout: str) -> FlakyProblem:
        """Builds one problem.

        Raises:
            UserError: there is no such task or layout, or p is no such probability.
        """
        problem = self._environment.make(task, layout)
        kind = ScoredFlakyProblem if isinstance(problem, Scoring) else FlakyProblem
        return kind(problem, self._p, self._seed)

    def benchmark_sets(self) -> tuple[str, ...]:
        """Returns those of the wrapped environment."""
        return benchmark_sets_of(self._environment)

    def benchmark_set(self, name: str, task: str) -> tuple[str, ...]:
        """Returns the layouts of one task in a set of these."""
        return benchmark_set_of(self._environment, name, task)

    def instructions(self) -> Instructions:
        """Returns those of the wrapped environment: of failures nothing is said."""
        return instructions_of(self._environment)

    def object_names(self) -> tuple[str, ...]:
        """Returns those of the wrapped environment."""
        return object_names_of(self._environment)

    def planner(self, problem: FlakyProblem) -> FlakyPlanner | None:
        """Returns the planner of a problem that `make` built; None where the wrapped environment has none."""
        planner = planner_of(self._environment, problem.problem)
        return None if planner is None else FlakyPlanner(planner, wait_of(problem.problem))
