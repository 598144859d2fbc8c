"""No SFT: GRPO from where SFT would begin, which is its reference too. It needs weights that know the format.

Random ones earn no reward, so all groups are alike and nothing is learned: give model.path, as configs/smollm2.py has.
"""

from ml_collections import ConfigDict
from tiny import get_config as tiny


def get_config(arg: str = "") -> ConfigDict:
    c = tiny(arg)
    c.sft.epochs, c.sft.steps = 0.0, 0
    c.grpo.resample = 0  # from random weights no group has a signal, however many are drawn
    return c
