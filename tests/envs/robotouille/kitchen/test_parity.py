"""Every recorded line of the real engine: predicates, hidden effects, text, valid actions in order, done."""

from collections import defaultdict

import pytest

from stgrpo.envs.robotouille import RobotouilleProblem, load, make
from stgrpo.envs.robotouille.kitchen.benchmark import TESTING_SEEDS
from stgrpo.envs.robotouille.kitchen.domain import ITEMS, STATIONS
from stgrpo.envs.robotouille.kitchen.tasks import TASKS

FILES = {  # name -> number of lines
    "expert": 504,
    "layouts": 3908,
    "synchronous": 4018,
    "asynchronous": 3280,
    "base_composite": 1276,
    "chef": 2624,
    "scripted": 198,
}
PATHS = {task.benchmark: task for task in TASKS.values() if task.benchmark}


def _counters(recorded: list[dict]) -> list[tuple[str, int, bool]]:
    counters = []
    for effect in recorded:
        nested = effect.get("then", [{}])[0]
        counters.append((effect["arg"], effect.get("n", nested.get("t", 0)), effect["done"]))
    return counters


def _replay(problem: RobotouilleProblem, lines: list[dict]) -> None:
    state = problem.initial_state()
    for line in lines:
        where = (line["task"], line["layout"], line["seed"], line["policy"], line["step"])
        assert problem.observation(state) == line["obs"], where
        shown = line["obs"].split("\n\nValid Actions:\n")[1].split("\n\nGoal: ")[0]
        assert "\n".join(problem.valid_actions(state)) == shown, where
        assert sorted(problem.valid_actions(state)) == line["valid"], where
        assert problem.predicates(state) == line["preds"], where
        assert [(p.effect.split()[0], p.count, p.done) for p in state.pending] == _counters(line["sfx"]), where
        if line["action"] is not None:
            state = problem.step(state, line["action"])
        assert problem.is_goal(state) == line["done"], where


@pytest.mark.parametrize("name", FILES)
def test_every_recorded_line(traces, name: str) -> None:
    replayed = 0
    for env, lines in traces.episodes(name):
        _replay(load(env), lines)
        replayed += len(lines)
    assert replayed == FILES[name]


def test_built_in_kitchens_are_the_benchmarks(traces) -> None:
    compared = defaultdict(set)
    for (path, kind, seed), env in traces.kitchens().items():
        layout = "default" if kind == "default" else f"test:{seed}"
        if path in PATHS and (layout == "default" or (kind == "random" and seed in TESTING_SEEDS)):
            ours, theirs = make(path, layout), load(env)
            start = ours.initial_state()
            assert start == theirs.initial_state()
            assert ours.observation(start) == theirs.observation(start)
            assert ours.predicates(start) == theirs.predicates(start)
            assert ours.kitchen.goal == theirs.kitchen.goal
            assert ours.task == PATHS[path].name
            compared[path].add(layout)
    assert sum(map(len, compared.values())) == 20 * 11 + 3
    for path, task in PATHS.items():
        assert compared[path] == {"default", *(f"test:{seed}" for seed in task.testing_seeds)}


def test_caps_are_the_benchmarks(traces) -> None:
    recorded = {line["task"]: line["max_steps"] for line in traces.read("benchmark_layouts")}
    assert len(recorded) == 20
    assert recorded == {path: make(path, "default").max_steps for path in recorded}


def test_every_example_of_one_player_can_be_loaded(traces) -> None:
    loaded = 0
    for (path, kind, _), env in traces.kitchens().items():
        if kind == "default" and len(env["players"]) == 1:
            problem = load(env, seed=3)
            assert problem.observation(problem.initial_state()).endswith(f"Goal: {env['goal_description']}"), path
            loaded += 1
    assert loaded == 65


def test_wildcards_are_drawn_from_a_seed(traces) -> None:
    env = traces.kitchens()["composite_move_stack", "default", None]
    kinds = [tuple(name.rstrip("0123456789") for name in load(env, seed=s).grounding.types) for s in range(200)]
    assert kinds == [tuple(n.rstrip("0123456789") for n in load(env, seed=s).grounding.types) for s in range(200)]
    assert {kind for two in kinds for kind in two[:2]} == set(STATIONS)
    assert {kind for two in kinds for kind in two[2:4]} == set(ITEMS)
    problem = load(env, seed=1)
    state = problem.initial_state()
    held = problem.holding(state)
    other = next(station for station in problem.stacks(state) if problem.stacks(state)[station])
    state = problem.step(state, f"Move robot1 from {problem.robot_station(state)} to {other}")
    below = problem.stacks(state)[other][0]
    assert problem.is_goal(problem.step(state, f"Stack {held} on top of {below} using robot1"))


def test_an_id_with_two_kinds_is_one_object(traces) -> None:
    """The benchmark's lettuce sandwich asks for `atop(bread:4,cheese:3)`; 3 is its lettuce."""
    env = traces.kitchens()["synchronous/1_lettuce_sandwich", "default", None]
    assert {"predicate": "atop", "args": ["bread", "cheese"], "ids": [4, 3]} in env["goal"]
    done = {**env, "items": [], "stations": [{"name": "table", "x": 0, "y": 1}]}
    for level, (kind, predicates) in enumerate([("bread", []), ("lettuce", ["iscut"]), ("bread", [])]):
        entry = {"name": kind, "x": 0, "y": 1, "stack-level": level, "predicates": predicates}
        done["items"] = [*done["items"], entry]
        problem = load(done)
        assert problem.is_goal(problem.initial_state()) == (level == 2)
