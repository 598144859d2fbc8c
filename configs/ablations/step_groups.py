"""GiGPO (arXiv 2505.10978): multi-turn GRPO whose turns are compared with those in equal states too."""

from ml_collections import ConfigDict
from multi_turn import get_config as multi_turn


def get_config(arg: str = "") -> ConfigDict:
    c = multi_turn(arg)
    c.grpo.advantages = "step"
    return c
