"""DAPO (arXiv 2503.14476): clip-higher, dynamic sampling, every token the same, a deduction for length, no KL."""

from ml_collections import ConfigDict
from tiny import get_config as tiny


def get_config(arg: str = "") -> ConfigDict:
    c = tiny(arg)
    c.grpo.clip_low, c.grpo.clip_high = 0.2, 0.28
    c.grpo.resample = 4
    c.grpo.aggregation = "token_mean"
    c.grpo.kl_coef = 0.0
    c.grpo.minibatches = 4  # with one update a rollout the ratio is 1
    c.reward.overlong_buffer = c.limits.response // 5  # as 4,096 of 20,480 there
    return c
