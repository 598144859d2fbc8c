"""SFT alone, the paper's ablation of GRPO: eight epochs of the expert's answers, and no rollout.

    stgrpo run --config=configs/paper/sft.py:burger,cpu --workdir=runs/sft
    stgrpo run --config=configs/paper/sft.py:burger --workdir=runs/sft --config.model.path=Qwen2.5-1.5B-Instruct

A run of configs/paper/recipe.py evaluates its SFT policy too; this one is for SFT without the cost of the rest. To
compare with: SR 0, .2, .6 and .1 on the four tasks in the order of docs/paper.md.
"""

from ml_collections import ConfigDict
from recipe import experiment


def get_config(arg: str = "") -> ConfigDict:
    """`arg`: TASK[,cpu|smoke], as of configs/paper/recipe.py."""
    c = experiment("configs/paper/sft.py", arg)
    c.grpo.epochs, c.grpo.steps = 0.0, 0
    return c
