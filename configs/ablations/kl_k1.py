"""KL by k1, whose expected gradient on-policy is zero: it should behave like no KL at all."""

from ml_collections import ConfigDict
from tiny import get_config as tiny


def get_config(arg: str = "") -> ConfigDict:
    c = tiny(arg)
    c.grpo.kl_estimator = "k1"
    return c
