"""Rollouts of whole episodes: who plays them, what they earn, and that turns become what an update takes."""

import random
from types import SimpleNamespace

import numpy as np
import pytest
from crossing import Crossing, Grids

from stgrpo.config import base
from stgrpo.errors import UserError
from stgrpo.plan.checks import validate
from stgrpo.protocol import Planner
from stgrpo.rl import episodes
from stgrpo.rl.episodes import EpisodeRollouts, distance_of, training_layouts
from stgrpo.rl.group_batch import group_batch, rollout_metrics
from stgrpo.rl.update import minibatches
from stgrpo.sampling.base import Samples
from stgrpo.training.batch_packer import filled_up
from stgrpo.training.packing import pack


class Crossings(Grids):
    """Grids, with a planner each; how often it was asked is counted."""

    asked = 0

    def layouts(self, task, family, *, split, count, seed=0):
        assert split == "train", "never what is tested on"
        return ["grid:3x2", "grid:2x3", "grid:1x4"][:count]

    def make(self, task, layout):
        return Crossing(layout)

    def planner(self, problem) -> Planner:
        def distance(state):
            self.asked += 1
            return problem.distance(state)

        return SimpleNamespace(distance=distance, optimal_actions=problem.optimal_actions)


class Letters:
    """One token a character."""

    def encode_prompts(self, conversations):
        return [[ord(letter) for letter in messages[-1]["content"]] for messages in conversations]

    def decode(self, ids):
        return "".join(map(chr, ids))


class Walker:
    """Mostly goes to where the goal is, by prompt and seed; one answer in eight cannot be used."""

    def __init__(self):
        self.calls = []

    def generate(self, prompts, group_size, params, seeds):
        assert group_size == 1 and params.temperature == 1.0
        self.calls.append(len(prompts))
        texts = [self._say("".join(map(chr, prompt)), seed) for prompt, seed in zip(prompts, seeds, strict=True)]
        tokens = [[list(map(ord, text))] for text in texts]
        logprobs = [[[-float(ord(letter)) for letter in text]] for text in texts]
        return Samples(tokens, logprobs, [["stop"]] * len(prompts), 7)

    def _say(self, prompt, seed):
        layout, _, at = prompt.partition(" at ")
        problem, state, rng = Crossing(layout), tuple(map(int, at.split(","))), random.Random(seed)
        actions = [*problem.valid_actions(state), *problem.optimal_actions(state) * 3]
        return "hm" if rng.random() < 0.125 else f"Reasoning: so\nAction: {rng.choice(actions)}"


class Dealt(Walker):
    """Deals items out as several processes do."""

    def each(self, items, work):
        parts = [work(self, items[i::2]) for i in range(2)]
        return [parts[i % 2][i // 2] for i in range(len(items))]


def config_of(advantages="step", **changes):
    config = base()
    config.env.tasks, config.expert.trajectories, config.prompt.instructions = ("cross",), 3, "none"
    config.grpo.advantages, config.grpo.prompts, config.grpo.group_size = advantages, 3, 4
    for name, value in changes.items():
        config.grpo[name] = value
    return config


@pytest.fixture
def environment(monkeypatch):
    found = Crossings()
    monkeypatch.setattr(episodes, "environment_of", lambda config: found)
    return found


def drawn(config, sampler=None, position=0):
    setting = SimpleNamespace(config=config, tokenizer=Letters())
    return EpisodeRollouts(setting, training_layouts(config), sampler or Walker()).draw(position)


def test_a_turn_is_a_response_to_what_it_was_asked(environment):
    rollout = drawn(config_of())
    assert rollout.position == 3 and rollout.groups == rollout.drawn and environment.asked == 0
    assert {g.example.layout for g in rollout.groups} == {"grid:3x2", "grid:2x3", "grid:1x4"}
    prompts = [(g.example.layout, g.example.prompt_ids) for g in rollout.groups]
    assert all(len(g.tokens) <= 4 for g in rollout.groups)
    first = [g for g in rollout.groups if g.example.index == 0]
    assert [len(g.tokens) for g in first[:1]] == [4]  # all four episodes of a layout begin with one prompt
    for group in rollout.groups:
        assert "".join(map(chr, group.example.prompt_ids)).startswith(group.example.layout)
        assert group.version == 7 and len(group.advantages) == len(group.tokens)
        for text, tokens, logprobs in zip(group.texts, group.tokens, group.logprobs, strict=True):
            assert text == "".join(map(chr, tokens)) and logprobs == tuple(-float(t) for t in tokens)
    figures = rollout.figures
    assert figures["turns"] == sum(len(g.tokens) for g in rollout.groups)
    assert figures["episode_turns"] == figures["turns"] / 12
    assert figures["turns_a_prompt"] == pytest.approx(figures["turns"] / len(prompts))


def test_the_reward_is_for_the_goal_and_for_answers_that_can_be_used(environment):
    rollout = drawn(config_of(advantages="episode", scale_by_std=False))
    values = {reward.total for group in rollout.groups for reward in group.rewards}
    assert values <= {0.0, 0.1, 1.0} and 0.0 in values and 1.0 in values
    for group in rollout.groups:
        for reward, text in zip(group.rewards, group.texts, strict=True):
            assert text != "hm" or reward.total == 0.0
    by_layout = {}
    for group in rollout.groups:
        pairs = zip(group.advantages, group.rewards, strict=True)
        by_layout.setdefault(group.example.layout, set()).update((a, r.total) for a, r in pairs)
    for pairs in by_layout.values():  # an advantage is a reward less one number a layout
        assert len({round(reward - advantage, 9) for advantage, reward in pairs}) == 1


def test_only_the_exact_ones_ask_the_planner_and_only_once_a_state(environment):
    rollout = drawn(config_of(advantages="exact"))
    states = {(g.example.layout, g.example.prompt_ids) for g in rollout.groups}
    assert len(states) <= environment.asked <= len(states) + 3  # and the three goals
    assert rollout.figures["turns_zero_advantage"] < 0.5


def test_no_way_and_no_proof_count_as_lost():
    def distance(state):
        if state == "dead":
            raise UserError("no plan")
        return {"near": 2, "far": 50}[state]

    found = distance_of(SimpleNamespace(distance=distance), 9)
    assert [found(state) for state in ("near", "far", "dead")] == [2, 9, 9]


@pytest.mark.parametrize("resample", [0, 3])
def test_a_rollout_follows_from_position_and_policy_alone(environment, resample):
    """However it is dealt out to processes; what has no signal is drawn again."""
    config = config_of(advantages="episode", resample=resample)
    alone, dealt = drawn(config, position=3), drawn(config, Dealt(), position=3)
    assert alone.groups == dealt.groups and alone.figures == dealt.figures and alone.position == dealt.position
    assert drawn(config, position=6).groups != alone.groups


def test_turns_become_a_batch_whose_weights_are_shares(environment):
    config = config_of(minibatches=2)
    rollout = drawn(config)
    batch = group_batch(rollout.groups, aggregation="token_mean", scale_by_std=True, limit=64)
    turns = sum(len(g.tokens) for g in rollout.groups)
    assert batch.response_BGR.shape[1] == 4 and (batch.mask_BGR.sum(-1) > 0).sum() == turns
    np.testing.assert_allclose(batch.weight_BGR.sum(), 1.0, rtol=1e-5)
    assert rollout_metrics(rollout.drawn, batch).keys() >= {"reward", "action_right", "response_length"}
    for b, group in enumerate(rollout.groups):
        count = len(group.tokens)
        np.testing.assert_allclose(batch.adv_BG[b, :count], group.advantages, rtol=1e-6)
        assert not batch.adv_BG[b, count:].any() and not batch.mask_BGR[b, count:].any()
        assert not batch.sampler_logp_BGR[b, count:].any()
    config.limits.response = 64
    rows = pack(batch, 256)
    wide, more = filled_up(batch, len(rollout.groups) + 3), filled_up(rows, len(rows.token_XS) + 2)
    assert more.tokens == rows.tokens and len(more.token_XS) == len(rows.token_XS) + 2
    np.testing.assert_allclose(more.terms.weight.sum(), 1.0, rtol=1e-5)
    assert (wide.prompt_len_B[-3:] == 1).all() and wide.mask_BGR.sum() == batch.mask_BGR.sum()
    for part in minibatches(config, wide):
        np.testing.assert_allclose(part.weight_BGR.sum(), 1.0, rtol=1e-5)


def test_prompts_that_are_all_too_long_are_said(environment):
    config = config_of()
    config.limits.prompt = 4
    with pytest.raises(UserError, match="limits.prompt=4 is under the first prompt of every episode"):
        drawn(config)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"grpo.advantages": "episode", "grpo.baseline": "critic"}, "is for grpo.advantages='response'"),
        ({"grpo.advantages": "episode", "reward.overlong_buffer": 8}, "is for single responses"),
        ({"grpo.advantages": "exact", "env.failure": 0.1}, "actions that do not fail, use 0"),
        ({"episodes.gamma": 0.5}, "episodes.gamma=0.5 is for grpo.advantages='step'"),
        ({"grpo.advantages": "exact", "episodes.step_weight": 2.0}, "is for grpo.advantages='step'"),
        ({"episodes.layouts": 5}, "episodes.layouts=5 is for grpo.advantages='episode'"),
    ],
)
def test_what_does_not_go_with_episodes_is_said_in_one_line(changes, says):
    config = base()
    for name, value in changes.items():
        section, leaf = name.split(".")
        config[section][leaf] = value
    errors = validate(config)
    assert any(says in error for error in errors), errors


def test_a_plan_knows_no_length_of_episodes():
    config = base()
    config.grpo.advantages = "step"
    assert validate(config) == []
    (error,) = validate(config, only_planned=True)
    assert "plan with 'response'" in error
