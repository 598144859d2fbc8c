"""What stgrpo asks of an environment: deterministic goal problems with text observations and text actions.

An environment of another kind implements these three protocols, is added to the registry in `stgrpo.envs`, and keeps
everything else: prompts, rewards, training, evaluation and the report only ever talk to these methods.
"""

from collections.abc import Hashable
from typing import Protocol

SPLITS = ("train", "validation", "test")

State = Hashable
"""What a problem's states have in common: nobody but the problem and its planner looks inside."""


class InvalidAction(ValueError):
    """The action is not among the valid actions of the state; the state is unchanged."""


class Problem(Protocol):
    """One kitchen: a deterministic goal-directed decision process over immutable, hashable states."""

    task: str
    layout: str
    goal: str
    max_steps: int

    def initial_state(self) -> State:
        """Returns the state every episode starts in."""
        ...

    def observation(self, state: State) -> str:
        """Returns the whole text an agent is shown: the state, the valid actions and the goal."""
        ...

    def valid_actions(self, state: State) -> tuple[str, ...]:
        """Returns the valid action strings in the order in which the observation lists them."""
        ...

    def step(self, state: State, action: str) -> State:
        """Returns the successor; pure.

        Raises:
            InvalidAction: the action is not valid in this state.
        """
        ...

    def is_goal(self, state: State) -> bool:
        """Says whether the goal holds; an episode ends at the first such state."""
        ...


class Planner(Protocol):
    """Exact distances of one problem."""

    def distance(self, state: State) -> int:
        """Returns the least number of steps from this state to the goal."""
        ...

    def optimal_actions(self, state: State) -> tuple[str, ...]:
        """Returns the actions whose successor is one step nearer to the goal, in display order; none at the goal."""
        ...


class Environment(Protocol):
    """An entry of the registry: makes problems, their planners, and lists of layouts."""

    def tasks(self) -> tuple[str, ...]:
        """Returns the names of the tasks."""
        ...

    def families(self) -> tuple[str, ...]:
        """Returns the names of the families of layouts that `layouts` draws from."""
        ...

    def benchmark_layouts(self, task: str) -> tuple[str, ...]:
        """Returns the layouts that published results of this task are measured on; empty where there are none."""
        ...

    def make(self, task: str, layout: str) -> Problem:
        """Builds one problem.

        Raises:
            UserError: there is no such task or layout.
        """
        ...

    def planner(self, problem: Problem) -> Planner:
        """Returns the exact planner of a problem that `make` built."""
        ...

    def layouts(self, task: str, family: str, *, split: str, count: int, seed: int = 0) -> list[str]:
        """Lists layouts of one split; the splits never share a start, not even under other names.

        Raises:
            UserError: the family has fewer than `count` distinct layouts in this split.
        """
        ...
