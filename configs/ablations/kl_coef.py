"""β of 0.1 in place of 0.001: the policy is held a hundred times nearer to SFT.

More of it: `--sweep="grpo.kl_coef=0,0.001,0.01,0.1,1"` on configs/tiny.py.
"""

from ml_collections import ConfigDict
from tiny import get_config as tiny


def get_config(arg: str = "") -> ConfigDict:
    c = tiny(arg)
    c.grpo.kl_coef = 0.1
    return c
