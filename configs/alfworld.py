"""ALFWorld's text games (arXiv 2010.03768) by the same method: SFT on an expert's single turns, then single-turn GRPO.

The expert is the one that knows only what it has seen. Evaluated on the 140 games of valid_seen and the 134 of
valid_unseen, 50 steps at most, as published results are; `alfworld-download` gets the games (docs/alfworld.md):

    stgrpo run --config=configs/alfworld.py:1.5b --workdir=runs/alfworld --config.model.path=FOLDER \
        --config.env.data=GAMES

Without data, in small rooms of our own, from random weights, on a CPU:

    stgrpo run --config=configs/alfworld.py:tiny --workdir=runs/alfworld_tiny
    stgrpo run --config=configs/alfworld.py:smoke --workdir=runs/smoke    every stage in a minute; nothing is learned

The runs with published models were not made by us for want of weights; what `tiny` gave is in docs/alfworld.md.
"""

from ml_collections import ConfigDict
from qwen2_5 import on_accelerators
from tiny import from_scratch, smoke

from stgrpo import envs
from stgrpo.config import base
from stgrpo.errors import UserError, nearest

MODELS = {"1.5b": "qwen2.5-1.5b", "llama3-8b": "llama3-8b"}
TASKS = envs.get("alfworld").tasks()
TINY_TASKS = ("pick_and_place_simple", "look_at_obj_in_light")  # the shortest


def get_config(arg: str = "tiny") -> ConfigDict:
    """`arg`: "tiny", "smoke", or "1.5b" and "llama3-8b" for a published model and the data set's games."""
    if arg in MODELS:
        return published(MODELS[arg])
    if arg == "tiny":
        return tiny()
    if arg == "smoke":
        return smoke(tiny())
    raise UserError(f"configs/alfworld.py has no variant {arg!r}: {nearest(arg, [*MODELS, 'tiny', 'smoke'])}")


def alfworld(c: ConfigDict) -> ConfigDict:
    """What all variants share."""
    c.env.name = "alfworld"
    c.env.tasks = TASKS
    return c


def published(model: str) -> ConfigDict:
    """The experiment with a published model."""
    c = alfworld(base())
    c.env.family = "games"
    c.expert.trajectories = 250  # of the 308 games that the rarest task has
    c.expert.validation = 12
    c.evaluation.suites = ("benchmark",)
    on_accelerators(c, model)
    c.limits.prompt = 2048
    c.limits.response = 128
    c.sft.row_tokens = 4096
    c.sft.epochs = 2
    c.grpo.row_tokens = 4096
    c.grpo.prompts = 64
    c.grpo.epochs = 4
    return c


def tiny() -> ConfigDict:
    """A model of 0.7 million parameters from random weights, on two tasks in small rooms of our own."""
    c = alfworld(from_scratch())
    c.env.tasks = TINY_TASKS
    c.env.family = "small"
    c.expert.trajectories = 800
    c.expert.validation = 25
    c.limits.prompt = 320
    c.limits.response = 48
    c.sft.steps = 400
    c.sft.group_by_length = True
    c.grpo.steps = 40
    c.grpo.validate_every = 20
    c.grpo.validation_layouts = 20
    c.evaluation.layouts = 100
    c.evaluation.suites = ("unseen",)
    return c
