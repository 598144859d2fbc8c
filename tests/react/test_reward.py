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


@pytest.mark.parametrize(
    ("after", "worth"),
    [(4, 1.0), (5, 0.5), (6, 0.0), (9, 0.0), (None, 0.0)],
    ids="nearer same farther far lost".split(),
)
def test_by_distance_an_action_is_worth_what_it_wins(after: int | None, worth: float) -> None:
    distances = {EXPERT: 4, TIED: after, WRONG: None}  # so the state is 5 from the goal
    parsed = parse_response(f"Reasoning: so.\nAction: {TIED}", VALID)
    options = {"target": "distance", "expert_action": WRONG, "optimal_actions": None}
    got = reward(parsed, distances=distances, weights=RewardWeights(0.25, 2.0), **options)
    assert got == Reward(0.25, 2.0 * worth, 0.25 + 2.0 * worth)
    refused = parse_response("Reasoning: so.\nAction: Fly", VALID)
    assert reward(refused, distances=distances, **options).total == 0.0
    with pytest.raises(ValueError, match="needs the distances after actions"):
        reward(parsed, **options)


def test_weights_and_unknown_target() -> None:
    parsed = parse_response(f"Reasoning: so.\nAction: {EXPERT}", VALID)
    options = {"expert_action": EXPERT, "optimal_actions": (EXPERT,)}
    got = reward(parsed, target="expert", weights=RewardWeights(format=0.0, action=2.0), **options)
    assert got == Reward(0.0, 2.0, 2.0)
    options["optimal_actions"] = None
    assert reward(parsed, target="expert", **options).total == 1.0
    with pytest.raises(ValueError, match="only a planner knows"):
        reward(parsed, target="optimal", **options)
    with pytest.raises(ValueError, match="'best' is not one of expert, optimal, distance"):
        reward(parsed, target="best", **options)
