"""What is deducted for length."""

from stgrpo.react.overlong import Overlong, ShapedReward
from stgrpo.react.reward import Reward


def test_a_deduction_for_length_grows_over_the_buffer() -> None:
    """Of 10 tokens the last 4 cost a quarter of 2 each, as Eq. 13 of arXiv 2503.14476 has it."""
    overlong = Overlong(limit=10, buffer=4, penalty=2.0)
    assert [overlong.reward(n) for n in (1, 6, 7, 8, 10)] == [0.0, 0.0, -0.5, -1.0, -2.0]
    assert overlong.shaped(Reward(0.1, 0.9, 1.0), 8) == ShapedReward(0.1, 0.9, 0.0, -1.0)
