"""Reward any action that brings the goal nearer, not the expert's alone: equally good actions go unpunished."""

from ml_collections import ConfigDict
from tiny import get_config as tiny


def get_config(arg: str = "") -> ConfigDict:
    c = tiny(arg)
    c.reward.target = "optimal"
    return c
