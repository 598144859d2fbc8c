"""The planner against breadth-first search over the engine, and against the benchmark's recorded optima."""

import random
from collections import defaultdict

import pytest

from stgrpo import envs
from stgrpo.envs.robotouille import RobotouilleProblem, State, load, make
from stgrpo.envs.robotouille.kitchen.benchmark import TESTING_SEEDS
from stgrpo.envs.robotouille.kitchen.kitchen import parse_kitchen
from stgrpo.envs.robotouille.kitchen.tasks import TASKS
from stgrpo.envs.robotouille.planner.planner import RobotouillePlanner
from stgrpo.errors import UserError

OPTIMA = {
    "cheese_sandwich": (7, 8, 10, 11, 8, 14, 8, 8, 8, 5),
    "burger": (8, 12, 14, 8, 8, 10, 8, 8, 8, 8),
    "cheese_burger": (12, 12, 18, 18, 12, 13, 12, 12, 12, 10),
    "double_cheese_burger": (20, 20, 26, 22, 20, 30, 20, 26, 23, 25),
}
DEFAULT_OPTIMA = {"cheese_sandwich": 8, "burger": 8, "cheese_burger": 15, "double_cheese_burger": 23}
RAW = "patty(iscookable)"
COOKING = [
    # The cooked patty lies under two things, the raw one on a stove: cooking is shorter from many states.
    f"robot 0,1 at 0,0 | table 0,0 bottombun | stove 1,0 {RAW} | table 2,0 patty(iscooked) topbun",
    f"robot 0,1 at 0,0 holding {RAW} | stove 0,0 | table 1,0 bottombun patty(iscooked) | table 2,0 topbun",
    # Nothing is cooked yet; two stoves can each hold half of the work.
    f"robot 0,1 at 0,0 | table 0,0 bottombun | stove 1,0 {RAW} | board 2,0 topbun",
    f"robot 0,1 at 0,0 | table 0,0 {RAW} bottombun topbun | stove 1,0 | stove 2,0",
]


def _check_against_search(breadth_first, problem: RobotouilleProblem, sample: int) -> None:
    graph, distances = breadth_first(problem)
    planner = RobotouillePlanner(problem)
    states = sorted(graph)
    for state in random.Random(0).sample(states, min(sample, len(states))):
        assert planner.distance(state) == distances[state]
        pairs = zip(problem.valid_actions(state), graph[state], strict=True)
        nearer = tuple(action for action, after in pairs if distances[after] == distances[state] - 1)
        assert planner.optimal_actions(state) == (nearer if distances[state] else ())


@pytest.mark.parametrize("task", ["burger", "cheese_sandwich", "cheese_burger"])
def test_every_state_of_the_default_kitchen(task: str, breadth_first) -> None:
    _check_against_search(breadth_first, make(task, "default"), sample=10_000)


@pytest.mark.parametrize("task", ["burger", "cheese_sandwich", "cheese_burger"])
def test_small_kitchens(task: str, breadth_first) -> None:
    checked = 0
    for seed in range(16):
        problem = make(task, f"small:{seed}")
        kinds = {item.kind for item in problem.kitchen.items}
        # ProgressBar of cutting is part of the state, so these kitchens are large without being harder.
        if not kinds & {"lettuce", "tomato", "onion"} and len(problem.kitchen.items) < 5:
            _check_against_search(breadth_first, problem, sample=500)
            checked += 1
    assert checked >= 6


@pytest.mark.parametrize("kitchen", COOKING)
def test_kitchens_in_which_cooking_can_be_shorter(kitchen: str, breadth_first) -> None:
    problem = RobotouilleProblem(parse_kitchen(kitchen, TASKS["burger"].goal), task="burger")
    _check_against_search(breadth_first, problem, sample=150)


@pytest.mark.parametrize("task", OPTIMA)
def test_the_benchmarks_test_kitchens(task: str) -> None:
    for seed, optimum in zip(TESTING_SEEDS, OPTIMA[task], strict=True):
        problem = make(task, f"test:{seed}")
        assert RobotouillePlanner(problem).distance(problem.initial_state()) == optimum
    default = make(task, "default")
    assert RobotouillePlanner(default).distance(default.initial_state()) == DEFAULT_OPTIMA[task]


def test_recorded_optima_and_numbers_of_optimal_plans(recordings) -> None:
    for line in recordings.layouts("layouts"):
        problem = load(line["env_json"])
        planner, layer = RobotouillePlanner(problem), {problem.initial_state(): 1}
        assert planner.distance(problem.initial_state()) == line["optimal_steps"]
        for _ in range(line["optimal_steps"]):
            after: dict[State, int] = defaultdict(int)
            for state, plans in layer.items():
                for action in planner.optimal_actions(state):
                    after[problem.step(state, action)] += plans
            layer = after
        assert all(problem.is_goal(state) for state in layer)
        assert sum(layer.values()) == line["n_optimal_plans"], (line["task"], line["layout"], line["seed"])


@pytest.mark.parametrize(("layout", "number"), [("default", 3), ("default", 4), ("horizon100:0", 3)])
def test_goals_of_many_things_have_the_optimum_they_are_made_with(layout: str, number: int) -> None:
    problem = make(f"burgers_{number}", layout)
    plan = RobotouillePlanner(problem).solve(problem.initial_state())
    buried = len(problem.kitchen.items) - number  # all but the bottoms; see horizons.py
    known = (8 * number + 3,) if layout == "default" else (4 * buried - 1, 4 * buried)
    assert plan.optimal and len(plan.actions) in known


def test_distances_change_by_one_at_most_along_a_walk() -> None:
    problem = make("double_cheese_burger", "test:126")
    planner, rng, state = envs.get("robotouille").planner(problem), random.Random(0), problem.initial_state()
    for _ in range(30):
        after = problem.step(state, rng.choice(problem.valid_actions(state)))
        assert planner.distance(after) >= planner.distance(state) - 1
        state = after


def test_a_goal_of_another_kind_is_planned_too() -> None:
    env = {
        "stations": [{"name": "table", "x": 0, "y": 1}, {"name": "table", "x": 2, "y": 1}],
        "items": [{"name": "bread", "x": 2, "y": 1}],
        "players": [{"name": "robot", "x": 0, "y": 0, "direction": [0, 1]}],
        "goal_description": "Hold the bread",
        "goal": [{"predicate": "has_item", "args": ["robot", "bread"], "ids": [1, 2]}],
    }
    with_pot = {**env, "containers": [{"name": "pot", "x": 0, "y": 1}]}
    for problem in (load(env), load(with_pot)):
        assert RobotouillePlanner(problem).distance(problem.initial_state()) == 2


def test_a_goal_out_of_reach_is_a_user_error() -> None:
    problem = RobotouilleProblem(parse_kitchen("robot 0,1 at 0,0 | table 0,0 topbun", TASKS["burger"].goal), task="x")
    with pytest.raises(UserError, match="no plan"):
        RobotouillePlanner(problem).distance(problem.initial_state())
