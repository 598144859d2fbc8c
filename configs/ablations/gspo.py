"""GSPO (arXiv 2507.18071): one ratio a response, clipped as narrowly as there, over four updates a rollout."""

from ml_collections import ConfigDict
from tiny import get_config as tiny


def get_config(arg: str = "") -> ConfigDict:
    c = tiny(arg)
    c.grpo.loss, c.grpo.aggregation = "gspo", "sequence_mean"
    c.grpo.clip_low, c.grpo.clip_high = 3e-4, 4e-4
    c.grpo.minibatches = 4
    return c
