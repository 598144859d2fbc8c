"""Every recorded line of the real engine: predicates, hidden effects, text, valid actions in order, done."""

import pytest

from stgrpo.envs.robotouille import RobotouilleProblem, load, make
from stgrpo.envs.robotouille.benchmark import TESTING_SEEDS
from stgrpo.envs.robotouille.tasks import TASKS

FILES = {  # name -> number of lines
    "expert": 504,
    "layouts": 3908,
    "synchronous": 4018,
    "asynchronous": 3280,
    "base_composite": 1276,
    "chef": 2624,
    "scripted": 198,
}


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


@pytest.mark.parametrize("task", TASKS)
def test_built_in_kitchens_are_the_benchmarks(traces, task: str) -> None:
    recorded = {key[1:]: env for key, env in traces.kitchens().items() if key[0] == TASKS[task].benchmark}
    for layout in ("default", *(f"test:{seed}" for seed in TESTING_SEEDS)):
        key = ("default", None) if layout == "default" else ("random", int(layout.removeprefix("test:")))
        ours, theirs = make(task, layout), load(recorded[key])
        start = ours.initial_state()
        assert start == theirs.initial_state()
        assert ours.observation(start) == theirs.observation(start)
        assert ours.predicates(start) == theirs.predicates(start)
        assert ours.kitchen.goal == theirs.kitchen.goal


@pytest.mark.parametrize("task", TASKS)
def test_caps_are_the_benchmarks(traces, task: str) -> None:
    recorded = [line for line in traces.read("benchmark_layouts") if line["task"] == TASKS[task].benchmark]
    assert {line["max_steps"] for line in recorded} == {make(task, "default").max_steps}
