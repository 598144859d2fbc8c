"""Whole episodes against a corridor small enough to follow by hand and a sampler that answers from a script."""

import dataclasses

import pytest

from stgrpo.envs.sessions import ProblemSession
from stgrpo.errors import UserError
from stgrpo.evaluation.episodes import EpisodeConfig, EpisodeProgress, run_episodes
from stgrpo.evaluation.metrics import summarise
from stgrpo.react.policy import SamplingParams
from stgrpo.react.prompt import PromptStyle
from stgrpo.sampling.base import Samples

GREEDY = SamplingParams(max_tokens=32, temperature=0.0)
WARM = SamplingParams(max_tokens=32, temperature=1.0)
BARE = PromptStyle(instructions="none", history="none")


@dataclasses.dataclass(frozen=True)
class Corridor:
    """Stand at `start`, reach place 3; "Jump" goes back to the start."""

    layout: str = "c"
    start: int = 0
    max_steps: int = 6
    task: str = "corridor"
    goal: str = "Stand at 3"

    def initial_state(self):
        return self.start

    def observation(self, state):
        return f"at {state} of {self.layout}"

    def valid_actions(self, state):
        return ("Right", "Left", "Jump")

    def step(self, state, action):
        return {"Right": state + 1, "Left": state - 1, "Jump": self.start}[action]

    def is_goal(self, state):
        return state == 3


class CorridorPlanner:
    def distance(self, state):
        return abs(3 - state)

    def optimal_actions(self, state):
        return ("Right",) if state < 3 else ("Left",)


class Letters:
    """One token a character."""

    def encode_prompts(self, conversations):
        return [self.encode_prompt(messages) for messages in conversations]

    def encode_prompt(self, messages):
        return [ord(letter) for letter in "|".join(message["content"] for message in messages)]

    def decode(self, ids):
        return "".join(map(chr, ids))


class Script:
    """Answers with `reply(prompt text, seed)`, and remembers what it was asked."""

    def __init__(self, reply):
        self.reply, self.calls = reply, []

    def generate(self, prompts, group_size, params, seeds):
        assert group_size == 1 and len(prompts) == len(seeds)
        texts = ["".join(map(chr, prompt)) for prompt in prompts]
        self.calls.append(texts)
        replies = [self.reply(text, seed) for text, seed in zip(texts, seeds, strict=True)]
        tokens = [[list(map(ord, reply))] for reply in replies]
        return Samples(tokens, [[[0.0] * len(t) for t in group] for group in tokens], [["stop"]] * len(prompts), 0)

    def update_weights(self, params, version):
        raise AssertionError("evaluation does not train")


def say(action):
    return f"Reasoning: because\nAction: {action}"


def play(reply, problems=(Corridor(),), *, planners=True, params=GREEDY, progress=None, **options):
    script = Script(reply)
    sessions = [ProblemSession(problem, CorridorPlanner() if planners else None) for problem in problems]
    config = EpisodeConfig(params=params, style=options.pop("style", BARE), **options)
    return run_episodes(sessions, script, Letters(), config=config, progress=progress), script


def test_success_is_recorded_step_by_step():
    (episode,), _ = play(lambda text, seed: say("Right"))
    assert (episode.success, episode.steps, episode.failure, episode.optimal_steps) == (True, 3, "", 3)
    assert [turn.distance for turn in episode.turns] == [3, 2, 1]
    assert all(turn.exact and turn.optimal and turn.expert == "Right" for turn in episode.turns)
    assert episode.turns[1].observation == "at 1 of c" and episode.turns[1].step == 1
    assert episode.last_observation == "at 3 of c"


@pytest.mark.parametrize(
    "answer, failure", [("Right", "format"), (say("Fly"), "invalid"), (say("Finish"), "finish"), ("", "format")]
)
def test_an_unusable_response_ends_the_episode_and_costs_the_cap(answer, failure):
    (episode,), script = play(lambda text, seed: answer)
    assert (episode.success, episode.steps, episode.failure, episode.counted_steps) == (False, 0, failure, 6)
    assert len(script.calls) == 1 and not episode.turns[0].exact and not episode.turns[0].optimal


def test_retry_shows_the_benchmarks_feedback_and_does_not_step():
    def reply(text, seed):
        return say("Right") if "'Fly' is not valid" in text else say("Fly")

    (episode,), _ = play(reply, on_invalid="retry")
    assert (episode.success, episode.steps) == (True, 3)
    assert [(turn.step, turn.attempt, turn.failure) for turn in episode.turns[:3]] == [
        (0, 0, "invalid"), (0, 1, ""), (1, 0, "invalid")
    ]  # fmt: skip


def test_three_exhausted_decisions_end_the_episode():
    (episode,), script = play(lambda text, seed: "hm", on_invalid="retry", params=WARM)
    assert (episode.failure, len(episode.turns), episode.steps) == ("format", 15, 0)
    assert [turn.attempt for turn in episode.turns] == [0, 1, 2, 3, 4] * 3
    assert "Error Feedback" not in script.calls[5][0] and "Error Feedback" in script.calls[6][0]


def test_finish_is_not_tried_again():
    (episode,), _ = play(lambda text, seed: say("Finish"), on_invalid="retry")
    assert (episode.failure, len(episode.turns)) == ("finish", 1)


def test_at_the_cap_a_circle_is_a_loop_and_a_walk_is_a_timeout():
    episodes, _ = play(lambda text, seed: say("Right" if "at 0" in text else "Left"))
    assert (episodes[0].failure, episodes[0].steps) == ("loop", 6)
    episodes, _ = play(lambda text, seed: say("Left"))
    assert episodes[0].failure == "timeout"


def test_greedy_circles_are_sampled_once():
    problems = [Corridor(), Corridor(layout="c"), Corridor(layout="d")]
    episodes, script = play(lambda text, seed: say("Right" if "at 0" in text else "Left"), problems)
    assert [len(call) for call in script.calls] == [2, 2]
    assert [len(episode.turns) for episode in episodes] == [6, 6, 6]


def test_what_is_no_longer_remembered_is_answered_again_and_the_same(monkeypatch):
    problems = [Corridor(layout=name) for name in "cde"]
    reply = lambda text, seed: say("Right" if "at 0" in text else "Left")  # noqa: E731
    remembered, _ = play(reply, problems)
    monkeypatch.setattr("stgrpo.sampling.policy.REMEMBERED", 2)
    forgotten, script = play(reply, problems)
    assert forgotten == remembered
    assert len(script.calls) == 6  # in each turn of the circle


def test_sampling_does_not_depend_on_the_company():
    def reply(text, seed):
        return say(("Right", "Left", "Jump")[seed % 3])

    problems = [Corridor(layout=str(i)) for i in range(8)]
    together, _ = play(reply, problems, params=WARM)
    alone = [play(reply, [problem], params=WARM)[0][0] for problem in problems]
    backwards, _ = play(reply, problems[::-1], params=WARM)
    assert together == alone == backwards[::-1]
    assert len({tuple(turn.action for turn in episode.turns) for episode in together}) > 4
    assert play(reply, problems, params=WARM, seed=1)[0] != together


def test_seeds_differ_between_repeats_of_a_kitchen_steps_and_tries():
    seeds = []

    def reply(text, seed):
        seeds.append(seed)
        return say("Left" if len(seeds) < 9 else "Fly")

    play(reply, [Corridor(), Corridor()], params=WARM, on_invalid="retry")
    assert len(set(seeds)) == len(seeds) and all(0 <= seed < 2**32 for seed in seeds)


def test_history_is_what_the_style_asks_for():
    style = PromptStyle(instructions="none", history="last_reasoning_action")
    _, script = play(lambda text, seed: say("Right"), style=style)
    assert script.calls[0][0] == "at 0 of c"
    assert script.calls[1][0].endswith("Previous Reasoning: because\n\nPrevious Action: Right|at 1 of c")


def test_a_prompt_that_is_too_long_fails_its_own_episode_only():
    problems = [Corridor(), Corridor(layout="a name far too long")]
    episodes, _ = play(lambda text, seed: say("Right"), problems, max_prompt_len=12)
    assert [episode.failure for episode in episodes] == ["", "prompt_too_long"]
    assert episodes[1].turns == () and episodes[1].counted_steps == 6


def test_without_planners_nothing_is_judged():
    (episode,), _ = play(lambda text, seed: say("Right"), planners=False)
    turn = episode.turns[0]
    assert (episode.optimal_steps, turn.exact, turn.optimal, turn.expert, turn.distance) == (None,) * 5


def test_where_the_planner_cannot_tell_the_episode_goes_on_unjudged(monkeypatch):
    def distance(self, state):
        if state == 1:
            raise UserError("planner: no proof in 30 s")
        return abs(3 - state)

    monkeypatch.setattr(CorridorPlanner, "distance", distance)
    (episode,), _ = play(lambda text, seed: say("Right"))
    assert episode.success and episode.optimal_steps == 3
    assert [(t.distance, t.exact, t.expert) for t in episode.turns] == [
        (3, True, "Right"), (None, None, None), (1, True, "Right")
    ]  # fmt: skip
    assert summarise([episode])["unjudged"] == 1 and summarise([episode])["exact_rate"] == 1.0


def test_an_episode_that_starts_at_the_goal_and_no_episode_at_all():
    (episode,), script = play(lambda text, seed: "", [Corridor(start=3)])
    assert (episode.success, episode.steps, script.calls) == (True, 0, [])
    assert play(lambda text, seed: "", [])[0] == []


def test_progress_is_told_after_every_turn():
    seen = []
    play(lambda text, seed: say("Right"), [Corridor(), Corridor(layout="d", start=2)], progress=seen.append)
    assert seen == [
        EpisodeProgress(0, 0, 2, 0),
        EpisodeProgress(1, 1, 2, 1),
        EpisodeProgress(1, 1, 2, 2),
        EpisodeProgress(2, 2, 2, 3),
    ]


def test_config_refuses_nonsense():
    with pytest.raises(ValueError, match="'stop'"):
        EpisodeConfig(params=GREEDY, on_invalid="stop")
    with pytest.raises(ValueError, match="at least 1"):
        EpisodeConfig(params=GREEDY, retries=0)
