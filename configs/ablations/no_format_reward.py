"""The whole reward for the action, none for the format."""

from ml_collections import ConfigDict
from tiny import get_config as tiny


def get_config(arg: str = "") -> ConfigDict:
    c = tiny(arg)
    c.reward.format, c.reward.action = 0.0, 1.0
    return c
