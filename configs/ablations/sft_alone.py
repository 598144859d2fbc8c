"""SFT alone: no rollout. `sft.steps` is what there is to set against GRPO's share of the time."""

from ml_collections import ConfigDict
from tiny import get_config as tiny


def get_config(arg: str = "") -> ConfigDict:
    c = tiny(arg)
    c.grpo.epochs, c.grpo.steps = 0.0, 0
    return c
