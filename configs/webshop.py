"""WebShop's text mode (arXiv 2207.01206) by the same method: SFT on an expert's single turns, then single-turn GRPO.

Goals are synthetic ones for the products of the benchmark's small setting; those of people, on which published results
are, are not at hand, so scores are not comparable with them (docs/webshop.md). With the data:

    stgrpo run --config=configs/webshop.py:1.5b --workdir=runs/webshop --config.model.path=FOLDER \
        --config.env.data=PRODUCTS

Without data, in a small catalogue of our own, from random weights, on a CPU:

    stgrpo run --config=configs/webshop.py:tiny --workdir=runs/webshop_tiny
    stgrpo run --config=configs/webshop.py:smoke --workdir=runs/smoke    every stage in two minutes; nothing is learned

`1.5b` has not been run by us; what `tiny` gave is in docs/webshop.md.
"""

from ml_collections import ConfigDict
from qwen2_5 import on_accelerators
from tiny import from_scratch, smoke

from stgrpo.config import base
from stgrpo.errors import UserError, nearest

MODELS = {"1.5b": "qwen2.5-1.5b", "llama3-8b": "llama3-8b"}


def get_config(arg: str = "tiny") -> ConfigDict:
    """`arg`: "tiny", "smoke", or "1.5b" and "llama3-8b" for a published model and the benchmark's products."""
    if arg in MODELS:
        return published(MODELS[arg])
    if arg == "tiny":
        return tiny()
    if arg == "smoke":
        c = smoke(tiny())
        c.sft.group_by_length = False  # fewer lengths, so fewer programs to compile
        return c
    raise UserError(f"configs/webshop.py has no variant {arg!r}: {nearest(arg, [*MODELS, 'tiny', 'smoke'])}")


def webshop(c: ConfigDict) -> ConfigDict:
    """What all variants share."""
    c.env.name = "webshop"
    c.env.tasks = ("shop",)
    c.evaluation.suites = ("unseen",)
    return c


def published(model: str) -> ConfigDict:
    """The experiment with a published model."""
    c = webshop(base())
    c.env.family = "goals"
    c.expert.trajectories = 1000
    c.expert.validation = 100
    c.evaluation.layouts = 500  # as many as published results have
    on_accelerators(c, model)
    c.limits.prompt = 4096
    c.limits.response = 128
    c.sft.row_tokens = 8192
    c.sft.epochs = 2
    c.grpo.row_tokens = 8192
    c.grpo.prompts = 64
    c.grpo.epochs = 4
    return c


def tiny() -> ConfigDict:
    """A model of 0.7 million parameters from random weights, in our own catalogue."""
    c = webshop(from_scratch())
    c.env.family = "made"
    c.expert.trajectories = 900
    c.expert.validation = 25
    c.limits.prompt = 768
    c.limits.response = 64
    c.sft.steps = 400
    c.sft.group_by_length = True
    c.grpo.steps = 40
    c.grpo.validate_every = 20
    c.grpo.validation_layouts = 20
    c.evaluation.layouts = 100
    return c
