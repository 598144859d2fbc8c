"""Failures: as often as asked for, the same every time, and nothing but time passes."""

import random

import pytest

from stgrpo import envs
from stgrpo.envs.robotouille import load, make
from stgrpo.envs.robotouille.kitchen.domain import WAIT
from stgrpo.envs.sessions import ProblemSession
from stgrpo.envs.stochastic import FlakyEnvironment, FlakyPlanner, FlakyProblem, FlakyState
from stgrpo.errors import UserError
from stgrpo.experts.planner_expert import PlannerExpert
from stgrpo.protocol import InvalidAction, Scoring, expert_action_of, wait_of

ROBOTOUILLE = envs.get("robotouille")
COOK = {
    "stations": [{"name": "stove", "x": 0, "y": 1}],
    "items": [{"name": "patty", "x": 0, "y": 1, "predicates": ["iscookable"]}],
    "players": [{"name": "robot", "x": 0, "y": 0, "direction": [0, 1]}],
    "goal_description": "Cook",
    "goal": [{"predicate": "iscooked", "args": ["patty"], "ids": [1]}],
}


AND_A_TABLE = COOK | {"stations": [*COOK["stations"], {"name": "table", "x": 2, "y": 1}]}


class Counter:
    """Counts to three; no action of it lets only time pass."""

    task, layout, goal, max_steps = "count", "default", "three", 3

    def initial_state(self) -> int:
        return 0

    def observation(self, state: int) -> str:
        return str(state)

    def valid_actions(self, state: int) -> tuple[str, ...]:
        return ("more",)

    def step(self, state: int, action: str) -> int:
        if action != "more":
            raise InvalidAction(action)
        return state + 1

    def is_goal(self, state: int) -> bool:
        return state == 3


def _episode(problem: FlakyProblem, seed: int) -> list[FlakyState]:
    rng, states = random.Random(seed), [problem.initial_state()]
    for _ in range(60):
        states.append(problem.step(states[-1], rng.choice(problem.valid_actions(states[-1]))))
    return states


@pytest.mark.parametrize("p", [0.0, 0.1, 0.5])
def test_failures_are_as_frequent_as_asked_for(p: float) -> None:
    failed = total = 0
    for layout in range(20):
        problem = FlakyProblem(make("burger", f"small:{layout}"), p, seed=1)
        failed += sum(problem.fails(FlakyState(None, time)) for time in range(500))
        total += 500
    assert abs(failed / total - p) <= 4 * (p * (1 - p) / total) ** 0.5


def test_an_episode_can_be_repeated() -> None:
    plain = make("cheese_burger", "test:126")
    first = _episode(FlakyProblem(plain, 0.3, seed=5), seed=0)
    again = _episode(FlakyProblem(make("cheese_burger", "test:126"), 0.3, seed=5), seed=0)
    assert first == again and len({hash(state) for state in first}) == 61
    assert first != _episode(FlakyProblem(plain, 0.3, seed=6), seed=0)


def test_without_failures_it_is_the_problem_itself() -> None:
    plain = make("cheese_burger", "test:126")
    problem, rng = FlakyProblem(plain, 0.0), random.Random(0)
    state, same = problem.initial_state(), plain.initial_state()
    assert problem.max_steps == plain.max_steps
    for time in range(40):
        assert (state.inner, state.time) == (same, time)
        assert problem.observation(state) == plain.observation(same)
        assert problem.is_goal(state) == plain.is_goal(same)
        action = rng.choice(problem.valid_actions(state))
        state, same = problem.step(state, action), plain.step(same, action)


def test_kitchens_do_not_fail_alike() -> None:
    patterns = {
        tuple(FlakyProblem(make("burger", f"small:{n}"), 0.5).fails(FlakyState(None, t)) for t in range(30))
        for n in range(20)
    }
    assert len(patterns) == 20


def test_a_failed_action_lets_timers_go_on() -> None:
    plain = load(COOK)
    state = plain.step(plain.initial_state(), "Cook patty1 on stove1 using robot1")
    problem = FlakyProblem(plain, 0.999999)
    flaky = FlakyState(state, 1)
    for _ in range(3):
        assert problem.fails(flaky) and not problem.is_goal(flaky)
        flaky = problem.step(flaky, "Pick up patty1 from stove1 using robot1")
    assert problem.is_goal(flaky)
    assert flaky.inner == plain.step(plain.step(plain.step(state, WAIT), WAIT), WAIT)


def test_without_a_waiting_action_the_state_stays() -> None:
    problem = FlakyProblem(Counter(), 0.5, seed=0)
    state, taken = problem.initial_state(), []
    while not problem.is_goal(state):
        failed, after = problem.fails(state), problem.step(state, "more")
        taken.append(failed)
        assert after == FlakyState(state.inner + (not failed), state.time + 1)
        state = after
    assert 0 < sum(taken) == len(taken) - 3


def test_what_is_not_valid_stays_not_valid() -> None:
    problem = FlakyProblem(make("burger", "default"), 0.9)
    with pytest.raises(InvalidAction):
        problem.step(problem.initial_state(), "Finish")


@pytest.mark.parametrize("p", [-0.1, 1.0, 2.0])
def test_a_probability_out_of_range(p: float) -> None:
    with pytest.raises(UserError, match=str(p)):
        FlakyProblem(make("burger", "default"), p)


def test_the_planner_gets_there_in_as_many_steps_as_expected() -> None:
    p, steps, distances = 0.25, 0, 0
    environment = FlakyEnvironment(ROBOTOUILLE, p, seed=3)
    for layout in environment.layouts("burger", "small", split="train", count=150):
        problem = environment.make("burger", layout)
        planner, state = environment.planner(problem), problem.initial_state()
        assert isinstance(planner, FlakyPlanner) and problem.max_steps == 20
        distances += planner.distance(state)
        while not problem.is_goal(state):
            left, failed = planner.distance(state), problem.fails(state)
            state = problem.step(state, planner.optimal_actions(state)[0])
            assert planner.distance(state) == left - (not failed)
        steps += state.time
    assert abs(steps / distances - 1 / (1 - p)) < 0.1
    assert environment.tasks() == ROBOTOUILLE.tasks() and environment.families() == ROBOTOUILLE.families()


def test_the_expert_waits_with_and_without_failures_though_it_could_walk_about() -> None:
    problem = load(AND_A_TABLE)
    for judged in (problem, FlakyProblem(problem, 0.2)):
        planner = ROBOTOUILLE.planner(problem)
        session = ProblemSession(judged, planner if judged is problem else FlakyPlanner(planner, problem.wait))
        waited, seen = [], session.reset()
        while not seen.done:
            optimal = session.planner.optimal_actions(session.state)
            action = expert_action_of(session.planner, session.state, wait_of(session))
            assert action in optimal
            waited += [len(optimal)] if action == WAIT else []
            seen = session.step(action)
        assert seen.success and max(waited) > 1
    guide, state = PlannerExpert(problem, ROBOTOUILLE.planner(problem)), problem.initial_state()
    for action in guide.plan(state):  # what is taught is what is judged
        assert expert_action_of(ROBOTOUILLE.planner(problem), state, problem.wait) == action
        state = problem.step(state, action)


def test_a_score_is_that_of_the_wrapped_problem() -> None:
    webshop = envs.get("webshop")
    problem = FlakyEnvironment(webshop, 0.3).make("shop", "made:0")
    session, seen = ProblemSession(problem), None
    seen = session.reset()
    assert isinstance(problem, Scoring) and seen.score == 0.0
    while not seen.done:
        bought = [action for action in seen.valid_actions if action.lower() == "click[buy now]"]
        seen = session.step((*bought, seen.valid_actions[-1])[0])
    assert seen.score == webshop.make("shop", "made:0").score(session.state.inner) > 0
    assert not isinstance(FlakyEnvironment(ROBOTOUILLE, 0.3).make("burger", "default"), Scoring)
    assert ProblemSession(FlakyProblem(load(COOK), 0.1)).reset().score is None
