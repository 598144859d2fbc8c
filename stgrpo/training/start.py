"""Where parameters start: a checkpoint (`init_from`), a Hugging Face folder (`model.path`), or random values."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import jax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from stgrpo.config import model_shape
from stgrpo.data.tokenizer import Tokenizer
from stgrpo.errors import UserError
from stgrpo.models.attention.xla import XLA, AttentionCore
from stgrpo.models.huggingface.config import read_shape
from stgrpo.models.random import random_key
from stgrpo.models.shapes import ModelShape
from stgrpo.models.sharding import abstract_tree
from stgrpo.models.transformer import Transformer
from stgrpo.training.checkpointing import load_metadata
from stgrpo.training.policies import read_start


def starting_shape(config: ConfigDict, vocab_size: int = 0) -> ModelShape:
    """The shape of the model that a new run starts from.

    Args:
        config: the experiment.
        vocab_size: of its tokenizer; a custom model is made that large, any other must hold it. 0 where there is none
            yet: then that of the config.

    Raises:
        UserError: the tokenizer or the limits do not fit the model, or `init_from` is not the model of the config.
    """
    if config.model.path:
        shape = read_shape(config.model.path)
    else:
        shape = model_shape(config, vocab_size or config.tokenizer.vocab_size)
    if vocab_size > shape.vocab_size:
        raise UserError(
            f"the tokenizer has {vocab_size} tokens, the model's vocabulary {shape.vocab_size}: use the model's own"
        )
    needed = config.limits.prompt + config.limits.response
    if needed > shape.max_position:
        raise UserError(
            f"limits.prompt + limits.response = {needed} is over the model's {shape.max_position} positions: lower them"
        )
    if config.init_from:
        found = load_metadata(Path(config.init_from)).shape
        free = ("max_position", "tokens") if vocab_size else ("max_position", "tokens", "vocab_size")
        _check_same(config.init_from, found, shape, free=free)
        shape = dataclasses.replace(found, max_position=shape.max_position)
    return shape.with_tokens(vocab_size)


def starting_params(config: ConfigDict, abstract: Transformer, tokenizer: Tokenizer) -> tuple[Transformer, str] | None:
    """The given parameters of a new run, on the shardings of `abstract`, and their identity; None for random ones.

    Raises:
        UserError: they cannot be read, or the checkpoint was trained with another tokenizer.
    """
    if config.init_from:
        record = load_metadata(Path(config.init_from))
        if Tokenizer.from_files(record.tokenizer).base.get_vocab() != tokenizer.base.get_vocab():
            raise UserError(
                f"init_from={config.init_from} was trained with another tokenizer: leave tokenizer.path empty"
            )
    if config.init_from or config.model.path:
        return read_start(config.init_from, config.model.path, abstract)
    return None


def abstract_model(shape: ModelShape, mesh: Mesh, *, core: AttentionCore = XLA) -> Transformer:
    """A model as shapes with shardings, for parameters to be read onto; `core` matters where it is then run."""
    return abstract_tree(jax.eval_shape(lambda: Transformer(shape, random_key(0), core=core)), shape, mesh)


def _check_same(folder: str, found: ModelShape, wanted: ModelShape, *, free: Sequence[str]) -> None:
    there, here = dataclasses.asdict(found), dataclasses.asdict(wanted)
    differ = [f"{k}={there[k]} there, {here[k]} here" for k in there if there[k] != here[k] and k not in free]
    if differ:
        raise UserError(f"init_from={folder} is another model ({'; '.join(differ)}): set config.model to its shape")
