"""Groups of 4 and twice as many of them: as many responses a rollout, from more states.

More of it: `--sweep="grpo.group_size=2,4,8,16"` on configs/tiny.py, at unequal cost.
"""

from ml_collections import ConfigDict
from tiny import get_config as tiny


def get_config(arg: str = "") -> ConfigDict:
    c = tiny(arg)
    c.grpo.group_size, c.grpo.prompts = c.grpo.group_size // 2, 2 * c.grpo.prompts
    return c
