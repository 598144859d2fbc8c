"""The two parts of the reward, for every kind of response."""

import pytest

from stgrpo.react.response import parse_response
from stgrpo.react.reward import Reward, RewardWeights, reward

VALID = ("Move robot1 from table1 to table2", "Move robot1 from table1 to table3", "Do nothing")
EXPERT, TIED, WRONG = VALID


@pytest.mark.parametrize(
    ("action", "target", "expected"),
    [
        (EXPERT, "expert", Reward(0.1, 0.9, 1.0)),
        (EXPERT, "optimal", Reward(0.1, 0.9, 1.0)),
        (TIED, "expert", Reward(0.1, 0.0, 0.1)),
        (TIED, "optimal", Reward(0.1, 0.9, 1.0)),
        (WRONG, "expert", Reward(0.1, 0.0, 0.1)),
        (WRONG, "optimal", Reward(0.1, 0.0, 0.1)),
        ("Fly", "expert", Reward(0.0, 0.0, 0.0)),
        ("Finish", "optimal", Reward(0.0, 0.0, 0.0)),
    ],
)
def test_reward_of_an_action(action: str, target: str, expected: Reward) -> None:
    parsed = parse_response(f"Reasoning: so.\nAction: {action}", VALID)
    assert reward(parsed, target=target, expert_action=EXPERT, optimal_actions=(EXPERT, TIED)) == expected


def test_right_action_without_reasoning_earns_nothing() -> None:
    parsed = parse_response(f"Action: {EXPERT}", VALID)
    assert reward(parsed, target="expert", expert_action=EXPERT, optimal_actions=(EXPERT,)).total == 0.0


def test_weights_and_unknown_target() -> None:
    parsed = parse_response(f"Reasoning: so.\nAction: {EXPERT}", VALID)
    options = {"expert_action": EXPERT, "optimal_actions": (EXPERT,)}
    got = reward(parsed, target="expert", weights=RewardWeights(format=0.0, action=2.0), **options)
    assert got == Reward(0.0, 2.0, 2.0)
    options["optimal_actions"] = None
    assert reward(parsed, target="expert", **options).total == 1.0
    with pytest.raises(ValueError, match="only a planner knows"):
        reward(parsed, target="optimal", **options)
    with pytest.raises(ValueError, match="'best' is not one of expert, optimal"):
        reward(parsed, target="best", **options)
