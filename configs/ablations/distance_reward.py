"""No expert in the reward: an action is worth what it wins of the way, half where it wins and loses nothing.

SFT still has the expert's answers; without them configs/ablations/no_sft.py says what it takes.
"""

from ml_collections import ConfigDict
from tiny import get_config as tiny


def get_config(arg: str = "") -> ConfigDict:
    c = tiny(arg)
    c.expert.action_distances = True
    c.reward.target = "distance"
    return c
