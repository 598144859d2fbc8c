"""The prompt repeats the last reasoning and action."""

from ml_collections import ConfigDict
from tiny import get_config as tiny


def get_config(arg: str = "") -> ConfigDict:
    c = tiny(arg)
    c.prompt.history, c.limits.prompt = "last_reasoning_action", 320
    return c
