"""The expert that an environment's planner speaks for: one action a state, with its reasons."""

from collections.abc import Hashable, Sequence

from stgrpo.data.records import Step, Trajectory
from stgrpo.errors import UserError
from stgrpo.experts.demonstrations import AS_IT_IS, Demonstrations, distances
from stgrpo.protocol import Explaining, Planner, Problem, expert_action_of, wait_of
from stgrpo.react.response import ParsedResponse, format_response, parse_response


class PlannerExpert:
    """The paper's π_GT: a policy that reaches the goal in the fewest steps and always takes the same way.

    Where several actions are optimal it takes the one that is displayed first. The order of display depends on the
    layout alone, so the choice is the same in every run, and a model can see it in its prompt: of several free places,
    say, the one that is listed first. Where waiting is optimal it waits, rather than walk about.

    A planner that is `Demonstrating` says itself what its expert does, which need not be optimal then.
    """

    def __init__(self, problem: Problem, planner: Planner) -> None:
        self.problem = problem
        self.planner = planner
        self._wait = wait_of(problem)
        self._choices: dict[Hashable, str] = {}

    def action(self, state: Hashable) -> str:
        """The expert's action.

        Raises:
            ValueError: if there is none: the state is a goal, or none can be reached from it.
        """
        if state not in self._choices:
            choice = expert_action_of(self.planner, state, self._wait)
            if choice is None:
                raise ValueError(f"no action leads to the goal of {self.problem.task} {self.problem.layout} from here")
            self._choices[state] = choice
        return self._choices[state]

    def plan(self, state: Hashable) -> tuple[str, ...]:
        """The expert's actions from a state to the goal."""
        actions = []
        while not self.problem.is_goal(state):
            actions.append(self.action(state))
            state = self.problem.step(state, actions[-1])
        return tuple(actions)

    def reasoning(self, state: Hashable) -> str:
        """Why the expert does what it does in a state that is not a goal.

        The problem says it in its own words if it has any; else only the plan is known.

        Raises:
            UserError: its words would not be read back from a response as they are.
        """
        plan = self.plan(state)
        if not isinstance(self.problem, Explaining):
            return outline(plan)
        said = self.problem.explain(state, plan)
        if not said or parse_response(format_response(said, plan[0]), plan[:1]) != ParsedResponse(said, plan[0], ""):
            raise UserError(
                f"{self.problem.task} {self.problem.layout}: explain says {said!r}, which a response cannot hold; "
                'return some text without blanks at its ends and no line that begins with "Action:"'
            )
        return said

    def trajectory(self, how: Demonstrations = AS_IT_IS) -> Trajectory:
        """The expert's way through the layout from its start; without steps if the start is a goal.

        Args:
            how: it is shown, with errors or without.
        """
        problem, state, steps = self.problem, self.problem.initial_state(), []
        while not problem.is_goal(state):
            shown, after = how.turn(self, state, len(steps))
            steps.append(self._step(state, shown, how))
            state = after
        return Trajectory(task=problem.task, layout=problem.layout, steps=tuple(steps))

    def _step(self, state: Hashable, action: str, how: Demonstrations) -> Step:
        problem, planner = self.problem, self.planner
        return Step(
            observation=problem.observation(state),
            valid_actions=tuple(problem.valid_actions(state)),
            reasoning=self.reasoning(state),
            action=action,
            optimal_actions=tuple(planner.optimal_actions(state)),
            distance=planner.distance(state),
            distances=distances(problem, planner, state) if how.distances else None,
        )


def outline(plan: Sequence[str]) -> str:
    """The reasoning where nothing is known but the plan: how far the goal is, and what comes next."""
    then = f", then {plan[1]}" if len(plan) > 1 else ""
    return f"Steps to the goal: {len(plan)}. Next: {plan[0]}{then}."
