"""Dr. GRPO (arXiv 2503.20783): no division by the group's standard deviation, a constant length in the loss."""

from ml_collections import ConfigDict
from tiny import get_config as tiny


def get_config(arg: str = "") -> ConfigDict:
    c = tiny(arg)
    c.grpo.aggregation, c.grpo.scale_by_std = "dr_grpo", False
    return c
