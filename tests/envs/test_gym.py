"""Any environment behind gymnasium, ALFWorld and WebShop by names of their own: gymnasium's checker, our problems."""

import random
import warnings

import numpy as np
import pytest

gymnasium = pytest.importorskip("gymnasium")

from gymnasium.utils.env_checker import check_env  # noqa: E402
from gymnasium.vector import SyncVectorEnv  # noqa: E402

from stgrpo.envs import get  # noqa: E402
from stgrpo.errors import UserError  # noqa: E402

ALFWORLD, WEBSHOP = "stgrpo.envs.alfworld.gym:stgrpo/ALFWorld-v0", "stgrpo.envs.webshop.gym:stgrpo/WebShop-v0"
ANY = "stgrpo.envs.gym:stgrpo/Environment-v0"
PURCHASE = "click[Buy Now]"


@pytest.mark.parametrize(
    ("env_id", "settings"),
    [
        (ALFWORLD, {"layout": "small", "distance": True}),
        (ALFWORLD, {"layout": "made:3", "reward": "distance", "render_mode": "ansi"}),
        (WEBSHOP, {}),
        (WEBSHOP, {"layout": "made", "reward": "score", "split": "test", "pool": 2}),
        (ANY, {"environment": "webshop", "on_invalid": "end"}),
    ],
)
def test_gymnasiums_checker_has_nothing_to_say(env_id: str, settings: dict) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(gymnasium.make(env_id, **settings).unwrapped, skip_render_check=True)


@pytest.mark.parametrize(
    ("env_id", "name", "layout"), [(ALFWORLD, "alfworld", "small:3"), (WEBSHOP, "webshop", "made:5")]
)
def test_an_episode_is_the_problems(env_id: str, name: str, layout: str) -> None:
    environment = get(name)
    task = environment.tasks()[0]
    env = gymnasium.make(env_id, layout=layout, distance=True, render_mode="ansi")
    problem = environment.make(task, layout)
    planner, state = environment.planner(problem), problem.initial_state()
    observation, info = env.reset(seed=1)
    for _ in range(planner.distance(state)):
        assert observation == problem.observation(state) == env.render() and observation in env.observation_space
        assert info["valid_actions"] == problem.valid_actions(state) and info["distance"] == planner.distance(state)
        assert all(action in env.action_space for action in info["valid_actions"])
        action = planner.optimal_actions(state)[0]
        state = problem.step(state, action)
        observation, reward, terminated, truncated, info = env.step(action)
        assert (reward, terminated, truncated) == (float(problem.is_goal(state)), problem.is_goal(state), False)
    assert terminated and info["distance"] == 0


@pytest.mark.parametrize("reward", ["sparse", "score"])
def test_a_purchase_ends_an_episode_whatever_was_bought(reward: str) -> None:
    scores = set()
    for number in range(12):
        env = gymnasium.make(WEBSHOP, layout=f"made:{number}", reward=reward, max_steps=50)
        _, info = env.reset()
        earned, terminated = [], False
        while not terminated:
            valid = info["valid_actions"]
            bought = next((action for action in valid if action.lower() == PURCHASE.lower()), None)
            _, last, terminated, truncated, info = env.step(bought or valid[-1])
            earned.append(last)
            assert not truncated
        live = env.unwrapped.episode
        score = live.problem.score(live.state)
        assert earned[:-1] == [0.0] * (len(earned) - 1)
        assert earned[-1] == (score if reward == "score" else float(score == 1))
        scores.add(score)
    assert any(0 < score < 1 for score in scores)


def test_the_vector_is_gymnasiums_own() -> None:
    from stgrpo.envs.webshop.gym import WebshopEnv

    settings, draw = {"layout": "made", "pool": 4, "reward": "score"}, random.Random(5)
    ours = gymnasium.make_vec(WEBSHOP, num_envs=3, **settings)
    theirs = SyncVectorEnv([lambda: WebshopEnv(**settings) for _ in range(3)])
    (texts, infos), (their_texts, _) = ours.reset(seed=2), theirs.reset(seed=2)
    assert texts == their_texts
    for _ in range(20):
        actions = tuple(draw.choice(valid or ("none",)) for valid in infos["valid_actions"])
        texts, *arrays, infos = ours.step(actions)
        their_texts, *their_arrays, _ = theirs.step(actions)
        assert texts == their_texts and all(map(np.array_equal, arrays, their_arrays))


@pytest.mark.parametrize(
    ("env_id", "settings", "said"),
    [
        (ANY, {}, "environment '': unknown"),
        (ANY, {"environment": "webshp"}, "did you mean 'webshop'?"),
        (ALFWORLD, {"layout": "vast"}, "layout 'vast': unknown"),
        (WEBSHOP, {"reward": "money"}, "reward 'money': unknown; use one of sparse, distance, score"),
    ],
)
def test_a_mistake_is_told(env_id: str, settings: dict, said: str) -> None:
    with pytest.raises(UserError, match=said):
        gymnasium.make(env_id, disable_env_checker=True, **settings)
