"""Episodes and vectors of them, against the engine and the planner used by hand."""

import json
import random

import numpy as np
import pytest

from stgrpo.envs import get
from stgrpo.envs.robotouille import make
from stgrpo.envs.robotouille.layouts.layouts import canonical_key, split_of
from stgrpo.envs.robotouille.vector import Kitchens, KitchenVector, LiveEpisode, Rules
from stgrpo.errors import UserError

FIXED = Kitchens("burger", "random:3")
ENVIRONMENT = {
    "stations": [{"name": "table", "x": 0, "y": 0}, {"name": "table", "x": 2, "y": 0}],
    "items": [{"name": "bread", "x": 2, "y": 0, "stack-level": 0, "predicates": []}],
    "players": [{"name": "robot", "x": 0, "y": 1, "direction": [0, -1]}],
    "goal": [{"predicate": "item_on", "args": ["bread", "table"], "ids": [1, "first"]}],
    "goal_description": "Put the bread on the first table",
}
ENVIRONMENT["stations"][0]["id"] = "first"


def episode(kitchens: Kitchens = FIXED, seed: int = 0, **rules) -> LiveEpisode:
    return LiveEpisode(kitchens, Rules(**rules), np.random.default_rng(seed))


def best(episode: LiveEpisode) -> str:
    return get("robotouille").planner(episode.problem).optimal_actions(episode.state)[0]


def test_a_shortest_solution_earns_one_at_its_end():
    game = episode()
    outcomes = [game.step(best(game)) for _ in range(get("robotouille").planner(game.problem).distance(game.state))]
    assert [outcome.reward for outcome in outcomes] == [0] * (len(outcomes) - 1) + [1]
    assert [outcome.terminated for outcome in outcomes] == [False] * (len(outcomes) - 1) + [True]
    assert not any(outcome.truncated or outcome.invalid for outcome in outcomes)


def test_the_distance_reward_is_the_share_of_the_way():
    game, planner = episode(reward="distance"), get("robotouille").planner(make("burger", "random:3"))
    start, rng, total, solved = planner.distance(game.state), random.Random(0), 0.0, False
    while not solved and game.steps < 200:
        before = planner.distance(game.state)
        valid = game.problem.valid_actions(game.state)
        action = rng.choice(valid) if rng.random() < 0.3 else best(game)
        reward, solved, _, _ = game.step(action)
        assert reward == pytest.approx((before - planner.distance(game.state)) / start)
        total += reward
    assert solved and total == pytest.approx(1)


def test_a_state_without_a_known_way_counts_as_far_as_the_cap(monkeypatch):
    class Lost:
        def distance(self, state):
            if state != episode().state:
                raise UserError("no way")
            return 5

    monkeypatch.setattr(Kitchens, "planner", lambda self, problem: Lost())
    game = episode(reward="distance", max_steps=20)
    assert game.step(game.problem.valid_actions(game.state)[0]).reward == pytest.approx((5 - 20) / 5)


def test_an_invalid_action_counts_as_a_step_or_ends():
    game = episode(max_steps=2)
    start = game.state
    assert game.step("Sing") == (0.0, False, False, True) and game.state == start
    assert game.step("Sing") == (0.0, False, True, True) and game.steps == 2
    assert episode(on_invalid="end").step("Sing") == (0.0, True, False, True)


def test_the_cap_is_the_tasks_unless_another_is_given():
    assert episode().max_steps == make("burger", "random:3").max_steps
    game = episode(max_steps=3)
    assert [game.step("Do nothing").truncated for _ in range(3)] == [False, False, True]


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_family_gives_other_kitchens_of_the_split_by_the_seed(split):
    kitchens = Kitchens("burger", "small", split=split)
    drawn = [kitchens.draw(np.random.default_rng(seed)) for seed in range(8)]
    assert [p.layout for p in drawn] == [kitchens.draw(np.random.default_rng(seed)).layout for seed in range(8)]
    assert len({p.layout for p in drawn}) == 8
    assert {split_of("burger", canonical_key(p.kitchen)) for p in drawn} == {split}
    assert all(0 < get("robotouille").planner(p).distance(p.initial_state()) <= p.max_steps for p in drawn)


def test_a_pool_is_the_familys_first_layouts_each_compiled_once():
    rng, kitchens = np.random.default_rng(0), Kitchens("burger", "small", pool=5)
    drawn = [kitchens.draw(rng) for _ in range(60)]
    assert {p.layout for p in drawn} == set(get("robotouille").layouts("burger", "small", split="train", count=5))
    assert len({id(p) for p in drawn}) == 5
    assert all(kitchens.planner(p) is kitchens.planner(p) for p in drawn)


def test_the_benchmarks_layouts_are_a_family_too():
    rng, kitchens = np.random.default_rng(0), Kitchens("burger", "test")
    assert {kitchens.draw(rng).layout for _ in range(200)} == {
        f"test:{seed}" for seed in (42, 84, 126, 168, 210, 252, 294, 336, 378, 420)
    }


def test_a_file_is_a_kitchen(tmp_path):
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(ENVIRONMENT))
    game = episode(Kitchens("burger", str(path)))
    assert game.problem.goal == "Put the bread on the first table" and game.distance() == 4


@pytest.mark.parametrize(
    ("make_one", "says"),
    [
        (lambda: Kitchens("pizza"), "pizza"),
        (lambda: Kitchens("pizza", "random"), "pizza"),
        (lambda: Kitchens("burgr", "random"), "did you mean 'burger'"),
        (lambda: Kitchens("burgers_2", "test"), "burgers_2: it has no benchmark layouts"),
        (lambda: Kitchens("burger", "nowhere:1"), "nowhere:1"),
        (lambda: Kitchens("burger", "nowhere.json"), "nowhere.json"),
        (lambda: Kitchens("burger", "random", split="all"), "train, validation, test"),
        (lambda: Kitchens("burger", "default", pool=3), "pool 3 of layout 'default'"),
        (lambda: Kitchens("burger", "small", pool=-1), "pool -1"),
        (lambda: Rules(reward="often"), "sparse, distance"),
        (lambda: Rules(on_invalid="shout"), "ignore, end"),
        (lambda: Rules(max_steps=-1), "-1"),
        (lambda: KitchenVector(FIXED, 0), "0 episodes"),
        (lambda: KitchenVector(FIXED, autoreset="later"), "next_step, same_step, off"),
        (lambda: KitchenVector(FIXED, 2).reset(seed=[1]), "1 seeds for 2"),
        (lambda: KitchenVector(FIXED, 2).step(["Do nothing"] * 2), "reset"),
    ],
)
def test_mistakes_are_one_line(make_one, says):
    with pytest.raises(UserError, match=says) as caught:
        make_one()
    assert "\n" not in str(caught.value)


class Singles:
    """What a vector should do, one episode at a time."""

    def __init__(self, kitchens: Kitchens, count: int, seed: int, rules: Rules):
        self.rngs = [np.random.default_rng(seed + i) for i in range(count)]
        self.start = lambda i: LiveEpisode(kitchens, rules, self.rngs[i])
        self.episodes = [self.start(i) for i in range(count)]
        self.ended = [False] * count

    def step(self, actions, autoreset):
        outcomes = []
        for i, action in enumerate(actions):
            if self.ended[i] and autoreset == "next_step":
                self.episodes[i], self.ended[i] = self.start(i), False
                outcomes.append((0.0, False, False, False))
                continue
            outcomes.append(tuple(self.episodes[i].step(action)))
            self.ended[i] = outcomes[-1][1] or outcomes[-1][2]
            if self.ended[i] and autoreset == "same_step":
                self.episodes[i], self.ended[i] = self.start(i), False
        return outcomes


@pytest.mark.parametrize("autoreset", ["next_step", "same_step", "off"])
@pytest.mark.parametrize("layout", ["random:3", "small"])
def test_a_vector_does_what_single_episodes_do(autoreset, layout):
    kitchens, rules, rng = Kitchens("burger", layout), Rules(max_steps=9), random.Random(1)
    vector, singles = KitchenVector(kitchens, 5, rules=rules, autoreset=autoreset), Singles(kitchens, 5, 7, rules)
    assert vector.reset(seed=7) == tuple(e.observation() for e in singles.episodes)
    ended = 0
    for _ in range(40):
        actions = [
            best(e) if rng.random() < 0.7 and not e.problem.is_goal(e.state) else rng.choice(("Sing", "Do nothing"))
            for e in singles.episodes
        ]
        before = list(vector.episodes)
        steps, expected = vector.step(actions), singles.step(actions, autoreset)
        given = zip(steps.rewards_N, steps.terminated_N, steps.truncated_N, steps.invalid_N, strict=True)
        assert [tuple(one) for one in given] == expected
        assert steps.observations == tuple(e.observation() for e in singles.episodes)
        over = [i for i, (_, goal, cap, _) in enumerate(expected) if goal or cap]
        assert steps.final == ({i: before[i] for i in over} if autoreset == "same_step" else {})
        ended += len(over)
        if autoreset == "off" and over:
            with pytest.raises(UserError, match=f"{over[0]}"):
                vector.step(actions)
            vector.reset(mask_N=np.isin(np.arange(5), over))
            for i in over:
                singles.episodes[i], singles.ended[i] = singles.start(i), False
    assert ended > 10


def test_without_text_nothing_is_rendered(monkeypatch):
    vector = KitchenVector(Kitchens("burger"), 3, text=False)
    problem = vector._places[0].draw(np.random.default_rng())
    monkeypatch.setattr(type(problem), "observation", lambda *_: pytest.fail("rendered"))
    assert vector.reset() is None and vector.step(["Do nothing"] * 3).observations is None


def test_a_fixed_kitchen_is_compiled_once():
    vector = KitchenVector(Kitchens("burger"), 4, autoreset="same_step", rules=Rules(max_steps=1))
    vector.reset()
    problems = {id(e.problem) for e in vector.episodes}
    vector.step(["Do nothing"] * 4)
    assert {id(e.problem) for e in vector.episodes} == problems and len(problems) == 1
