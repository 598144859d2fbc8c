"""CISPO (arXiv 2506.13585): the ratio is a weight of at most 5 and no token loses its gradient; no KL."""

from ml_collections import ConfigDict
from tiny import get_config as tiny


def get_config(arg: str = "") -> ConfigDict:
    c = tiny(arg)
    c.grpo.loss, c.grpo.clip_low, c.grpo.clip_high = "cispo", 0.0, 4.0
    c.grpo.kl_coef = 0.0
    c.grpo.minibatches = 4  # with one update a rollout the ratio is 1
    return c
