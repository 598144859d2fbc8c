"""Advantages of the turns of whole episodes, by name: of the episode, of equal states, and by the planner's distances.

A group is E episodes from the start of one layout, with U turns in all, laid end to end. An estimator is a pure
function of `Turns` and `Credit` that returns one advantage a turn; all tokens of its response share it. What Eq. 5 does
to a group of rewards (`losses.group_advantages`: less the mean, over the standard deviation where the config says so)
each does to a group of its own.
"""

import dataclasses
from collections.abc import Callable

import numpy as np

from stgrpo.rl.losses import group_advantages


@dataclasses.dataclass(frozen=True)
class Turns:
    """What is known of the turns of one group of episodes.

    Attributes:
        reward_E: of each episode, at its end.
        episode_U: number of the episode that a turn is in.
        later_U: turns of its episode that come after it.
        state_U: a number for the state that a turn is answered in, the same for equal states.
        before_U: fewest steps to the goal from that state, `lost` where there is no way; None without a planner.
        after_U: the same after the turn, `lost` too where its answer cannot be used; None without a planner.
        lost: the steps that an episode may have: how far the goal is counted to be from where there is no way to it.
    """

    reward_E: np.ndarray
    episode_U: np.ndarray
    later_U: np.ndarray
    state_U: np.ndarray
    before_U: np.ndarray | None = None
    after_U: np.ndarray | None = None
    lost: int = 0


@dataclasses.dataclass(frozen=True)
class Credit:
    """How advantages are counted.

    Attributes:
        baseline: see `group_advantages`.
        scale_by_std: see `group_advantages`.
        gamma: discount of a reward, a turn.
        step_weight: of a turn's advantage among turns in equal states, beside its episode's.
    """

    baseline: str = "group_mean"
    scale_by_std: bool = True
    gamma: float = 0.95
    step_weight: float = 1.0


def episode_advantages(turns: Turns, credit: Credit) -> np.ndarray:
    """Multi-turn GRPO: every turn has the advantage of its episode among the group's (Eq. 5 with episodes' rewards)."""
    return _among(turns.reward_E, np.zeros(len(turns.reward_E), int), credit)[turns.episode_U]


def step_advantages(turns: Turns, credit: Credit) -> np.ndarray:
    """GiGPO (arXiv 2505.10978, Eqs. 3 and 6-8): the episode's advantage, and that of the turn among equal states.

    The second is of discounted returns, gamma ** (turns that came after) times the episode's reward, over all turns of
    the group in the same state; a state that was met once adds nothing.
    """
    return_U = credit.gamma**turns.later_U * turns.reward_E[turns.episode_U]
    return episode_advantages(turns, credit) + credit.step_weight * _among(return_U, turns.state_U, credit)


def exact_advantages(turns: Turns, credit: Credit) -> np.ndarray:
    """The true ones (`true_advantages`), among all turns of the group: a positive one has an optimal action.

    What is taken off is the same for all turns, so no state's gradient is another than by the true ones but for the
    scale. A group whose turns are all optimal has advantage 0.
    """
    return _among(true_advantages(turns), np.zeros(len(turns.state_U), int), credit)


def true_advantages(turns: Turns) -> np.ndarray:
    """Q*(s, a) - V*(s) = d(s) - 1 - d(s') for V* = -d, d the fewest steps to the goal: what an action loses, in steps.

    0 for an optimal action, -1 for a step that leads nowhere, -2 for one that must be undone. Where there is no way to
    the goal, or no proof of one in the planner's time, d is `lost`; so it is after an answer that cannot be used, which
    ends the episode. In such a state no action loses anything any more: 0. The cap is no part of a state.

    Raises:
        ValueError: there are no distances.
    """
    if turns.before_U is None or turns.after_U is None:
        raise ValueError("true advantages need the planner's distances")
    return np.where(turns.before_U < turns.lost, turns.before_U - 1.0 - turns.after_U, 0.0)


Estimator = Callable[[Turns, Credit], np.ndarray]
ADVANTAGES: dict[str, Estimator] = {
    "episode": episode_advantages,
    "step": step_advantages,
    "exact": exact_advantages,
}
"""The estimators that `grpo.advantages` chooses by name, beside "response", which is single-turn GRPO."""


def _among(value_N: np.ndarray, group_N: np.ndarray, credit: Credit) -> np.ndarray:
    """`group_advantages` of ragged groups: those values that have the same number are one."""
    found_N = np.zeros(len(value_N))
    for number in np.unique(group_N):
        mine = group_N == number
        row = value_N[mine].astype(np.float64)[None]
        found_N[mine] = group_advantages(row, baseline=credit.baseline, scale_by_std=credit.scale_by_std)[0]
    return found_N
