"""One action in ten fails, in the demonstrations and in the episodes of evaluation: only time passes."""

from ml_collections import ConfigDict
from tiny import get_config as tiny


def get_config(arg: str = "") -> ConfigDict:
    c = tiny(arg)
    c.expert.error_rate, c.expert.errors = 0.1, "failures"
    c.env.failure = 0.1
    return c
