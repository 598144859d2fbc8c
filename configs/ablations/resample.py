"""Groups without signal are replaced by new prompts, up to twice (as in DAPO, arXiv 2503.14476)."""

from ml_collections import ConfigDict
from tiny import get_config as tiny


def get_config(arg: str = "") -> ConfigDict:
    c = tiny(arg)
    c.grpo.resample = 2
    return c
