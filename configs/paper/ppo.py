"""PPO in place of GRPO (arXiv 1707.06347), all else as in the paper's recipe: a critic that starts as the SFT policy.

    stgrpo run --config=configs/paper/ppo.py:burger,cpu --workdir=runs/ppo
    stgrpo run --config=configs/paper/ppo.py:burger --workdir=runs/ppo --config.model.path=Qwen2.5-1.5B-Instruct

Not in the paper. What its algorithm is, and how it differs from others', is in docs/losses.md.
"""

from ml_collections import ConfigDict
from recipe import TWINS, experiment


def get_config(arg: str = "") -> ConfigDict:
    """`arg`: TASK[,cpu|smoke], as of configs/paper/recipe.py."""
    c = experiment("configs/paper/ppo.py", arg)
    c.grpo.baseline, c.grpo.scale_by_std = "critic", False
    c.critic.learning_rate = 1e-3 if {*TWINS} & {*arg.split(",")} else 1e-5
    c.critic.warmup_rollouts = 2
    return c
