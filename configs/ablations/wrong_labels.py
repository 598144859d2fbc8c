"""A noisy expert: one action in ten of its demonstrations is wrong, in SFT and in the reward; what is done is right."""

from ml_collections import ConfigDict
from tiny import get_config as tiny


def get_config(arg: str = "") -> ConfigDict:
    c = tiny(arg)
    c.expert.error_rate, c.expert.errors = 0.1, "labels"
    return c
