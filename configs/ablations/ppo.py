"""PPO (arXiv 1707.06347): advantages of tokens from a critic, which starts as a copy of the SFT policy."""

from ml_collections import ConfigDict
from tiny import get_config as tiny


def get_config(arg: str = "") -> ConfigDict:
    c = tiny(arg)
    c.grpo.baseline, c.grpo.scale_by_std = "critic", False
    c.critic.learning_rate = 1e-3
    c.critic.warmup_rollouts = 2
    return c
