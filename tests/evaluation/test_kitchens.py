"""Whole episodes in real kitchens, through the real tokenizer, played by the expert and by a policy without a plan."""

import pytest

from stgrpo import envs
from stgrpo.data.tokenizer import Tokenizer, train_tokenizer
from stgrpo.envs.robotouille.draw.observation import read_observation
from stgrpo.envs.robotouille.kitchen.names import OBJECT_NAMES
from stgrpo.envs.sessions import ProblemSession
from stgrpo.evaluation.episodes import EpisodeConfig, run_episodes
from stgrpo.evaluation.metrics import summarise
from stgrpo.experts.planner_expert import PlannerExpert
from stgrpo.react.policy import SamplingParams
from stgrpo.react.prompt import PromptStyle
from stgrpo.react.response import format_response
from stgrpo.sampling.base import Samples

ROBOTOUILLE = envs.get("robotouille")


class Reader:
    """A policy as a function of the prompt's text; draws nothing, so that seeds may not matter."""

    def __init__(self, tokenizer, choose):
        self.tokenizer, self.choose = tokenizer, choose

    def generate(self, prompts, group_size, params, seeds):
        replies = [self.choose(self.tokenizer.decode(prompt)) for prompt in prompts]
        tokens = [[self.tokenizer.encode_response(reply)] for reply in replies]
        return Samples(tokens, [[[0.0] * len(ids) for ids in group] for group in tokens], [["stop"]] * len(prompts), 0)

    def update_weights(self, params, version):
        raise AssertionError("evaluation does not train")


@pytest.fixture(scope="module")
def problems():
    layouts = [*ROBOTOUILLE.layouts("burger", "small", split="test", count=6), "test:42", "test:420"]
    return [ROBOTOUILLE.make("burger", layout) for layout in layouts]


@pytest.fixture(scope="module")
def tokenizer(problems):
    texts = [problem.observation(problem.initial_state()) for problem in problems]
    return Tokenizer(train_tokenizer(texts, vocab_size=600, names=OBJECT_NAMES))


def play(problems, tokenizer, choose, **options):
    config = EpisodeConfig(SamplingParams(64, temperature=0.0), PromptStyle(instructions="none"), **options)
    sessions = [ProblemSession(problem, ROBOTOUILLE.planner(problem)) for problem in problems]
    return run_episodes(sessions, Reader(tokenizer, choose), tokenizer, config=config)


def test_the_expert_solves_every_kitchen_in_the_fewest_steps(problems, tokenizer):
    script = {}
    for problem in problems:
        for step in PlannerExpert(problem, ROBOTOUILLE.planner(problem)).trajectory().steps:
            script[step.observation] = format_response(step.reasoning, step.action)

    def choose(prompt):
        return next(reply for observation, reply in script.items() if observation in prompt)

    episodes = play(problems, tokenizer, choose)
    summary = summarise(episodes)
    assert (summary["sr"], summary["excess_steps"], summary["exact_rate"], summary["optimal_rate"]) == (1, 0, 1, 1)
    assert [episode.steps for episode in episodes] == [episode.optimal_steps for episode in episodes]
    for episode in episodes:
        stacks = [[thing.kind for thing in s.stack] for s in read_observation(episode.last_observation).stations]
        assert ["bottombun", "patty", "topbun"] in [stack[:3] for stack in stacks]


def test_a_policy_without_a_plan_runs_in_circles(problems, tokenizer):
    episodes = play(problems, tokenizer, lambda prompt: format_response("I wait.", "Do nothing"))
    assert {(episode.failure, episode.steps) for episode in episodes} == {("loop", 15)}
    assert not any(turn.optimal for episode in episodes for turn in episode.turns)


def test_a_limit_below_the_prompt_fails_the_episodes_and_nothing_else(problems, tokenizer):
    episodes = play(problems, tokenizer, lambda prompt: "", max_prompt_len=10)
    assert {episode.failure for episode in episodes} == {"prompt_too_long"}
