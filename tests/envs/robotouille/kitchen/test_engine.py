"""States are values: hashable, never changed, the same after pickling. Mistakes are named."""

import json
import pathlib
import pickle
import random
import re

import pytest

from stgrpo import envs
from stgrpo.envs.robotouille import load, make
from stgrpo.errors import UserError
from stgrpo.protocol import InvalidAction

COOK_AND_CUT = {
    "stations": [{"name": "stove", "x": 0, "y": 1}, {"name": "board", "x": 2, "y": 1}],
    "items": [
        {"name": "patty", "x": 0, "y": 1, "predicates": ["iscookable"]},
        {"name": "lettuce", "x": 2, "y": 1, "predicates": ["iscuttable"]},
    ],
    "players": [{"name": "robot", "x": 0, "y": 0, "direction": [0, 1]}],
    "goal_description": "Cook and cut",
    "goal": [
        {"predicate": "iscooked", "args": ["patty"], "ids": [1]},
        {"predicate": "iscut", "args": ["lettuce"], "ids": [2]},
    ],
}


def test_steps_are_pure_and_states_hashable() -> None:
    problem, rng = make("cheese_burger", "test:126"), random.Random(0)
    state, seen = problem.initial_state(), {}
    for _ in range(500):
        before = (problem.observation(state), problem.valid_actions(state), problem.predicates(state))
        seen[state] = before
        action = rng.choice(problem.valid_actions(state))
        after = problem.step(state, action)
        assert problem.step(state, action) == after
        assert (problem.observation(state), problem.valid_actions(state), problem.predicates(state)) == before
        state = after
    again = make("cheese_burger", "test:126")
    for old, (text, actions, predicates) in seen.items():
        assert (again.observation(old), again.valid_actions(old), again.predicates(old)) == (text, actions, predicates)


def test_what_is_forgotten_is_found_again(monkeypatch: pytest.MonkeyPatch) -> None:
    remembering, rng = make("onion_soup", "test:42"), random.Random(0)
    monkeypatch.setattr("stgrpo.envs.robotouille.kitchen.engine._REMEMBERED", 5)
    monkeypatch.setattr("stgrpo.envs.robotouille.kitchen.effects._REMEMBERED", 5)
    monkeypatch.setattr("stgrpo.envs.robotouille.kitchen.grounding._REMEMBERED", 5)
    forgetting = make("onion_soup", "test:42")
    start = state = forgetting.initial_state()
    for _ in range(1500):
        actions = forgetting.valid_actions(state)
        assert actions == remembering.valid_actions(state)
        action = rng.choice([a for a in actions if not a.startswith("Move")] if rng.random() < 0.5 else actions)
        after = forgetting.step(state, action)
        assert after == remembering.step(state, action)
        assert forgetting.is_goal(after) == remembering.is_goal(after)
        assert forgetting.valid_actions(start) == remembering.valid_actions(start)  # asked out of turn
        state = after
    assert len(forgetting._nodes) <= 5 and len(forgetting._effects._known) <= 5 and state.pending


def test_equal_states_are_equal_however_they_were_reached() -> None:
    problem = make("burger", "default")
    start = problem.initial_state()
    away = problem.step(start, "Move robot1 from table1 to table2")
    back = problem.step(away, "Move robot1 from table2 to table1")
    assert back == start and hash(back) == hash(start)


def test_hidden_timers_are_part_of_the_state() -> None:
    problem = load(COOK_AND_CUT)
    start = problem.initial_state()
    cooking = problem.step(start, "Cook patty1 on stove1 using robot1")
    waited = problem.step(cooking, "Do nothing")
    assert problem.observation(cooking) == problem.observation(waited)
    assert cooking != waited
    done = problem.step(problem.step(waited, "Do nothing"), "Do nothing")
    assert "iscooked(patty1)" in problem.predicates(done) and not done.pending


def test_a_pickled_problem_and_its_states_go_on() -> None:
    problem = load(COOK_AND_CUT)
    state = problem.step(problem.initial_state(), "Cook patty1 on stove1 using robot1")
    copy, same = pickle.loads(pickle.dumps((problem, state)))
    assert same == state
    assert copy.step(same, "Do nothing") == problem.step(state, "Do nothing")
    assert copy.observation(same) == problem.observation(state)


def test_structured_view() -> None:
    problem = make("cheese_burger", "default")
    state = problem.initial_state()
    assert problem.holding(state) is None
    assert problem.robot_station(state) == "table1"
    stacks = {"table1": ("bottombun1", "topbun1"), "table2": ("cheese1",), "table3": ("patty1",), "table4": ()}
    assert problem.stacks(state) == stacks
    state = problem.step(state, "Unstack topbun1 from bottombun1 using robot1")
    assert problem.holding(state) == "topbun1"
    assert problem.stacks(state)["table1"] == ("bottombun1",)


@pytest.mark.parametrize("action", ["Finish", "Do nothing.", "move robot1 from table1 to table2", ""])
def test_an_invalid_action_is_refused(action: str) -> None:
    problem = make("burger", "default")
    with pytest.raises(InvalidAction, match="not valid"):
        problem.step(problem.initial_state(), action)


@pytest.mark.parametrize(
    ("task", "layout", "named"),
    [
        ("pizza", "default", "cheese_sandwich, burger, cheese_burger, double_cheese_burger"),
        ("burgr", "default", "did you mean 'burger'"),
        ("synchronous/3_burgr", "default", "did you mean 'synchronous/3_burger'"),
        ("burger", "test:43", "42, 84"),
        ("burger", "small", "small:SEED"),
        ("burger", "small:-1", "small:SEED"),
        ("burger", "huge:1", "random:SEED"),
    ],
)
def test_unknown_names_are_user_errors(task: str, layout: str, named: str) -> None:
    with pytest.raises(UserError, match=named) as caught:
        make(task, layout)
    assert "\n" not in str(caught.value)


def test_unknown_environment() -> None:
    with pytest.raises(UserError, match="robotouille"):
        envs.get("atari")


def test_broken_environments_are_user_errors(tmp_path: pathlib.Path) -> None:
    stove, board = COOK_AND_CUT["stations"]
    patty = COOK_AND_CUT["items"][0]
    robot = COOK_AND_CUT["players"][0]

    def wanting(predicate: str, *pairs: tuple[str, object]) -> dict:
        args, ids = [kind for kind, _ in pairs], [id_ for _, id_ in pairs]
        return {"goal": [{"predicate": predicate, "args": args, "ids": ids}]}

    broken = [
        ("2 players, but exactly 1", {"players": [robot, robot]}),
        ("0 players, but exactly 1", {"players": []}),
        ("'direction' is missing", {"players": [{"name": "robot", "x": 0, "y": 0}]}),
        ("malformed", {"players": [{**robot, "direction": [1]}]}),
        ("direction of 'robot' must be two whole numbers", {"players": [{**robot, "direction": ["up", 0]}]}),
        ("'oven' at (0, 1) is no station; did you mean 'stove'", {"stations": [{**stove, "name": "oven"}]}),
        ("'stov' at (0, 1) is no station; did you mean 'stove'", {"stations": [{**stove, "name": "stov"}]}),
        ("2 stations at (0, 1); leave one", {"stations": [stove, {**board, "x": 0}]}),
        ("no station is; turn or move it", {"stations": [board]}),
        ("'x' is missing", {"items": [{"name": "patty", "y": 1}]}),
        ("x, y and stack-level of 'patty' must be whole numbers", {"items": [{**patty, "x": "left"}]}),
        (
            "unknown predicate 'iscookabel'; did you mean 'iscookable'",
            {"items": [{**patty, "predicates": ["iscookabel"]}]},
        ),
        ("unknown predicate 'isstove'", {"items": [{**patty, "predicates": ["isstove"]}]}),
        ("malformed", {"items": ["patty"]}),
        ("goal: unknown predicate 'iscoked'; did you mean 'iscooked'", wanting("iscoked", ("patty", 1))),
        ("goal: unknown kind 'pizza' in iscooked", wanting("iscooked", ("pizza", 1))),
        ("atop has 1 args and 1 ids; give 2 of each (item, item)", wanting("atop", ("patty", 1))),
        ("goal: 0 things have the id 'a'; give it to exactly one item", wanting("iscooked", ("patty", "a"))),
        (
            "goal: 2 things have the id 'a'",
            {"items": [{**patty, "id": "a"}] * 2, **wanting("iscooked", ("patty", "a"))},
        ),
        ("goal_description 7 is no text", {"goal_description": 7}),
    ]
    for says, change in broken:
        with pytest.raises(UserError, match=re.escape(says)) as caught:
            load({**COOK_AND_CUT, **change})
        assert "\n" not in str(caught.value)
    for field in ("players", "goal", "goal_description"):
        with pytest.raises(UserError, match=f"'{field}' is missing"):
            load({key: value for key, value in COOK_AND_CUT.items() if key != field})
    path = tmp_path / "env.json"
    for content in (None, b"{", b"[1]", b"\xff"):
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(UserError, match="env.json"):
            load(path)
    path.write_text(json.dumps(COOK_AND_CUT))
    assert load(path).goal == "Cook and cut"
