"""How an expert's way is shown: as it is, or with errors of a known kind at a known rate.

Whether a step has an error, and which, is a function of (task, layout, time): the same trajectories come again, and
runs that differ in their seed learn from the same.
"""

import random
from dataclasses import dataclass
from typing import Protocol

from ml_collections import ConfigDict

from stgrpo.envs.stochastic import passed
from stgrpo.errors import UserError
from stgrpo.protocol import Planner, Problem, State


class Expert(Protocol):
    """What is asked of an expert here (`planner_expert.PlannerExpert`)."""

    problem: Problem
    planner: Planner

    def action(self, state: State) -> str:
        """Returns what it does."""
        ...

    def plan(self, state: State) -> tuple[str, ...]:
        """Returns its actions from a state to the goal.

        Raises:
            UserError, ValueError: it does not know any.
        """
        ...


@dataclass(frozen=True)
class Demonstrations:
    """How ways are shown.

    Attributes:
        error_rate: probability that a step has an error.
        errors: of which kind, see `expert.errors` of the config. A wrong action is any valid one that is neither
            optimal nor the expert's and leaves a way to the goal within the cap; a step without such a one has no
            error. The reasons that are shown stay those of the right one: it is the hand that slips.
        distances: whether the distance after every valid action is recorded.
    """

    error_rate: float = 0.0
    errors: str = "labels"
    distances: bool = False

    def turn(self, expert: Expert, state: State, time: int) -> tuple[str, State]:
        """Returns the action that is shown in a state, and the state after the one that is done."""
        problem, right = expert.problem, expert.action(state)
        after = problem.step(state, right)
        draw = random.Random(f"{self.errors}/{problem.task}/{problem.layout}/{time}")
        if draw.random() >= self.error_rate:
            return right, after
        left = problem.max_steps - time - 1
        if self.errors == "failures":
            failed = passed(problem, state)
            return right, failed if _goes_on(expert, failed, left) else after
        wrong = _wrong(expert, state, left, draw)
        if wrong is None:
            return right, after
        shown = right if self.errors == "states" else wrong
        return shown, after if self.errors == "labels" else problem.step(state, wrong)


AS_IT_IS = Demonstrations()


def demonstrations_of(config: ConfigDict) -> Demonstrations:
    """How a config has its planner's ways shown."""
    e = config.expert
    return Demonstrations(e.error_rate, e.errors, e.action_distances)


def distances(problem: Problem, planner: Planner, state: State) -> tuple[int | None, ...]:
    """Fewest steps to the goal after each valid action of a state; None where none lead there."""
    return tuple(_distance(planner, problem.step(state, action)) for action in problem.valid_actions(state))


def _distance(planner: Planner, state: State) -> int | None:
    try:
        return planner.distance(state)
    except UserError:
        return None


def _wrong(expert: Expert, state: State, left: int, draw: random.Random) -> str | None:
    problem, best = expert.problem, {expert.action(state), *expert.planner.optimal_actions(state)}
    others = [action for action in problem.valid_actions(state) if action not in best]
    draw.shuffle(others)
    return next((action for action in others if _goes_on(expert, problem.step(state, action), left)), None)


def _goes_on(expert: Expert, state: State, left: int) -> bool:
    """Whether the expert reaches the goal from a state in so many steps."""
    try:
        return len(expert.plan(state)) <= left
    except (UserError, ValueError):
        return False
