"""The search for plans that prepare food, against breadth-first search over the engine and known optima."""

import math
import random

import pytest

from stgrpo import envs
from stgrpo.envs.robotouille import RobotouilleProblem, load, make
from stgrpo.envs.robotouille.kitchen.kitchen import parse_goal, parse_kitchen
from stgrpo.envs.robotouille.planner.planner import RobotouillePlanner
from stgrpo.envs.robotouille.planner.search import Search
from stgrpo.envs.robotouille.planner.state_view import Viewer
from stgrpo.errors import UserError
from stgrpo.experts.collect import collect

POTATO = "potato(iscuttable,isfryableifcut)"
KITCHENS = {
    "cut and stack": (
        "iscut(lettuce:1) atop(lettuce:1,bread:2)",
        "robot 0,1 at 0,0 | table 0,0 bread | board 1,0 | table 2,0 lettuce(iscuttable)",
    ),
    "closed sandwich": (
        "item_on(bread:1,table:2) iscut(lettuce:3) item_at(lettuce:3,table:2) item_at(bread:4,table:2) clear(bread:4)",
        "robot 0,1 at 0,0 | table 0,0 bread bread | board 1,0 | table 2,0 lettuce(iscuttable)",
    ),
    "stays on the stove": (
        "iscooked(patty:1) atop(cheese:2,patty:1)",
        "robot 0,1 at 0,0 | table 0,0 cheese | stove 1,0 | table 2,0 patty(iscookable)",
    ),
    "cook, hand full": (
        "iscooked(patty:1) item_on(patty:1,table:2)",
        "robot 0,1 at 0,0 holding cheese | table 0,0 cheese patty(iscookable) | stove 1,0 | table 2,0",
    ),
    "two stoves": (
        "item_on(bottombun:1,table:2) iscooked(patty:3) atop(patty:3,bottombun:1) atop(topbun:4,patty:3)",
        "robot 0,1 at 0,0 | table 0,0 patty(iscookable) bottombun topbun | stove 1,0 | stove 2,0",
    ),
    "cut, then fry": (
        "iscut(potato:1) isfried(potato:1) item_on(potato:1,table:2)",
        f"robot 0,1 at 0,0 | table 0,0 {POTATO} | board 1,0 | fryer 2,0 cheese",
    ),
    "fill a pot": ("in(water:1,pot:2)", "robot 0,1 at 0,0 | table 0,0 pot | sink 1,0 | table 2,0 potato"),
    "boil and serve": (
        "in(water:1,bowl:2) isboiling(water:1)",
        "robot 0,1 at 0,0 | table 0,0 pot | sink 1,0 | stove 2,0 | table 3,0 bowl",
    ),
    "soup": (
        "in(water:1,bowl:2) isboiling(water:1) addedto(potato:3,water:1) container_at(bowl:2,table:4)",
        "robot 0,1 at 0,0 | table 0,0 pot | sink 1,0 potato | stove 2,0 | table 3,0 bowl",
    ),
    "cook and cut": (
        "item_on(bread:1,table:2) iscooked(chicken:3) atop(chicken:3,bread:1) iscut(onion:4) atop(onion:4,chicken:3)",
        "robot 0,1 at 0,0 | table 0,0 onion(iscuttable) bread | stove 1,0 | board 2,0 chicken(iscookable)",
    ),
    "one stove for two": (
        "item_on(patty:1,table:2) iscooked(patty:1) iscooked(patty:3) atop(patty:3,patty:1)",
        "robot 0,1 at 0,0 | table 0,0 patty(iscookable) | stove 1,0 | table 2,0 patty(iscookable)",
    ),
    "the pot stands on the only stove": (
        "in(water:1,pot:2) iscooked(patty:3) item_on(patty:3,table:4)",
        "robot 0,1 at 0,0 | table 0,0 patty(iscookable) | stove 1,0 pot | sink 2,0",
    ),
    "cheese on the stove goes on what is cooked": (
        "iscooked(patty:1) atop(patty:1,bread:2) atop(cheese:3,patty:1)",
        "robot 0,1 at 0,0 | table 0,0 bread | stove 1,0 cheese | table 2,0 patty(iscookable)",
    ),
    "something else on the board": (
        "iscut(lettuce:1) item_on(lettuce:1,table:2)",
        "robot 0,1 at 0,0 | table 0,0 bread lettuce(iscuttable) | board 1,0 cheese | table 2,0",
    ),
    "something else on both boards": (
        "iscut(lettuce:1) atop(lettuce:1,bread:2)",
        "robot 0,1 at 0,0 holding lettuce(iscuttable) | board 0,0 cheese | board 1,0 bread | table 2,0",
    ),
    "too few tables": (
        "item_on(cheese:1,table:2) item_on(bread:3,table:4) container_at(bowl:5,table:6)",
        "robot 0,1 at 0,0 holding patty | table 0,0 bread | table 1,0 bowl | table 2,0 potato cheese | sink 3,0",
    ),
    "the first in the hand is the last to be added": (
        "in(water:1,pot:2) addedto(potato:3,water:1)",
        "robot 0,1 at 0,0 holding potato | table 0,0 pot | sink 1,0 bread | table 2,0",
    ),
    "two tops lie on each other's bottoms": (
        "item_on(bread:1,table:2) atop(cheese:3,bread:1) atop(bread:4,cheese:3) item_on(bread:5,table:6)",
        "robot 0,1 at 0,0 | table 0,0 bread bread | table 1,0 bread cheese | board 2,0",
    ),
}
OPTIMA = {  # default kitchens; those of the benchmark's `optimal_steps` that differ are not optimal there
    "lettuce_sandwich": 14,
    "lettuce_tomato_sandwich": 24,
    "lettuce_tomato_cheese_burger": 35,
    "cheese_chicken_sandwich": 21,
    "lettuce_chicken_sandwich": 27,
    "fried_chicken_sandwich": 37,
    "potato_soup": 19,
    "onion_soup": 42,
    "soup_and_sandwich": 44,
    "soup_and_two_sandwiches": 62,
    "soup_burger_and_sandwich": 80,
}


def _problem(name: str) -> RobotouilleProblem:
    goal, kitchen = KITCHENS[name]
    return RobotouilleProblem(parse_kitchen(kitchen, parse_goal(name, goal)), task=name, layout="test")


OWN_IDS = {  # the goal's own lettuce may be its numbered one too: predicate, kinds, ids
    "carry": [("item_at", ["lettuce", "table"], ["own", 1]), ("item_on", ["lettuce", "table"], [2, 1])],
    "cut": [("iscut", ["lettuce"], ["own"]), ("item_on", ["lettuce", "table"], [2, 3])],
}


@pytest.mark.parametrize("lettuces", [1, 2])
@pytest.mark.parametrize("goal", OWN_IDS)
def test_a_thing_with_its_own_id_may_be_a_numbered_one(goal, lettuces, breadth_first):
    places = [(0, "own"), (3, "other")][:lettuces]
    problem = load(
        {
            "stations": [{"name": kind, "x": x, "y": 1} for x, kind in enumerate(("board", "table", "stove", "table"))],
            "items": [
                {"name": "lettuce", "x": x, "y": 1, "stack-level": 0, "predicates": ["iscuttable"], "id": name}
                for x, name in places
            ],
            "players": [{"name": "robot", "x": 0, "y": 0, "direction": [0, 1]}],
            "goal": [{"predicate": name, "args": kinds, "ids": ids} for name, kinds, ids in OWN_IDS[goal]],
            "goal_description": "Bring the lettuce",
        }
    )
    (_, distances), planner = breadth_first(problem), RobotouillePlanner(problem)
    assert distances[problem.initial_state()] > 1
    for state in random.Random(0).sample(sorted(distances, key=repr), min(30, len(distances))):
        assert planner.distance(state) == distances[state]


@pytest.mark.parametrize("name", KITCHENS)
def test_every_distance_and_optimal_set_is_that_of_breadth_first_search(name, breadth_first):
    problem = _problem(name)
    (_, distances), search, planner = breadth_first(problem), Search(problem), RobotouillePlanner(problem)
    viewer = Viewer(problem.grounding)
    states = random.Random(0).sample(sorted(distances, key=repr), min(50, len(distances)))
    for state in states:
        if distances[state]:
            bound, _ = search.bound(viewer.view(state), moved=False)
            assert 0 < bound <= distances[state]
    for state in states[:25]:
        assert planner.distance(state) == distances[state]
        after = {a: problem.step(state, a) for a in problem.valid_actions(state)}
        nearer = [a for a, next_state in after.items() if distances.get(next_state, math.inf) < distances[state]]
        assert list(planner.optimal_actions(state)) == nearer
        for action in planner.solve(state).actions:
            state = problem.step(state, action)
        assert problem.is_goal(state)


@pytest.mark.parametrize("task", OPTIMA)
def test_default_kitchens_of_the_other_tasks_are_solved_in_the_fewest_steps(task):
    problem = make(task, "default")
    plan, state = RobotouillePlanner(problem).solve(problem.initial_state()), problem.initial_state()
    assert plan.optimal and len(plan.actions) == OPTIMA[task]
    for action in plan.actions:
        assert not problem.is_goal(state)
        state = problem.step(state, action)
    assert problem.is_goal(state)


@pytest.mark.parametrize("task", ["burger", "cheese_sandwich", "cheese_burger", "double_cheese_burger"])
def test_it_agrees_with_the_planner_for_goals_that_only_carry(task):
    for seed in (42, 126, 252, 420):
        problem = make(task, f"test:{seed}")
        start = problem.initial_state()
        plan = Search(problem).solve(start, seconds=60)
        assert plan.optimal and len(plan.actions) == RobotouillePlanner(problem).distance(start)


def test_what_is_not_proved_in_time_is_said_with_its_bounds():
    problem = make("soup_and_sandwich", "default")
    planner, start = RobotouillePlanner(problem, seconds=1e-9), problem.initial_state()
    with pytest.raises(UserError, match="no plan found in 1e-09 s; give RobotouillePlanner more seconds"):
        planner.distance(start)
    assert planner.solve(start, seconds=60).optimal
    assert planner.distance(start) == 44  # known by now


def test_a_quick_look_does_not_depend_on_the_clock():
    problem = make("potato_soup", "default")
    start = problem.initial_state()
    assert RobotouillePlanner(problem, seconds=0).solves_within(start, 29)
    assert not RobotouillePlanner(problem, seconds=0).solves_within(start, 18)


def test_a_kitchen_without_what_the_goal_needs_has_no_plan():
    goal, kitchen = KITCHENS["soup"]
    problem = RobotouilleProblem(parse_kitchen(kitchen.replace("sink", "table"), parse_goal("soup", goal)))
    with pytest.raises(UserError, match="has no plan: its goal cannot be reached"):
        RobotouillePlanner(problem, seconds=30).distance(problem.initial_state())


@pytest.mark.parametrize("task", ["potato_soup", "fried_chicken_sandwich"])
def test_the_expert_solves_unseen_kitchens_in_which_food_is_prepared(task):
    environment = envs.get("robotouille")
    layouts = environment.layouts(task, "small", split="train", count=3)
    assert layouts == environment.layouts(task, "small", split="train", count=3)
    for trajectory in collect(environment, task, "small", split="train", count=3):
        problem = make(task, trajectory.layout)
        state = problem.initial_state()
        assert [step.distance for step in trajectory.steps] == list(range(len(trajectory.steps), 0, -1))
        for step in trajectory.steps:
            assert step.action in step.optimal_actions
            state = problem.step(state, step.action)
        assert problem.is_goal(state) and len(trajectory.steps) <= problem.max_steps
