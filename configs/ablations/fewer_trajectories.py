"""A tenth of the trajectories; with `--sweep="expert.trajectories=100,300,1000"` as many as one likes."""

from ml_collections import ConfigDict
from tiny import get_config as tiny


def get_config(arg: str = "") -> ConfigDict:
    c = tiny(arg)
    c.expert.trajectories = 4 if arg == "smoke" else c.expert.trajectories // 10
    return c
