"""Half of the reward for the format, half for the action, in place of a tenth and nine."""

from ml_collections import ConfigDict
from tiny import get_config as tiny


def get_config(arg: str = "") -> ConfigDict:
    c = tiny(arg)
    c.reward.format = c.reward.action = 0.5
    return c
