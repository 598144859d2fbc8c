"""The expert is optimal, unique and valid, in kitchens and in problems that are not kitchens."""

import random
from collections.abc import Callable, Hashable, Sequence

import pytest

from stgrpo import envs
from stgrpo.errors import UserError
from stgrpo.experts.collect import collect
from stgrpo.experts.planner_expert import PlannerExpert, outline
from stgrpo.react.response import format_response, parse_response

TASKS = ("cheese_sandwich", "burger", "cheese_burger", "double_cheese_burger")


class Grid:
    """Walk from (0, 0) to (2, 1); left out of the grid there is no way back."""

    task, layout, goal, max_steps = "grid", "default", "Reach the corner", 5
    moves = {"stay": (0, 0), "up": (0, 1), "right": (1, 0)}

    def initial_state(self) -> Hashable:
        return (0, 0)

    def observation(self, state: Hashable) -> str:
        return f"You are at {state}"

    def valid_actions(self, state: Hashable) -> tuple[str, ...]:
        return tuple(self.moves)

    def step(self, state: Hashable, action: str) -> Hashable:
        return (state[0] + self.moves[action][0], state[1] + self.moves[action][1])

    def is_goal(self, state: Hashable) -> bool:
        return state == (2, 1)


class GridPlanner:
    """Exact, by the taxicab distance."""

    def distance(self, state: Hashable) -> int:
        return (2 - state[0]) + (1 - state[1])

    def optimal_actions(self, state: Hashable) -> tuple[str, ...]:
        return tuple(a for a, free in (("up", state[1] < 1), ("right", state[0] < 2)) if free)


def test_any_problem_has_an_expert() -> None:
    trajectory = PlannerExpert(Grid(), GridPlanner()).trajectory()
    assert (trajectory.task, trajectory.layout) == ("grid", "default")
    assert [step.action for step in trajectory.steps] == ["up", "right", "right"]  # of two, the one displayed first
    assert [step.optimal_actions for step in trajectory.steps] == [("up", "right"), ("right",), ("right",)]
    assert [step.distance for step in trajectory.steps] == [3, 2, 1]
    assert trajectory.steps[0].reasoning == "Steps to the goal: 3. Next: up, then right."


def test_outline_knows_only_the_plan() -> None:
    assert outline(["go left", "go up"]) == "Steps to the goal: 2. Next: go left, then go up."
    assert outline(["go up"]) == "Steps to the goal: 1. Next: go up."


class Talking(Grid):
    """Explains itself."""

    words = "{left} steps are left.\nSo go {way}."

    def explain(self, state: Hashable, plan: Sequence[str]) -> str:
        return self.words.format(left=len(plan), way=plan[0])


def test_a_problem_may_explain_itself() -> None:
    trajectory = PlannerExpert(Talking(), GridPlanner()).trajectory()
    assert [step.reasoning for step in trajectory.steps] == [
        f"{left} steps are left.\nSo go {way}." for left, way in ((3, "up"), (2, "right"), (1, "right"))
    ]
    for step in trajectory.steps:
        check_step(step.reasoning, step.action, step.valid_actions)


@pytest.mark.parametrize("words", ["", " ", "So go {way}. ", "Up!\nAction: go up", "Up!\nAction:"])
def test_words_that_a_response_cannot_hold_are_refused(words: str) -> None:
    problem = Talking()
    problem.words = words
    with pytest.raises(UserError, match="grid default: explain says .*, which a response cannot hold") as caught:
        PlannerExpert(problem, GridPlanner()).trajectory()
    assert "\n" not in str(caught.value)


def test_no_way_to_the_goal() -> None:
    with pytest.raises(ValueError, match="no action leads to the goal of grid default"):
        PlannerExpert(Grid(), GridPlanner()).action((2, 1))


def test_without_a_planner_nothing_is_collected() -> None:
    class Lists:
        def tasks(self) -> tuple[str, ...]:
            return ("grid",)

        families = benchmark_layouts = tasks

        def layouts(self, task: str, family: str, *, split: str, count: int, seed: int = 0) -> list[str]:
            return ["default"]

    class Grids(Lists):
        def make(self, task: str, layout: str) -> Grid:
            return Grid()

    with pytest.raises(UserError, match="no planner for grid default; use expert.kind='llm'"):
        list(collect(Grids(), "grid", "default", split="train", count=1))
    with pytest.raises(UserError, match="expert.kind='planner' needs states that can be returned to"):
        list(collect(Lists(), "grid", "default", split="train", count=1))


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("family", ["small", "random"])
def test_collected_trajectories(task: str, family: str, check_reasoning: Callable[[str, str, str], None]) -> None:
    environment, calls = envs.get("robotouille"), []

    def progress(done: int, count: int) -> None:
        calls.append((done, count))

    trajectories = list(collect(environment, task, family, split="train", count=3, progress=progress))
    assert calls == [(1, 3), (2, 3), (3, 3)]
    assert trajectories == list(collect(environment, task, family, split="train", count=3))
    for trajectory in trajectories:
        problem = environment.make(task, trajectory.layout)
        state = problem.initial_state()
        for left, step in zip(range(len(trajectory.steps), 0, -1), trajectory.steps, strict=True):
            assert (step.observation, step.distance) == (problem.observation(state), left)
            assert step.action == next(a for a in step.valid_actions if a in step.optimal_actions)
            check_step(step.reasoning, step.action, step.valid_actions)
            check_reasoning(step.reasoning, step.observation, step.action)
            state = problem.step(state, step.action)
        assert problem.is_goal(state) and 0 < len(trajectory.steps) <= problem.max_steps


def check_step(reasoning: str, action: str, valid: tuple[str, ...]) -> None:
    parsed = parse_response(format_response(reasoning, action), valid)
    assert (parsed.reasoning, parsed.action, parsed.failure) == (reasoning, action, "")


@pytest.mark.parametrize("task", ["burger", "cheese_sandwich"])
def test_reasons_are_right_off_the_expert_path_too(task: str, check_reasoning: Callable[[str, str, str], None]) -> None:
    environment, rng = envs.get("robotouille"), random.Random(0)
    for layout in environment.layouts(task, "small", split="train", count=4, seed=1):
        problem = environment.make(task, layout)
        expert, state = PlannerExpert(problem, environment.planner(problem)), problem.initial_state()
        for _ in range(12):
            state = problem.step(state, rng.choice(problem.valid_actions(state)))
            if problem.is_goal(state):
                break
            reasoning, action = expert.reasoning(state), expert.action(state)
            check_step(reasoning, action, problem.valid_actions(state))
            check_reasoning(reasoning, problem.observation(state), action)
