"""Multi-turn rollouts: whole episodes in groups from the start of one layout, rewarded at the goal; no expert.

An episode is played as `evaluation.episodes` has it, by the policy as it is trained: drawn at the training temperature,
its first unusable answer ends it as a failure. Each of its turns is a response in the update, with an advantage of
`advantages.ADVANTAGES`. A prompt has no more of an episode than `prompt.history` says, so turns of one group that were
asked the same are one `Group`: their prompt is computed once.
"""

import dataclasses
import functools
import hashlib
from collections.abc import Callable, Sequence

import numpy as np
from ml_collections import ConfigDict

from stgrpo.config.environments import environment_of
from stgrpo.data.examples import stream_indices
from stgrpo.envs.sessions import open_sessions
from stgrpo.envs.stochastic import FlakyEnvironment
from stgrpo.errors import UserError
from stgrpo.evaluation.episodes import EpisodeConfig, RecordedEpisode, play_recorded
from stgrpo.evaluation.records import Episode
from stgrpo.protocol import Judging, Planner, Session, State
from stgrpo.react.policy import SamplingParams
from stgrpo.react.reward import Reward, RewardWeights
from stgrpo.rl.advantages import ADVANTAGES, Credit, Turns
from stgrpo.rl.group_batch import Asked, Group, reward_metrics
from stgrpo.rl.rollouts import Rollout, draw_with_signal
from stgrpo.sampling.base import Sampler, Shared, mix_seed
from stgrpo.sampling.policy import TokenPolicy
from stgrpo.training.context import RunContext
from stgrpo.training.inputs import prompt_style
from stgrpo.training.timer import Timer

Layout = tuple[str, str]
"""A task and the name of one of its layouts."""


@dataclasses.dataclass(frozen=True)
class EpisodeGroup:
    """The episodes that were played from one start.

    Attributes:
        rewards: of each episode.
        lengths: turns of each.
        groups: their turns, those with the same prompt together.
    """

    rewards: tuple[Reward, ...]
    lengths: tuple[int, ...]
    groups: tuple[Group, ...]

    @property
    def has_signal(self) -> bool:
        """Whether a turn has an advantage other than 0."""
        return any(advantage for group in self.groups for advantage in group.advantages or ())


class EpisodeRollouts:
    """Plays groups of episodes from the stream of layouts: a function of policy, seed and position alone."""

    def __init__(self, setting: RunContext, layouts: Sequence[Layout], sampler: Sampler):
        c = setting.config
        self._setting, self._layouts, self._sampler = setting, layouts, sampler
        self._weights = RewardWeights(c.reward.format, c.reward.action)
        environment = environment_of(c)
        self._environment = FlakyEnvironment(environment, c.env.failure, c.seed) if c.env.failure else environment
        self._how = EpisodeConfig(
            params=SamplingParams(c.limits.response, c.grpo.temperature, c.grpo.top_p, c.grpo.top_k),
            style=prompt_style(c),
            max_prompt_len=c.limits.prompt,
            seed=c.seed,
            is_judged=False,
        )

    def draw(self, position: int) -> Rollout:
        """The rollout at a position, of `grpo.prompts` layouts; see `draw_with_signal`.

        Raises:
            UserError: no episode had a turn: every first prompt is too long.
        """
        timer, c = Timer(), self._setting.config
        kept, drawn = draw_with_signal(functools.partial(self._draw, timer), position, c.grpo)
        groups = [group for each in kept for group in each.groups]
        if not groups:
            fix = "use a longer one, in another --workdir"
            raise UserError(f"limits.prompt={c.limits.prompt} is under the first prompt of every episode: {fix}")
        everything = [group for each in drawn for group in each.groups]
        return Rollout(groups, everything, position + len(drawn), timer.seconds, episode_metrics(drawn))

    def _draw(self, timer: Timer, position: int, count: int) -> list[EpisodeGroup]:
        rows = stream_indices(len(self._layouts), position, count, self._setting.config.seed + 1)
        asked = [(position + i, self._layouts[row]) for i, row in enumerate(rows)]
        play = functools.partial(self._play, timer)
        return self._sampler.each(asked, play) if isinstance(self._sampler, Shared) else play(self._sampler, asked)

    def _play(self, timer: Timer, sampler: Sampler, asked: Sequence[tuple[int, Layout]]) -> list[EpisodeGroup]:
        setting, G = self._setting, self._setting.config.grpo.group_size
        policy = TokenPolicy(sampler, setting.tokenizer, self._how.params, self._how.max_prompt_len)
        keys = [mix_seed(position, number) for position, _ in asked for number in range(G)]
        with open_sessions(self._environment, [layout for _, layout in asked for _ in range(G)]) as sessions:
            with timer.part("sample"):
                played = play_recorded(sessions, policy, config=self._how, keys=keys)
            with timer.part("reward"):
                return [self._group(sessions[at], played[at : at + G]) for at in range(0, len(played), G)]

    def _group(self, session: Session, played: Sequence[RecordedEpisode]) -> EpisodeGroup:
        c = self._setting.config
        planner = session.planner if c.grpo.advantages == "exact" and isinstance(session, Judging) else None
        rewards = tuple(episode_reward(each.episode, self._weights) for each in played)
        distance = None if planner is None else distance_of(planner, max(1, session.max_steps))
        turns = turns_of(played, [reward.total for reward in rewards], distance)
        adv_U = ADVANTAGES[c.grpo.advantages](turns, credit_of(c)).tolist()
        lengths = tuple(len(each.responses) for each in played)
        return EpisodeGroup(rewards, lengths, tuple(_groups(played, rewards, adv_U)))


def credit_of(config: ConfigDict) -> Credit:
    """How a run counts the advantages of turns."""
    g, e = config.grpo, config.episodes
    return Credit(g.baseline, g.scale_by_std, gamma=e.gamma, step_weight=e.step_weight)


def training_layouts(config: ConfigDict) -> list[Layout]:
    """The layouts that episodes are trained in, of all tasks: those whose trajectories a planner's data has, or others.

    Raises:
        UserError: the environment has fewer.
    """
    environment, count = environment_of(config), config.episodes.layouts or config.expert.trajectories
    return [
        (task, layout)
        for task in config.env.tasks
        for layout in environment.layouts(task, config.env.family, split="train", count=count)
    ]


def layouts_identity(layouts: Sequence[Layout]) -> str:
    """Of what is learned in: it changes with a layout or their order."""
    return hashlib.sha256(repr(list(layouts)).encode()).hexdigest()[:16]


def episode_reward(episode: Episode, weights: RewardWeights) -> Reward:
    """Eq. 3's parts, of an episode: `reward.action` for the goal, `reward.format` where every answer could be used."""
    action = weights.action if episode.success else 0.0
    form = 0.0 if any(turn.failure for turn in episode.turns) else weights.format
    return Reward(form, action, form + action)


Distance = Callable[[State], int]


def distance_of(planner: Planner, lost: int) -> Distance:
    """Fewest steps to the goal, of each state once and at most `lost`, which stands for no way and for no proof too."""

    @functools.cache
    def distance(state: State) -> int:
        try:
            return min(planner.distance(state), lost)
        except UserError:
            return lost

    return distance


def turns_of(played: Sequence[RecordedEpisode], rewards: Sequence[float], distance: Distance | None) -> Turns:
    """The turns of one group of episodes as an estimator takes them.

    Args:
        played: the episodes.
        rewards: of each.
        distance: see `distance_of`; None where no estimator asks for it, or there is no planner.
    """
    lost = max(1, played[0].episode.cap)
    numbers: dict[State, int] = {}
    rows = [
        (e, len(each.responses) - 1 - t, numbers.setdefault(each.states[t], len(numbers)))
        for e, each in enumerate(played)
        for t in range(len(each.responses))
    ]
    episode_U, later_U, state_U = np.array(rows, int).reshape(-1, 3).T
    turns = Turns(np.asarray(rewards, float), episode_U, later_U, state_U, lost=lost)
    if distance is None:
        return turns
    before = [distance(state) for each in played for state in each.states[:-1]]
    after = [
        lost if turn.failure else distance(state)
        for each in played
        for turn, state in zip(each.episode.turns, each.states[1:], strict=True)
    ]
    return dataclasses.replace(turns, before_U=np.array(before, int), after_U=np.array(after, int))


def _groups(played: Sequence[RecordedEpisode], rewards: Sequence[Reward], adv_U: Sequence[float]) -> list[Group]:
    """Turns that were asked the same, together; at most as many as there are episodes."""
    turns = [
        (each.episode, reward, turn, response)
        for each, reward in zip(played, rewards, strict=True)
        for turn, response in zip(each.episode.turns, each.responses, strict=True)
    ]
    by_prompt: dict[tuple[int, ...], list[int]] = {}
    for at, (_, _, _, response) in enumerate(turns):
        by_prompt.setdefault(response.prompt_ids, []).append(at)
    parts = [places[i : i + len(played)] for places in by_prompt.values() for i in range(0, len(places), len(played))]
    return [_group([turns[at] for at in part], [adv_U[at] for at in part]) for part in parts]


def _group(turns: Sequence[tuple], advantages: Sequence[float]) -> Group:
    episodes, rewards, records, responses = zip(*turns, strict=True)
    asked = Asked(responses[0].prompt_ids, episodes[0].task, episodes[0].layout, records[0].step)
    return Group(
        asked,
        tokens=tuple(r.ids for r in responses),
        texts=tuple(r.text for r in responses),
        finish=tuple(r.finish for r in responses),
        rewards=rewards,
        logprobs=tuple(r.logprobs for r in responses),
        version=responses[0].version,
        advantages=tuple(advantages),
    )


def episode_metrics(drawn: Sequence[EpisodeGroup]) -> dict[str, float]:
    """Of whole episodes, by the names that groups of responses have, and what only episodes have."""
    lengths = [length for each in drawn for length in each.lengths]
    advantages = [a for each in drawn for group in each.groups for a in group.advantages or ()]
    return {
        **reward_metrics([each.rewards for each in drawn]),
        "episode_turns": float(np.mean(lengths)),
        "turns": float(sum(lengths)),
        "turns_a_prompt": sum(lengths) / max(1, sum(len(each.groups) for each in drawn)),
        "turns_zero_advantage": float(np.mean([a == 0 for a in advantages])) if advantages else 1.0,
    }
