"""The gymnasium environments, against gymnasium's own checker and its own vector of single ones."""

import random
import subprocess
import sys
import warnings
import xml.etree.ElementTree as ET

import numpy as np
import pytest

gymnasium = pytest.importorskip("gymnasium")

from gymnasium.utils.env_checker import check_env  # noqa: E402
from gymnasium.vector import AutoresetMode, SyncVectorEnv  # noqa: E402

from stgrpo.envs import get  # noqa: E402
from stgrpo.envs.robotouille import make  # noqa: E402
from stgrpo.envs.robotouille.gym import ID, RobotouilleEnv  # noqa: E402
from stgrpo.envs.robotouille.vector import Kitchens  # noqa: E402
from stgrpo.errors import UserError  # noqa: E402


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"layout": "small"},
        {"layout": "small", "pool": 3, "split": "test"},
        {"layout": "test", "on_invalid": "end"},
        {"task": "cheese_burger", "layout": "random:3", "reward": "distance", "distance": True},
        {"layout": "random:3", "render_mode": "svg"},
    ],
)
def test_gymnasiums_checker_has_nothing_to_say(settings):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(gymnasium.make(ID, **settings).unwrapped)


def test_the_id_alone_is_enough_and_the_package_does_not_need_gymnasium():
    env_id = f"stgrpo.envs.robotouille.gym:{ID}"
    make_it = f"import gymnasium; print(gymnasium.make('{env_id}', task='burger', layout='random:3').reset()[0])"
    made = subprocess.run([sys.executable, "-c", make_it], capture_output=True, text=True, check=True)
    problem = make("burger", "random:3")
    assert made.stdout == problem.observation(problem.initial_state()) + "\n"
    free = "import sys, stgrpo.envs.robotouille.vector, stgrpo.cli; assert 'gymnasium' not in sys.modules"
    subprocess.run([sys.executable, "-c", free], check=True)


def test_an_episode_is_the_problems():
    env = gymnasium.make(ID, task="cheese_burger", layout="random:5", distance=True)
    problem = make("cheese_burger", "random:5")
    planner, state = get("robotouille").planner(problem), problem.initial_state()
    observation, info = env.reset(seed=1)
    for step in range(planner.distance(state)):
        assert observation == problem.observation(state) and observation in env.observation_space
        assert info["valid_actions"] == problem.valid_actions(state) and info["steps"] == step
        assert info["distance"] == planner.distance(state) and info["layout"] == "random:5"
        assert all(action in env.action_space for action in info["valid_actions"])
        action = planner.optimal_actions(state)[-1]
        state = problem.step(state, action)
        observation, reward, terminated, truncated, info = env.step(action)
        assert (reward, terminated, truncated) == (float(problem.is_goal(state)), problem.is_goal(state), False)
    assert terminated and info["distance"] == 0


def test_an_invalid_action_does_nothing_and_is_told():
    env = gymnasium.make(ID, max_steps=2)
    before, _ = env.reset()
    after, reward, terminated, truncated, info = env.step("Dance")
    assert (after, reward, terminated, truncated, info["invalid"]) == (before, 0.0, False, False, True)
    assert env.step("Do nothing")[3]


def test_reset_draws_by_the_seed():
    env = gymnasium.make(ID, layout="small").unwrapped
    layouts = [env.reset(seed=seed)[1]["layout"] for seed in (1, 2, 1)]
    assert layouts[0] == layouts[2] != layouts[1]
    assert env.reset()[1]["layout"] != layouts[0]


def test_an_unknown_distance_is_minus_one(monkeypatch):
    def refuse(self, problem):
        raise UserError("no planner")

    monkeypatch.setattr(Kitchens, "planner", refuse)
    assert RobotouilleEnv(distance=True).reset()[1]["distance"] == -1
    with pytest.raises(UserError, match="no planner"):
        RobotouilleEnv(reward="distance").reset()


def test_rendering():
    lines = gymnasium.make(ID, render_mode="ansi")
    lines.reset()
    assert lines.render().splitlines()[0].split() == [">", "table1", "bottombun1"]
    picture = gymnasium.make(ID, render_mode="svg")
    picture.reset()
    assert {"table1", "patty1"} <= {text.text for text in ET.fromstring(picture.render()).iter() if text.text}
    assert RobotouilleEnv().render() is None
    with pytest.raises(UserError, match="ansi, svg"):
        RobotouilleEnv(render_mode="film")


def same(ours: dict, theirs: dict) -> bool:
    return ours.keys() == theirs.keys() and all(
        same(ours[key], theirs[key]) if isinstance(ours[key], dict) else list(ours[key]) == list(theirs[key])
        for key in ours
    )


@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_the_vector_is_gymnasiums_own(mode):
    settings, rng, seed = {"task": "burger", "layout": "small", "max_steps": 6, "distance": True}, random.Random(3), 11
    ours = gymnasium.make_vec(ID, num_envs=4, autoreset_mode=mode, **settings)
    theirs = SyncVectorEnv([lambda: RobotouilleEnv(**settings) for _ in range(4)], autoreset_mode=mode)
    assert ours.action_space == theirs.action_space and ours.observation_space == theirs.observation_space
    assert ours.metadata["autoreset_mode"] is mode
    (texts, infos), (their_texts, their_infos) = ours.reset(seed=seed), theirs.reset(seed=seed)
    assert texts == their_texts and same(infos, their_infos)
    for _ in range(25):
        actions = tuple(rng.choice((*valid, "Sing")) for valid in infos["valid_actions"])
        texts, *arrays, infos = ours.step(actions)
        their_texts, *their_arrays, their_infos = theirs.step(actions)
        assert texts == their_texts and same(infos, their_infos)
        for array, theirs_too in zip(arrays, their_arrays, strict=True):
            assert array.dtype == theirs_too.dtype and np.array_equal(array, theirs_too)
        ended = arrays[1] | arrays[2]
        if mode is AutoresetMode.DISABLED and ended.any():
            ours.reset(options={"reset_mask": ended})
            theirs.reset(options={"reset_mask": ended.copy()})
            infos["valid_actions"] = [e.problem.valid_actions(e.state) for e in ours.episodes]
    ours.close()
