"""The single-turn reward (Eq. 3 of the paper, with the format part its experiment adds)."""

from collections.abc import Collection
from dataclasses import dataclass

from stgrpo.react.response import ParsedResponse

TARGETS = ("expert", "optimal")


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
    weights: RewardWeights = PAPER_WEIGHTS,
) -> Reward:
    """Reward one response: `format · 1{ReAct} + action · 1{a = π_GT(s)}`.

    The paper describes its ReAct format as reasoning followed by one action from the valid list, so the format part
    asks for a valid action too: naming an action that cannot be taken, or `Finish`, earns nothing.

    Args:
        parsed: the parsed response.
        target: "expert" asks for the expert's own action (Eq. 3), "optimal" for any action of the optimal set.
        expert_action: the action the expert takes in this state.
        optimal_actions: all actions that bring the goal one step nearer; None where no planner says so.
        weights: the worth of the two parts.

    Raises:
        ValueError: on an unknown target, or the target "optimal" without the optimal set.
    """
    if target not in TARGETS:
        raise ValueError(f"reward target {target!r} is not one of {', '.join(TARGETS)}")
    if target == "expert":
        right = parsed.action == expert_action
    elif optimal_actions is None:
        raise ValueError("reward target 'optimal' needs the optimal actions, which only a planner knows: use 'expert'")
    else:
        right = parsed.action in optimal_actions
    format_part = weights.format if not parsed.failure else 0.0
    action_part = weights.action if not parsed.failure and right else 0.0
    return Reward(format=format_part, action=action_part, total=format_part + action_part)
