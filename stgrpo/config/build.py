"""The config that the declarations make, and the shape of a model that it asks for."""

from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from stgrpo.config import experiment, model, playing, training
from stgrpo.config.field import Field, Section
from stgrpo.models.shapes import ModelShape, named_shapes

SECTIONS: Mapping[str, Section] = {
    "env": experiment.ENV,
    "expert": experiment.EXPERT,
    "policy": experiment.POLICY,
    "client": experiment.CLIENT,
    "prompt": experiment.PROMPT,
    "tokenizer": model.TOKENIZER,
    "model": model.MODEL,
    "lora": model.LORA,
    "limits": model.LIMITS,
    "mesh": model.MESH,
    "sft": training.SFT,
    "grpo": training.GRPO,
    "episodes": training.EPISODES,
    "critic": training.CRITIC,
    "reward": training.REWARD,
    "rollout": playing.ROLLOUT,
    "evaluation": playing.EVALUATION,
    "monitor": playing.MONITOR,
    "profile": playing.PROFILE,
}
WHOLE = experiment.WHOLE
FIELDS: Mapping[str, Field] = {
    **WHOLE.fields,
    **{f"{at}.{name}": field for at, section in SECTIONS.items() for name, field in section.fields.items()},
}
"""Every field by its full name, such as "grpo.kl_coef", in the order of the config."""

RENAMED: Mapping[str, str] = {
    "rollout.patience": "rollout.server_wait_s",
    "expert.kitchens": "expert.layouts",
}
"""Fields of sections that had another name: old work directories and checkpoints are read by this."""


def base() -> ConfigDict:
    """The paper's experiment on one task; experiments change it. Locked: a key that does not exist is an error."""
    config = ConfigDict(_defaults(WHOLE))
    for name, section in SECTIONS.items():
        config[name] = ConfigDict(_defaults(section))
    return config.lock()


def with_new_names(values: Mapping[str, object]) -> dict[str, object]:
    """The values of a config from JSON, those of renamed fields under their present names."""
    new: dict[str, Any] = {k: dict(value) if isinstance(value, Mapping) else value for k, value in values.items()}
    for was, now in RENAMED.items():
        (old_section, old), (section, name) = was.split("."), now.split(".")
        holder = new.get(old_section)
        if isinstance(holder, dict) and old in holder:
            value = holder.pop(old)
            new[section] = {name: value} | new.get(section, {})
    return new


def restored(values: Mapping[str, object]) -> ConfigDict:
    """The config that was written as JSON, maybe by an older version: fields that it lacks have their defaults."""
    config = base()
    with config.unlocked():
        config.update(ConfigDict(with_new_names(values), convert_dict=True))
    return config.lock()


def model_shape(config: ConfigDict, vocab_size: int) -> ModelShape:
    """The shape of a model that starts from random weights; a custom one gets the tokenizer's vocabulary."""
    m = config.model
    if m.name != "custom":
        return named_shapes()[m.name]
    return ModelShape(
        vocab_size=vocab_size,
        width=m.width,
        depth=m.depth,
        heads=m.heads,
        kv_heads=m.kv_heads,
        head_dim=m.head_dim,
        mlp_width=m.mlp_width,
        rope_theta=m.rope_theta,
        max_position=config.limits.prompt + config.limits.response,
    )


def _defaults(section: Section) -> dict[str, object]:
    return {name: field.default for name, field in section.fields.items()}
