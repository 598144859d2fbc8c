"""States off the expert's path: one action in five that is done is wrong, and the planner's right one is shown."""

from ml_collections import ConfigDict
from tiny import get_config as tiny


def get_config(arg: str = "") -> ConfigDict:
    c = tiny(arg)
    c.expert.error_rate, c.expert.errors = 0.2, "states"  # DART, arXiv 1703.09327
    c.limits.prompt = 288  # states off the path have more to say
    return c
