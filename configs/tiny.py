"""The whole method on a laptop's CPU: small burger kitchens, a model of half a million parameters from scratch."""

from ml_collections import ConfigDict

from stgrpo.config import base


def get_config(arg: str = "") -> ConfigDict:
    c = base()
    c.env.family = "small"
    c.expert.trajectories = 1500
    c.expert.validation = 50
    c.prompt.instructions = "none"
    c.tokenizer.vocab_size = 1024
    c.model.name = "custom"
    c.model.width = 128
    c.model.depth = 3
    c.limits.prompt = 320
    c.limits.response = 96
    c.sft.batch = 32
    c.sft.steps = 400
    c.sft.learning_rate = 2e-3
    c.grpo.prompts = 16
    c.grpo.group_size = 8
    c.grpo.steps = 300
    c.grpo.learning_rate = 3e-4
    c.grpo.validate_every = 50
    c.grpo.validation_layouts = 50
    c.evaluation.layouts = 200
    c.evaluation.suites = ("unseen",)
    return c
