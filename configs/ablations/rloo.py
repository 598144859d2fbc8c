"""RLOO (arXiv 2402.14740): REINFORCE, each response counted from the mean of the others; the KL stays in the loss."""

from ml_collections import ConfigDict
from tiny import get_config as tiny


def get_config(arg: str = "") -> ConfigDict:
    c = tiny(arg)
    c.grpo.baseline, c.grpo.scale_by_std = "leave_one_out", False
    c.grpo.aggregation = "dr_grpo"  # the log-probability of a response is a sum over its tokens
    c.grpo.clip_low = c.grpo.clip_high = 0.0
    return c
