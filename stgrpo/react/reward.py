"""The single-turn reward (Eq. 3 of the paper, with the format part its experiment adds), and how a response is read.

This file needs nothing but Python 3.10: `stgrpo export-data` puts it, as it is, beside the data that it writes, and
other trainers load it from there. `trl_reward` is what TRL asks for, `compute_score` what verl does; `score` is for
all else (docs/other_trainers.md).

A response is read the way the benchmark's agent reads it. The rules are those measured on the benchmark's ReAct agent,
so that what counts as a success here counts there: `Reasoning:` and `Action:` must each stand at the beginning of a
line, the reasoning reaches to the last `Action:`, the action is the rest of the first `Action:` line (or the next line,
if nothing follows on it), stripped; it must equal one of the valid actions to the letter. Text around the two is
allowed.
"""

import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass

TARGETS = ("expert", "optimal", "distance")
REASONING = re.compile(r"^Reasoning:\s*(.+)Action:", re.MULTILINE | re.DOTALL)
ACTION = re.compile(r"^Action:\s*(.+)", re.MULTILINE)
FINISH = "Finish"


@dataclass(frozen=True)
class ParsedResponse:
    """What a response says: its reasoning and action (None where not found) and why it cannot be used, if so.

    `failure` is "" (usable), "reasoning" or "action" (not found), "invalid" (not a valid action now), or "finish" (the
    benchmark's word for giving up, which ends an episode as a failure).
    """

    reasoning: str | None
    action: str | None
    failure: str

    @property
    def formatted(self) -> bool:
        """Whether reasoning and action were both found, whatever the action is."""
        return self.failure not in ("reasoning", "action")


def parse_response(text: str, valid_actions: Sequence[str]) -> ParsedResponse:
    """Parse one response strictly.

    Args:
        text: the model's whole output, without special tokens.
        valid_actions: the actions of the state the model answered for.

    Returns:
        The parts, with the first failure in the order reasoning, action, finish, invalid.
    """
    reasoning_match, action_match = REASONING.search(text), ACTION.search(text)
    reasoning = reasoning_match.group(1).strip() if reasoning_match else None
    action = action_match.group(1).strip() if action_match else None
    if reasoning is None:
        failure = "reasoning"
    elif action is None:
        failure = "action"
    elif action == FINISH:
        failure = "finish"
    else:
        failure = "" if action in valid_actions else "invalid"
    return ParsedResponse(reasoning=reasoning, action=action, failure=failure)


@dataclass(frozen=True)
class RewardWeights:
    """How much the ReAct format and the right action are worth (0.1 and 0.9 in the paper)."""

    format: float = 0.1
    action: float = 0.9


@dataclass(frozen=True)
class Reward:
    """The reward of one response: its two weighted parts and their sum, logged separately."""

    format: float
    action: float
    total: float


PAPER_WEIGHTS = RewardWeights()


def reward(
    parsed: ParsedResponse,
    *,
    target: str,
    expert_action: str,
    optimal_actions: Collection[str] | None,
    distances: Mapping[str, int | None] | None = None,
    weights: RewardWeights = PAPER_WEIGHTS,
) -> Reward:
    """Reward one response: `format · 1{ReAct} + action · 1{a = π_GT(s)}`.

    The paper describes its ReAct format as reasoning followed by one action from the valid list, so the format part
    asks for a valid action too: naming an action that cannot be taken, or `Finish`, earns nothing.

    Args:
        parsed: the parsed response.
        target: "expert" asks for the expert's own action (Eq. 3), "optimal" for any action of the optimal set,
            "distance" gives each action its `progress` and asks for no expert.
        expert_action: the action the expert takes in this state.
        optimal_actions: all actions that bring the goal one step nearer; None where no planner says so.
        distances: fewest steps to the goal after each valid action, None where it cannot be reached any more; for the
            target "distance".
        weights: the worth of the two parts.

    Raises:
        ValueError: on an unknown target, or a target without what only a planner knows.
    """
    if target not in TARGETS:
        raise ValueError(f"reward target {target!r} is not one of {', '.join(TARGETS)}")
    if target == "optimal" and optimal_actions is None:
        raise ValueError("reward target 'optimal' needs the optimal actions, which only a planner knows: use 'expert'")
    if target == "distance" and distances is None:
        raise ValueError(
            "reward target 'distance' needs the distances after actions, which a planner knows: record them"
        )
    if parsed.failure:
        worth = 0.0
    elif target == "expert":
        worth = float(parsed.action == expert_action)
    elif target == "optimal":
        worth = float(parsed.action in (optimal_actions or ()))
    else:
        worth = progress(distances or {}, parsed.action or "")
    format_part = weights.format if not parsed.failure else 0.0
    action_part = weights.action * worth
    return Reward(format=format_part, action=action_part, total=format_part + action_part)


def progress(distances: Mapping[str, int | None], action: str) -> float:
    """What an action is worth by the distance alone: 1 one step nearer to the goal, ½ as near as before, else 0.

    Args:
        distances: see `reward`. The best action of a state brings the goal one step nearer, so before it is one more.
        action: one of them.
    """
    known = [distance for distance in distances.values() if distance is not None]
    after = distances.get(action)
    if after is None:
        return 0.0
    return max(0.0, 1.0 - (after - min(known)) / 2)


@dataclass(frozen=True)
class GroundTruth:
    """All that the reward of a response to one problem depends on, as a row of exported data carries it.

    Attributes:
        valid_actions: of the state.
        expert_action: of the expert in it.
        optimal_actions: see `reward`.
        target: what a run rewards, `reward.target` of its config.
        format: `reward.format` of its config.
        action: `reward.action` of its config.
        distances: after each of the valid actions, in their order; see `reward`. None where they were not recorded.
    """

    valid_actions: Sequence[str]
    expert_action: str
    optimal_actions: Sequence[str] | None
    target: str = "expert"
    format: float = PAPER_WEIGHTS.format
    action: float = PAPER_WEIGHTS.action
    distances: Sequence[int | None] | None = None

    def to_json(self) -> str:
        """One JSON object, which `score` reads."""
        return json.dumps(asdict(self), ensure_ascii=False, allow_nan=False)

    def reward(self, response: str) -> Reward:
        """The reward of a response, without special tokens."""
        return reward(
            parse_response(response, self.valid_actions),
            target=self.target,
            expert_action=self.expert_action,
            optimal_actions=self.optimal_actions,
            distances=None if self.distances is None else dict(zip(self.valid_actions, self.distances, strict=True)),
            weights=RewardWeights(self.format, self.action),
        )


def score(response: str, ground_truth: str) -> float:
    """The reward of a response.

    Args:
        response: the model's whole output, without special tokens, not stripped.
        ground_truth: of the row, in its column `reward_model`.
    """
    return GroundTruth(**json.loads(ground_truth)).reward(response).total


def trl_reward(
    completions: Sequence[str | Sequence[Mapping[str, str]]],
    reward_model: Sequence[Mapping[str, str]],
    **columns: object,
) -> list[float]:
    """The rewards of a batch, for `reward_funcs` of TRL's trainers.

    Args:
        completions: texts, or conversations that end in what the model said.
        reward_model: that column of the rows.
        columns: all else that TRL passes.
    """
    texts = [c if isinstance(c, str) else c[-1]["content"] for c in completions]
    return [score(text, asked["ground_truth"]) for text, asked in zip(texts, reward_model, strict=True)]


def compute_score(data_source: str, solution_str: str, ground_truth: str, extra_info: object = None) -> float:
    """The reward of one response, for `custom_reward_function` of verl, which gives the row's `reward_model`."""
    return score(solution_str, ground_truth)
