"""What is taken off the reward of a response for its length."""

import dataclasses

from stgrpo.react.reward import Reward


@dataclasses.dataclass(frozen=True)
class ShapedReward(Reward):
    """A reward whose total counts the length too.

    Attributes:
        length: what that earns, at most 0.
    """

    length: float = 0.0


@dataclasses.dataclass(frozen=True)
class Overlong:
    """The soft overlong punishment of DAPO (Eq. 13 of arXiv 2503.14476).

    Attributes:
        limit: tokens that a response may have.
        buffer: the last so many of them cost something, each the same; above 0.
        penalty: what they cost together.
    """

    limit: int
    buffer: int
    penalty: float = 1.0

    def reward(self, length: int) -> float:
        """What a response of so many tokens earns for its length: 0, down to -penalty at the limit."""
        return -self.penalty * max(0, length - (self.limit - self.buffer)) / self.buffer

    def shaped(self, answer: Reward, length: int) -> ShapedReward:
        """The reward of an answer that is so many tokens long."""
        earned = self.reward(length)
        return ShapedReward(answer.format, answer.action, answer.total + earned, earned)
