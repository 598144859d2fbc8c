"""The whole method on a laptop's CPU: small burger kitchens, a model of 0.7 million parameters from scratch.

A model without pretraining cannot learn from the paper's 100 trajectories in the benchmark's own kitchens, so this
experiment has small kitchens (3-5 stations of any kind, at most one distractor, every start) and many of them; those it
is tested in are unseen, up to renaming.

    stgrpo run --config=configs/tiny.py --workdir=runs/tiny
    stgrpo run --config=configs/tiny.py:smoke --workdir=runs/smoke    every stage in a minute; nothing is learned
"""

from ml_collections import ConfigDict

from stgrpo.config import base
from stgrpo.errors import UserError


def get_config(arg: str = "") -> ConfigDict:
    """`arg`: "" for the experiment, "smoke" for a few steps of each stage."""
    c = from_scratch()
    c.env.family = "small"
    c.expert.trajectories = 1500
    c.expert.validation = 50
    c.limits.prompt = 256
    c.limits.response = 48
    c.sft.optimiser = c.grpo.optimiser = "muon"  # fewer updates than AdamW takes (docs/speedrun.md)
    c.sft.learning_rate, c.grpo.learning_rate = 8e-3, 4e-4
    c.sft.steps = 350  # three quarters of an epoch, and short of what SFT could reach, to leave GRPO something to do
    c.grpo.steps = 80
    c.grpo.validate_every = 40
    c.grpo.validation_layouts = 50
    c.evaluation.layouts = 200
    c.evaluation.suites = ("unseen",)
    if arg == "smoke":
        return smoke(c)
    if arg:
        raise UserError(f"configs/tiny.py has no variant {arg!r}: use none or :smoke")
    return c


def from_scratch() -> ConfigDict:
    """A model of 0.7 million parameters from random weights, and how it is trained, in any environment."""
    c = base()
    c.prompt.instructions = "none"
    c.tokenizer.vocab_size = 1024
    c.model.name = "custom"
    c.model.width = 128
    c.model.depth = 3
    c.model.remat = False
    c.sft.batch = 32
    c.sft.learning_rate = 2e-3
    c.sft.prompt_weight = 1.0  # nothing is pretrained: the prompt is where looking up is learned fastest
    c.grpo.prompts = 16
    c.grpo.group_size = 8
    c.grpo.learning_rate = 1e-4  # 3e-4 loses a tenth of the reward in its first twenty steps
    c.grpo.warmup = 0.05
    c.grpo.resample = 4  # four groups in five are all right and teach nothing
    return c


def smoke(c: ConfigDict) -> ConfigDict:
    """The same experiment, as small as it can be and still pass through all of the code."""
    c.expert.trajectories = 8
    c.expert.validation = 2
    c.model.width = 32
    c.model.depth = 2
    c.model.heads = 2
    c.model.kv_heads = 1
    c.model.head_dim = 16
    c.model.mlp_width = 64
    c.sft.batch = 8
    c.sft.steps = 6
    c.sft.checkpoint_every = 2
    c.grpo.prompts = 8
    c.grpo.group_size = 4
    c.grpo.steps = 6
    c.grpo.checkpoint_every = 2
    c.grpo.validate_every = 3
    c.grpo.validation_layouts = 2
    c.evaluation.layouts = 4
    return c
