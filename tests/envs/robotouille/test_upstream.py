"""The benchmark's own package plays as our engine does. What compares the two is skipped where it is not installed."""

import importlib.util
import json
import os
import pathlib
import random
import subprocess
import sys

import pytest

from stgrpo import envs
from stgrpo.config import base
from stgrpo.envs.robotouille import load, make, upstream
from stgrpo.envs.robotouille.kitchen.domain import CHANGING, CONTAINERS, ITEMS, KINDS, PREDICATES, STATIONS
from stgrpo.envs.robotouille.kitchen.kitchen_json import kitchen_from_json, kitchen_to_json
from stgrpo.envs.robotouille.kitchen.tasks import PAPER_TASKS, TASKS
from stgrpo.envs.robotouille.upstream import UpstreamPlanner, UpstreamProblem, checkout, goal_conjunctions
from stgrpo.envs.sessions import open_sessions
from stgrpo.errors import UserError
from stgrpo.evaluation.episodes import EpisodeConfig, run_episodes
from stgrpo.plan.checks import validate
from stgrpo.protocol import InvalidAction
from stgrpo.react.policy import SamplingParams
from stgrpo.react.prompt import PromptStyle
from stgrpo.sampling.base import Samples

LAYOUTS = ("default", "test:42", "test:126", "random:7", "small:3")
OTHERS = ("lettuce_tomato_sandwich", "burger_and_fries", "fried_chicken_sandwich", "potato_soup", "onion_soup")
CASES = [(task, layout) for task in PAPER_TASKS for layout in LAYOUTS] + [(task, "default") for task in OTHERS]
PROCESSES = ("Cook", "Cut", "Fry", "Fill", "Boil", "Add")
RAW = {"patty": ["iscookable"], "lettuce": ["iscuttable"], "potato": ["iscuttable", "isfryableifcut"]}
WANTED = [p for p in PREDICATES if p.name in CHANGING and "player" not in p.types]
BUSY = {
    "stations": [
        {"name": "stove", "x": 0, "y": 1},
        {"name": "board", "x": 1, "y": 1},
        {"name": "fryer", "x": 2, "y": 1},
        {"name": "sink", "x": 3, "y": 1},
        {"name": "table", "x": 4, "y": 1},
    ],
    "items": [
        {"name": "patty", "x": 0, "y": 1, "stack-level": 0, "predicates": ["iscookable"]},
        {"name": "potato", "x": 1, "y": 1, "stack-level": 0, "predicates": ["iscuttable", "isfryableifcut"]},
        {"name": "lettuce", "x": 2, "y": 1, "stack-level": 0, "predicates": ["iscuttable"], "id": "a"},
    ],
    "containers": [{"name": "pot", "x": 3, "y": 1}, {"name": "bowl", "x": 4, "y": 1}],
    "meals": [],
    "players": [{"name": "robot", "x": 0, "y": 0, "direction": [0, 1]}],
    "goal_description": "Serve potato in boiling water",
    "goal": [
        {"predicate": "in", "args": ["water", "bowl"], "ids": [1, 2]},
        {"predicate": "isboiling", "args": ["water"], "ids": [1]},
        {"predicate": "addedto", "args": ["lettuce", "water"], "ids": ["a", 1]},
    ],
}


@pytest.fixture(scope="module")
def installed() -> None:
    try:
        checkout()
    except UserError as error:
        pytest.skip(str(error))


def _weight(action: str) -> int:
    return 12 if action.startswith(PROCESSES) else 3 if action.startswith(("Pick", "Place", "Stack")) else 1


def _walk(ours, theirs, steps: int, seed: int) -> set[str]:
    """Compares both engines along a random walk; returns the first words of its actions, and "goal" if it met one."""
    planner, rng, words = UpstreamPlanner(theirs), random.Random(seed), set()
    state, other = ours.initial_state(), theirs.initial_state()
    for _ in range(steps):
        assert theirs.observation(other) == ours.observation(state)
        assert theirs.valid_actions(other) == ours.valid_actions(state)
        assert theirs.is_goal(other) == ours.is_goal(state)
        assert theirs.predicates(other) == ours.predicates(state)
        assert planner.translate(other) == state  # every hidden counter too
        actions = ours.valid_actions(state)
        action = rng.choices(actions, [_weight(action) for action in actions])[0]
        words |= {action.split()[0], *(["goal"] if ours.is_goal(state) else [])}
        state, other = ours.step(state, action), theirs.step(other, action)
    return words


def test_json_gives_the_kitchen_back() -> None:
    for task, layout in [*CASES, *((task, "default") for task in TASKS)]:
        kitchen = make(task, layout).kitchen
        assert kitchen_from_json(json.loads(json.dumps(kitchen_to_json(kitchen)))) == kitchen


def test_json_gives_every_recorded_kitchen_back(recordings) -> None:
    kitchens = []
    for env in recordings.kitchens().values():
        try:
            kitchens.append(kitchen_from_json(env))
        except UserError:  # two players, or an object of unknown kind
            continue
    assert len(kitchens) > 250
    assert [kitchen_from_json(kitchen_to_json(kitchen)) for kitchen in kitchens] == kitchens


def test_without_the_package_the_error_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"needs robotouille.*pip install --no-deps -e robotouille") as caught:
        envs.get("robotouille", engine="upstream")
    assert "\n" not in str(caught.value)
    config = base()
    config.env.engine = "upstream"
    assert validate(config) == [str(caught.value)]


def test_an_install_that_left_half_of_the_package_out_is_refused(tmp_path: pathlib.Path, monkeypatch) -> None:
    package = tmp_path / "robotouille"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('never run')")
    monkeypatch.setitem(sys.modules, "gym", type(sys)("gym"))
    sys.modules["gym"].__spec__ = importlib.util.spec_from_loader("gym", None)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError, match="lacks its domain and backend.*-e robotouille"):
        checkout()


def test_an_unknown_engine_is_refused() -> None:
    with pytest.raises(UserError, match="ours, upstream"):
        envs.get("robotouille", engine="theirs")
    config = base()
    config.env.engine = "upstrem"
    assert validate(config) == ["env.engine='upstrem' is unknown: did you mean 'upstream'?"]


@pytest.mark.parametrize(("task", "layout"), CASES)
def test_both_engines_play_alike(installed: None, task: str, layout: str) -> None:
    theirs = envs.get("robotouille", engine="upstream").make(task, layout)
    ours = make(task, layout)
    assert (theirs.task, theirs.layout, theirs.goal) == (ours.task, ours.layout, ours.goal)
    assert theirs.max_steps == ours.max_steps
    _walk(ours, theirs, 20, seed=0)


def _random_environment(rng: random.Random) -> dict:
    """A small kitchen of any things, and a goal of any predicates over numbers, used with one kind or two, and ids."""
    stations = [{"name": rng.choice(STATIONS), "x": x, "y": 1} for x in range(rng.randint(3, 5))]
    free = rng.sample(range(len(stations)), len(stations))
    containers = [{"name": rng.choice(CONTAINERS), "x": free.pop(), "y": 1} for _ in range(rng.randint(0, 2))]
    meals = [{"name": "water", "x": c["x"], "y": 1} for c in containers if rng.random() < 0.25]
    places = [(x, 1, level) for x in free for level in range(rng.choice((0, 1, 1, 2)))]
    places += [(0, 0, 0)] if rng.random() < 0.3 else []
    items = [
        {"name": (kind := rng.choice(ITEMS)), "x": x, "y": y, "stack-level": level, "predicates": RAW.get(kind, [])}
        for x, y, level in places
    ]
    fields = {"station": stations, "item": items, "container": containers, "meal": meals}
    owners = {"a": rng.choice(stations), **({"b": rng.choice(items)} if items else {})}
    for id_, thing in owners.items():
        thing["id"] = id_
    goal = []
    for predicate in rng.sample(WANTED, rng.choice((1, 1, 2))):
        args, ids = [], []
        for type_ in predicate.types:
            there = [thing["name"] for thing in fields[type_]]
            own = [id_ for id_, thing in owners.items() if thing in fields[type_]]
            ids.append(rng.choice(own) if own and rng.random() < 0.3 else str(rng.randint(1, 3) + 10 * len(type_)))
            args.append(rng.choice(there if there and rng.random() < 0.8 else KINDS[type_]))
        goal.append({"predicate": predicate.name, "args": args, "ids": ids})
    robot = {"name": "robot", "x": 0, "y": 0, "direction": [0, 1]}
    return {f"{type_}s": things for type_, things in fields.items()} | {
        "players": [robot],
        "goal": goal,
        "goal_description": "Anything",
    }


def test_any_kitchens_with_any_goals_are_played_alike(installed: None) -> None:
    reached = 0
    for seed in range(60):
        env = _random_environment(random.Random(seed))
        ours, engine = load(env), upstream.load_engine()
        theirs = UpstreamProblem(ours.kitchen)
        theirs._start = upstream._freeze(engine.start(env))  # of the JSON as it is, not of our reading
        reached += "goal" in _walk(ours, theirs, 15, seed=seed)
    assert reached >= 10  # of 60, else too little would be compared


def test_of_what_is_in_the_robots_cell_it_holds_one(installed: None) -> None:
    cell = {"x": 0, "y": 0}
    bowl, onion, bread = ({"name": name, **cell, "stack-level": 0} for name in ("bowl", "onion", "bread"))
    for items, containers in (([onion, bread], [bowl]), ([bread], [bowl]), ([], [bowl, {**bowl, "name": "pot"}])):
        env = {**BUSY, "items": [*BUSY["items"], *items], "containers": [*BUSY["containers"], *containers]}
        ours, theirs = load(env), UpstreamProblem(kitchen_from_json(env))
        _walk(ours, theirs, 12, seed=3)


def test_both_engines_cook_alike(installed: None) -> None:
    ours, theirs = load(BUSY), UpstreamProblem(kitchen_from_json(BUSY))
    words = _walk(ours, theirs, 60, seed=25) | _walk(ours, theirs, 60, seed=27)
    assert words >= {"Cook", "Cut", "Fill", "Boil", "Add"}


def test_the_packages_recorded_runs_are_reproduced(installed: None, recordings) -> None:
    for env, lines in recordings.episodes("scripted"):
        problem = UpstreamProblem(kitchen_from_json(env))
        state = problem.initial_state()
        for line in lines:
            assert problem.observation(state) == line["obs"]
            assert problem.predicates(state) == line["preds"]
            if line["action"] is not None:
                state = problem.step(state, line["action"])
            assert problem.is_goal(state) == line["done"]


def test_a_goal_that_the_package_cannot_hold_is_refused() -> None:
    counts = {"burger": 3, "potato_soup": 3, "soup_and_two_sandwiches": 16128, "burgers_2": 96, "burgers_4": 4976640}
    assert {task: goal_conjunctions(make(task, "default").kitchen) for task in counts} == counts
    with pytest.raises(UserError, match=r"'burgers_4'.*4976640.*100000.*env.engine='ours'"):
        UpstreamProblem(make("burgers_4", "default").kitchen, task="burgers_4")


def test_states_are_values_and_branch(installed: None) -> None:
    problem = UpstreamProblem(kitchen_from_json(BUSY))
    start = problem.initial_state()
    cooking = problem.step(start, "Cook patty1 on stove1 using robot1")
    waited = problem.step(cooking, "Do nothing")
    assert problem.observation(cooking) == problem.observation(waited) and cooking != waited
    left = problem.step(problem.step(waited, "Do nothing"), "Do nothing")
    right = problem.step(problem.step(waited, "Do nothing"), "Move robot1 from stove1 to table1")
    for after in (left, right):
        assert "iscooked(patty1)" in problem.predicates(after) and not after.pending
    assert "iscooked(patty1)" not in problem.predicates(waited)
    assert problem.step(start, "Cook patty1 on stove1 using robot1") == cooking
    assert hash(problem.step(cooking, "Do nothing")) == hash(waited) and len({start, cooking, waited}) == 3
    assert UpstreamProblem(kitchen_from_json(BUSY)).initial_state() == start
    with pytest.raises(InvalidAction, match="not valid"):
        problem.step(start, "Fry patty1 on stove1 using robot1")


def test_effects_under_way_stay_in_their_kitchen(installed: None) -> None:
    engine = upstream.load_engine()
    first, second = (engine.start(kitchen_to_json(kitchen_from_json(BUSY))) for _ in range(2))
    actions, texts = first.get_valid_actions_and_str()
    first.step([actions[texts.index("Cook patty1 on stove1 using robot1")]])
    assert first.special_effects and not second.special_effects


def test_created_meals_belong_to_one_branch(installed: None) -> None:
    problem = UpstreamProblem(kitchen_from_json(BUSY))
    state = problem.step(problem.initial_state(), "Move robot1 from stove1 to sink1")
    state = problem.step(state, "Fill pot1 with water from sink1 using robot1")
    for _ in range(2):
        state = problem.step(state, "Do nothing")
    full = problem.step(state, "Do nothing")
    assert "iswater(water1)" in problem.predicates(full)
    again = problem.step(state, "Do nothing")
    assert again == full and problem.observation(again) == problem.observation(full)
    assert "Meal water1" not in problem.observation(state)


_PRINT_BINDINGS = """
from stgrpo import envs
problem = envs.get("robotouille", engine="upstream").make("burger", "random:7")
print(problem.observation(problem.initial_state()))
for action, bindings in problem.initial_state().live.actions.items():
    print([action.get_language_description(args) for args in bindings])
"""


def test_no_order_depends_on_the_hash_seed(installed: None) -> None:
    printed = set()
    for seed in ("1", "2", "3"):
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        command = [sys.executable, "-c", _PRINT_BINDINGS]
        printed.add(subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout)
    (text,) = printed
    assert "['Do nothing']" in text


def test_the_package_leaves_no_trace_among_the_modules(installed: None) -> None:
    upstream.load_engine()
    assert not {"utils", "domain", "backend", "environments", "pddlgym", "pygame"} & set(sys.modules)


class _Letters:
    """One token a character."""

    def encode_prompts(self, conversations):
        return [self.encode_prompt(messages) for messages in conversations]

    def encode_prompt(self, messages):
        return [ord(letter) for letter in "|".join(message["content"] for message in messages)]

    def decode(self, ids):
        return "".join(map(chr, ids))


class _Wanderer:
    """Takes any of the valid actions that the prompt shows."""

    def generate(self, prompts, group_size, params, seeds):
        tokens = []
        for prompt, seed in zip(prompts, seeds, strict=True):
            shown = "".join(map(chr, prompt)).split("\n\nValid Actions:\n")[1].split("\n\nGoal: ")[0]
            action = random.Random(seed).choice(shown.split("\n"))
            tokens.append([[*map(ord, f"Reasoning: why not\nAction: {action}")]])
        return Samples(tokens, [[[0.0] * len(t) for t in group] for group in tokens], [["stop"]] * len(prompts), 0)


def test_episodes_are_the_same_on_either_engine(installed: None) -> None:
    config = EpisodeConfig(SamplingParams(64, 1.0), PromptStyle(instructions="none", history="none"))
    played = []
    for engine in envs.engines("robotouille"):
        environment = envs.get("robotouille", engine=engine)
        layouts = [(task, layout) for task in PAPER_TASKS for layout in ("test:42", "small:3")]
        with open_sessions(environment, layouts) as sessions:
            played.append(run_episodes(sessions, _Wanderer(), _Letters(), config=config))
    assert len(played) == 2 and played[0] == played[1]
    assert any(turn.distance for episode in played[0] for turn in episode.turns)
