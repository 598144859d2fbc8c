"""From sampled responses to a batch: rewards, advantages over each group, padding. NumPy in, NumPy out."""

import dataclasses
import itertools
from collections.abc import Sequence
from typing import TypeVar

import jax.numpy as jnp
import numpy as np

from stgrpo.data.examples import Example
from stgrpo.data.padding import bucket, pad_rows
from stgrpo.react.overlong import Overlong, ShapedReward
from stgrpo.react.reward import Reward, RewardWeights
from stgrpo.rl.losses import group_advantages
from stgrpo.sampling.base import Samples
from stgrpo.training.batch import GroupBatch, loss_weights

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Asked:
    """A prompt of an episode: what there is of an `Example` where no expert has answered."""

    prompt_ids: tuple[int, ...]
    task: str
    layout: str
    index: int  # steps taken before it


@dataclasses.dataclass(frozen=True)
class Group:
    """One prompt with its responses and what they earned.

    Attributes:
        example: the prompt and the expert's answer, if there is one.
        tokens: sampled ids of each response.
        texts: the same for the reward and for people.
        finish: "stop" or "length" of each.
        rewards: of each, or of its episode.
        logprobs: of the ids of each, by the sampler.
        version: of the weights that made them.
        advantages: of each; None where they are counted among the rewards of the group.
    """

    example: Example | Asked
    tokens: tuple[tuple[int, ...], ...]
    texts: tuple[str, ...]
    finish: tuple[str, ...]
    rewards: tuple[Reward, ...]
    logprobs: tuple[tuple[float, ...], ...] = ()
    version: int = 0
    advantages: tuple[float, ...] | None = None

    @property
    def has_signal(self) -> bool:
        """Whether answers earn different rewards, their length aside: what `grpo.resample` looks at."""
        answers = [r.format + r.action for r in self.rewards]
        return max(answers) > min(answers)

    def shortened(self, overlong: Overlong) -> "Group":
        """The group with rewards that count lengths too."""
        pairs = zip(self.rewards, self.tokens, strict=True)
        return dataclasses.replace(self, rewards=tuple(overlong.shaped(r, len(t)) for r, t in pairs))


def score(
    examples: Sequence[Example],
    samples: Samples,
    texts: Sequence[Sequence[str]],
    *,
    target: str,
    weights: RewardWeights,
) -> list[Group]:
    """Rewards every response of a rollout."""
    groups = []
    rows = zip(examples, samples.tokens, samples.logprobs, samples.finish, texts, strict=True)
    for example, tokens, logprobs, finish, group_texts in rows:
        truth = example.step.ground_truth(target, weights)
        rewards = [truth.reward(text) for text in group_texts]
        groups.append(
            Group(
                example,
                tokens=tuple(map(tuple, tokens)),
                texts=tuple(group_texts),
                finish=tuple(finish),
                rewards=tuple(rewards),
                logprobs=tuple(map(tuple, logprobs)),
                version=samples.version,
            )
        )
    return groups


def group_batch(
    groups: Sequence[Group], *, aggregation: str, scale_by_std: bool, limit: int, baseline: str = "group_mean"
) -> GroupBatch:
    """The groups as padded arrays with all that a loss takes but the reference's log-probabilities, which are still 0.

    Args:
        groups: of the same size, if their advantages are still to be counted; else smaller ones are filled up with
            responses of no token.
        aggregation: see `loss_weights`.
        scale_by_std: see `group_advantages`.
        baseline: see `group_advantages`; "critic" leaves the rewards, for `training.critic.advantages` to count from.
        limit: the longest a response may be.
    """
    B, G = len(groups), max(len(g.tokens) for g in groups)
    prompt_BP, prompt_len_B = pad_rows([g.example.prompt_ids for g in groups], smallest=32)
    rows = [tokens for g in groups for tokens in _filled(g.tokens, G, ())]
    R = min(bucket(max(map(len, rows)), smallest=32, sizes=2), limit)
    response, length = pad_rows(rows, length=R)
    length_BG = jnp.asarray(length.reshape(B, G))
    weight_BGR = np.asarray(loss_weights(length_BG, R, aggregation, limit=limit))
    if groups[0].advantages is None:
        adv_BG = np.array([[r.total for r in g.rewards] for g in groups], np.float32)
        if baseline != "critic":
            counted = group_advantages(jnp.asarray(adv_BG), baseline=baseline, scale_by_std=scale_by_std)
            adv_BG = np.asarray(counted)
    else:
        adv_BG = np.array([_filled(g.advantages or (), G, 0.0) for g in groups], np.float32)
    return GroupBatch(
        prompt_BP=prompt_BP,
        prompt_len_B=prompt_len_B,
        response_BGR=response.reshape(B, G, R),
        weight_BGR=weight_BGR,
        mask_BGR=(weight_BGR > 0).astype(np.float32),
        adv_BG=adv_BG,
        ref_logp_BGR=np.zeros((B, G, R), np.float32),
        sampler_logp_BGR=sampler_logprobs(groups, G, R),
        finished_BG=np.array([_filled([f != "length" for f in g.finish], G, False) for g in groups], np.float32),
    )


def _filled(values: Sequence[T], size: int, filler: T) -> list[T]:
    return [*values, *[filler] * (size - len(values))]


def sampler_logprobs(groups: Sequence[Group], count: int, size: int) -> np.ndarray | None:
    """The sampler's log-probabilities [B, G, R] float32, 0 for padding; None where groups come without.

    Args:
        groups: as for `group_batch`.
        count: G.
        size: R.
    """
    if not all(group.logprobs for group in groups):
        return None
    values_BGR = np.zeros((len(groups), count, size), np.float32)
    for b, group in enumerate(groups):
        for g, logprobs in enumerate(group.logprobs):
            values_BGR[b, g, : len(logprobs)] = logprobs
    return values_BGR


def rollout_metrics(groups: Sequence[Group], batch: GroupBatch) -> dict[str, float]:
    """Rewards, kinds of groups, lengths, and the tokens that one row a response would take."""
    lengths = [len(t) for g in groups for t in g.tokens]
    (B, P), (_, G, R) = batch.prompt_BP.shape, batch.response_BGR.shape
    return {
        **reward_metrics([g.rewards for g in groups]),
        "response_length": float(np.mean(lengths)),
        "truncated_fraction": float(np.mean([f == "length" for g in groups for f in g.finish])),
        "tokens_dense": B * G * (P + R),
    }


def reward_metrics(groups: Sequence[Sequence[Reward]]) -> dict[str, float]:
    """Rewards, and kinds of groups of them."""
    rewards = [r for group in groups for r in group]
    right = [[r.action > 0 for r in group] for group in groups]
    deducted = [r.length for r in rewards if isinstance(r, ShapedReward)]
    return {
        "reward": float(np.mean([r.total for r in rewards])),
        "reward_format": float(np.mean([r.format for r in rewards])),
        "reward_action": float(np.mean([r.action for r in rewards])),
        "action_right": float(np.mean(list(itertools.chain(*right)))),
        "groups_all_right": float(np.mean([all(r) for r in right])),
        "groups_all_wrong": float(np.mean([not any(r) for r in right])),
        "groups_zero_variance": float(np.mean([len({r.total for r in group}) == 1 for group in groups])),
        **({"reward_length": float(np.mean(deducted))} if deducted else {}),
    }
