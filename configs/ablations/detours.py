"""A sub-optimal expert: one action in ten is wrong and done, so demonstrations have detours and their way back."""

from ml_collections import ConfigDict
from tiny import get_config as tiny


def get_config(arg: str = "") -> ConfigDict:
    c = tiny(arg)
    c.expert.error_rate, c.expert.errors = 0.1, "detours"
    c.limits.prompt = 288  # states off the path have more to say
    return c
