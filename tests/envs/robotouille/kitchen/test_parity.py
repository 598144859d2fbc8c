"""Every recorded line of the real engine: predicates, hidden effects, text, valid actions in order, done.

The repository has a digest of each line, so that any clone proves it; the full text is compared where it is at hand.
"""

import json
from collections import defaultdict

import pytest
import recordings as recordings_module
from recordings import TRACE_FILES, Recordings, Traces, effects_of, replay, valid_in_order

from stgrpo.envs.robotouille import RobotouilleProblem, load, make
from stgrpo.envs.robotouille.kitchen.benchmark import TESTING_SEEDS
from stgrpo.envs.robotouille.kitchen.domain import ITEMS, STATIONS
from stgrpo.envs.robotouille.kitchen.tasks import TASKS

PATHS = {task.benchmark: task for task in TASKS.values() if task.benchmark}


@pytest.mark.parametrize("name", TRACE_FILES)
def test_every_recorded_line_has_its_digest(recordings: Recordings, name: str) -> None:
    assert sum(1 for _ in recordings.lines(name)) == TRACE_FILES[name]


def test_a_line_that_differs_is_named_with_what_our_engine_says(recordings: Recordings) -> None:
    episode = next(e for e in recordings.episode_lines if e["policy"] == "scripted:two_patties")
    other = episode["digests"][:32] + episode["digests"][:16] + episode["digests"][48:]  # 16 characters a line
    problem = load(recordings.kitchens()[episode["task"], "default", None])
    lines = replay(problem, {**episode, "digests": other})
    assert [next(lines)["step"], next(lines)["step"]] == [0, 1]
    with pytest.raises(AssertionError, match="scripted: cook_patties, default layout.*two_patties.*step 2") as caught:
        next(lines)
    state = problem.initial_state()
    for action in episode["actions"][:2]:
        state = problem.step(state, action)
    said = str(caught.value)
    assert problem.observation(state) in said and str(problem.predicates(state)) in said
    with pytest.raises(AssertionError, match="actions and digests differ"):
        next(replay(problem, {**episode, "digests": episode["digests"][:-16]}))


@pytest.mark.parametrize(
    "change",
    [
        lambda observation, valid, predicates, effects, done: (observation + " ", valid, predicates, effects, done),
        lambda observation, valid, predicates, effects, done: (observation, valid[::-1], predicates, effects, done),
        lambda observation, valid, predicates, effects, done: (observation, valid, predicates[1:], effects, done),
        lambda observation, valid, predicates, effects, done: (observation, valid, predicates, [["x", 1, True]], done),
        lambda observation, valid, predicates, effects, done: (observation, valid, predicates, effects, not done),
    ],
)
def test_a_digest_is_of_all_that_is_shown(recordings: Recordings, monkeypatch, change) -> None:
    episode = recordings.episode_lines[0]
    problem = load(recordings.kitchens()[episode["task"], episode["layout"], episode["seed"]])
    assert next(replay(problem, episode))["step"] == 0
    honest = recordings_module._shown
    monkeypatch.setattr(recordings_module, "_shown", lambda *args: change(*honest(*args)))
    with pytest.raises(AssertionError, match="step 0: the benchmark's engine differs"):
        next(replay(problem, episode))


def test_the_digests_are_those_of_the_full_recordings(traces: Traces, recordings: Recordings) -> None:
    as_read = json.loads(json.dumps([*traces.layouts()])), json.loads(json.dumps([*traces.summaries()]))
    assert as_read == (recordings.layout_lines, recordings.episode_lines)


def _replay(problem: RobotouilleProblem, lines: list[dict]) -> None:
    state = problem.initial_state()
    for line in lines:
        where = (line["task"], line["layout"], line["seed"], line["policy"], line["step"])
        assert problem.observation(state) == line["obs"], where
        assert [*problem.valid_actions(state)] == valid_in_order(line["obs"]), where
        assert sorted(problem.valid_actions(state)) == line["valid"], where
        assert problem.predicates(state) == line["preds"], where
        assert [[p.effect.split()[0], p.count, p.done] for p in state.pending] == effects_of(line["sfx"]), where
        if line["action"] is not None:
            state = problem.step(state, line["action"])
        assert problem.is_goal(state) == line["done"], where


@pytest.mark.parametrize("name", TRACE_FILES)
def test_every_recorded_line_in_full(traces: Traces, name: str) -> None:
    replayed = 0
    for env, lines in traces.episodes(name):
        _replay(load(env), lines)
        replayed += len(lines)
    assert replayed == TRACE_FILES[name]


def test_built_in_kitchens_are_the_benchmarks(recordings: Recordings) -> None:
    compared = defaultdict(set)
    for (path, kind, seed), env in recordings.kitchens().items():
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


def test_caps_are_the_benchmarks(recordings: Recordings) -> None:
    recorded = {line["task"]: line["max_steps"] for line in recordings.layouts("benchmark_layouts")}
    assert len(recorded) == 20
    assert recorded == {path: make(path, "default").max_steps for path in recorded}


def test_every_example_of_one_player_can_be_loaded(recordings: Recordings) -> None:
    loaded = 0
    for (path, kind, _), env in recordings.kitchens().items():
        if kind == "default" and len(env["players"]) == 1:
            problem = load(env, seed=3)
            assert problem.observation(problem.initial_state()).endswith(f"Goal: {env['goal_description']}"), path
            loaded += 1
    assert loaded == 65


def test_wildcards_are_drawn_from_a_seed(recordings: Recordings) -> None:
    env = recordings.kitchens()["composite_move_stack", "default", None]
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


def test_an_id_with_two_kinds_is_one_object(recordings: Recordings) -> None:
    """The benchmark's lettuce sandwich asks for `atop(bread:4,cheese:3)`; 3 is its lettuce."""
    env = recordings.kitchens()["synchronous/1_lettuce_sandwich", "default", None]
    assert {"predicate": "atop", "args": ["bread", "cheese"], "ids": [4, 3]} in env["goal"]
    done = {**env, "items": [], "stations": [{"name": "table", "x": 0, "y": 1}]}
    for level, (kind, predicates) in enumerate([("bread", []), ("lettuce", ["iscut"]), ("bread", [])]):
        entry = {"name": kind, "x": 0, "y": 1, "stack-level": level, "predicates": predicates}
        done["items"] = [*done["items"], entry]
        problem = load(done)
        assert problem.is_goal(problem.initial_state()) == (level == 2)
