"""Whole episodes whose turns have their true advantages, by the planner's distances: credit without an estimate."""

from ml_collections import ConfigDict
from multi_turn import get_config as multi_turn


def get_config(arg: str = "") -> ConfigDict:
    c = multi_turn(arg)
    c.grpo.advantages = "exact"
    return c
