"""Multi-turn GRPO: whole episodes in groups from one kitchen, 1 for the goal, no expert."""

from ml_collections import ConfigDict
from tiny import get_config as tiny


def get_config(arg: str = "") -> ConfigDict:
    c = tiny(arg)
    c.grpo.advantages = "episode"
    c.reward.format, c.reward.action = 0.0, 1.0
    c.grpo.prompts //= 4  # kitchens: eight episodes in each of four are about as many answers as two rollouts of 16 x 8
    c.grpo.row_tokens = 1024
    return c
