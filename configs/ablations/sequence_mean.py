"""Every response weighs the same in the loss, however long it is (GRPO as first published, arXiv 2402.03300)."""

from ml_collections import ConfigDict
from tiny import get_config as tiny


def get_config(arg: str = "") -> ConfigDict:
    c = tiny(arg)
    c.grpo.aggregation = "sequence_mean"
    return c
