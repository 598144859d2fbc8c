"""Longer horizons: kitchens whose fewest steps are at least 50, 100 or 200, in training and in evaluation.

    stgrpo run --config=configs/ablations/horizons.py:100 --workdir=runs/horizon100

Prompts are two to eight times as long as the quick start's, and episodes four to fifteen times; not run by us yet.
"""

from ml_collections import ConfigDict
from tiny import from_scratch, smoke

from stgrpo.errors import UserError, nearest

PROMPTS = {"50": 512, "100": 960, "200": 1920}


def get_config(arg: str = "50") -> ConfigDict:
    """`arg`: 50, 100 or 200[,smoke]."""
    steps, _, kind = arg.partition(",")
    if steps not in PROMPTS or kind not in ("", "smoke"):
        raise UserError(f"configs/ablations/horizons.py has no variant {arg!r}: {nearest(steps, PROMPTS)}[,smoke]")
    c = from_scratch()
    c.env.family = f"horizon{steps}"
    c.env.tasks = ("double_cheese_burger",)  # the paper's longest, which has them all
    c.expert.trajectories = 600
    c.limits.prompt, c.limits.response = PROMPTS[steps], 64
    c.sft.steps, c.grpo.steps = 550, 160
    c.evaluation.layouts, c.evaluation.suites = 100, ("unseen",)
    return smoke(c) if kind else c
