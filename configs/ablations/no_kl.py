"""No KL to the reference: nothing holds the policy near the SFT policy."""

from ml_collections import ConfigDict
from tiny import get_config as tiny


def get_config(arg: str = "") -> ConfigDict:
    c = tiny(arg)
    c.grpo.kl_coef = 0.0
    return c
