"""Advantages of turns by hand, and against grids that are enumerated whole."""

import dataclasses
import itertools

import numpy as np
import pytest
from crossing import Crossing

from stgrpo.config import base
from stgrpo.config.training import GRPO
from stgrpo.rl.advantages import ADVANTAGES, Credit, Turns, exact_advantages, step_advantages, true_advantages

# Three episodes from state 0: 0 -> 1 -> goal; 0 -> 2 -> 0 -> 1 -> goal; 0 -> 2 and an answer that cannot be used.
TURNS = Turns(
    reward_E=np.array([1.0, 1.0, 0.0]),
    episode_U=np.array([0, 0, 1, 1, 1, 1, 2, 2]),
    later_U=np.array([1, 0, 3, 2, 1, 0, 1, 0]),
    state_U=np.array([0, 1, 0, 2, 0, 1, 0, 2]),
    before_U=np.array([2, 1, 2, 3, 2, 1, 2, 3]),
    after_U=np.array([1, 0, 3, 2, 1, 0, 3, 8]),
    lost=8,
)
PLAIN = Credit(scale_by_std=False, gamma=0.5, step_weight=2.0)


def test_every_turn_has_the_advantage_of_its_episode():
    found = ADVANTAGES["episode"](TURNS, PLAIN)
    np.testing.assert_allclose(found, [1 / 3] * 6 + [-2 / 3] * 2)
    scaled = ADVANTAGES["episode"](TURNS, Credit())
    np.testing.assert_allclose(scaled, found / (np.std([1, 1, 0]) + 1e-6))
    others = ADVANTAGES["episode"](TURNS, dataclasses.replace(PLAIN, baseline="leave_one_out"))
    np.testing.assert_allclose(others, [0.5] * 6 + [-1.0] * 2)


def test_turns_in_equal_states_are_compared_by_their_discounted_returns():
    """State 0: returns 1/2, 1/8, 1/2, 0; state 1: 1, 1; state 2: 1/4, 0."""
    found = step_advantages(TURNS, PLAIN) - ADVANTAGES["episode"](TURNS, PLAIN)
    mean = (0.5 + 0.125 + 0.5) / 4
    returns = np.array([0.5 - mean, 0, 0.125 - mean, 0.125, 0.5 - mean, 0, -mean, -0.125])
    np.testing.assert_allclose(found, 2.0 * returns)
    scaled = step_advantages(TURNS, dataclasses.replace(PLAIN, scale_by_std=True))
    np.testing.assert_allclose(scaled[[3, 7]], [1 / np.sqrt(2) + 2, -np.sqrt(2) - 2], rtol=1e-4)


@pytest.mark.parametrize("baseline", ["group_mean", "leave_one_out"])
def test_a_state_that_was_met_once_adds_nothing(baseline):
    apart = dataclasses.replace(TURNS, state_U=np.arange(8))
    credit = dataclasses.replace(PLAIN, baseline=baseline)
    np.testing.assert_array_equal(step_advantages(apart, credit), ADVANTAGES["episode"](apart, credit))


def test_true_advantages_are_what_an_action_loses():
    found = true_advantages(TURNS)
    np.testing.assert_array_equal(found, [0, 0, -2, 0, 0, 0, -2, 3 - 1 - 8])
    np.testing.assert_allclose(exact_advantages(TURNS, PLAIN), found - found.mean())
    lost = dataclasses.replace(TURNS, before_U=np.full(8, 8), after_U=np.full(8, 8))
    assert not true_advantages(lost).any() and not exact_advantages(lost, Credit()).any()
    with pytest.raises(ValueError, match="distances"):
        true_advantages(dataclasses.replace(TURNS, before_U=None))


def test_they_are_those_of_value_iteration_wherever_an_action_leads():
    """Q*(s, a) - V*(s) of every state and action of a grid, by Bellman's equation and no planner."""
    problem = Crossing("grid:3x4")
    states = list(itertools.product(range(3), range(4)))
    value = dict.fromkeys(states, 0.0)
    for _ in states:
        value = {
            s: 0.0 if problem.is_goal(s) else max(value[problem.step(s, a)] for a in problem.valid_actions(s)) - 1
            for s in states
        }
    taken = [(s, problem.step(s, a)) for s in states if not problem.is_goal(s) for a in problem.valid_actions(s)]
    before, after = (np.array([problem.distance(s) for s in each]) for each in zip(*taken, strict=True))
    none = np.zeros(len(taken), int)
    turns = Turns(np.zeros(1), none, none, none, before, after, lost=100)
    np.testing.assert_array_equal(true_advantages(turns), [value[new] - 1 - value[s] for s, new in taken])


def test_what_no_reward_tells_apart_has_no_advantage():
    alike = dataclasses.replace(TURNS, reward_E=np.ones(3))
    assert not ADVANTAGES["episode"](alike, Credit()).any()
    assert step_advantages(alike, Credit()).any()  # some came to the goal sooner


def test_the_config_knows_them_all():
    choices = GRPO.fields["advantages"].choices
    assert set(choices) == {"response", *ADVANTAGES}
    assert base().grpo.advantages == "response"
