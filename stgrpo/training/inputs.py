"""What a run learns from, by its config: the tokenizer, the form of its prompts, its examples."""

import hashlib
from collections.abc import Iterable
from pathlib import Path

import jax
import numpy as np
from ml_collections import ConfigDict

from stgrpo.config.environments import environment_of
from stgrpo.data.examples import Example, build_examples
from stgrpo.data.records import read_trajectories
from stgrpo.data.tokenizer import Tokenizer
from stgrpo.errors import UserError
from stgrpo.models.huggingface.config import check_end_tokens
from stgrpo.models.huggingface.weights import check_folder
from stgrpo.protocol import instructions_of
from stgrpo.react.prompt import PromptStyle
from stgrpo.training.checkpointing import CheckpointMetadata, load_metadata
from stgrpo.training.context import RunContext
from stgrpo.training.frozen_states import ONE_PROCESS
from stgrpo.training.start import starting_shape


def given_tokenizer(config: ConfigDict) -> Tokenizer | None:
    """The tokenizer that the config names or the model brings; None where one is to be trained on the data."""
    given = config.tokenizer.path or config.init_from or config.model.path
    if given and given == config.init_from:
        return Tokenizer.from_files(load_metadata(Path(given)).tokenizer)
    return Tokenizer.load(given) if given else None


def check_given(config: ConfigDict, *, weights: bool) -> None:
    """Looks at the model and the tokenizer that a new run is given.

    Args:
        config: of the run.
        weights: whether the model is to be there too; of its tensors only the description is read.

    Raises:
        UserError: one of their files cannot be used, or they do not go together.
    """
    if weights and config.sft.keep_frozen and jax.process_count() > 1:
        raise UserError(ONE_PROCESS)
    tokenizer = given_tokenizer(config)
    if tokenizer is None:
        return
    tokenizer.check_style(prompt_style(config))
    if not weights:
        return
    shape = starting_shape(config, tokenizer.vocab_size)
    if config.model.path and not config.init_from:
        check_folder(config.model.path, shape)
        if not config.tokenizer.path:
            check_end_tokens(config.model.path, tokenizer)


def prompt_style(config: ConfigDict) -> PromptStyle:
    """How a state becomes a prompt in this run."""
    about = instructions_of(environment_of(config))
    return PromptStyle(instructions=config.prompt.instructions, history=config.prompt.history, about=about)


def load_examples(setting: RunContext, split: str, *, trajectories: int = 0) -> list[Example]:
    """The single-turn examples of one split, over all tasks of the config.

    Args:
        setting: of the stage.
        split: "train" or "validation".
        trajectories: of each task, the first ones; 0 for all.
    """
    config, examples = setting.config, []
    setting.tokenizer.check_style(prompt_style(config))
    for task in config.env.tasks:
        found = read_trajectories(setting.workdir.data(task, split))
        examples += build_examples(
            found[: trajectories or None],
            setting.tokenizer,
            prompt_style(config),
            max_prompt_len=config.limits.prompt,
            max_response_len=config.limits.response,
        )
    return examples


def examples_identity(examples: Iterable[Example]) -> str:
    """Of what is learned from: it changes with a token of an example, so with data, tokenizer and form of prompts."""
    digest = hashlib.sha256()
    for example in examples:
        for ids in (example.prompt_ids, example.response_ids):
            digest.update(np.asarray([len(ids), *ids], "<i8").tobytes())
    return digest.hexdigest()[:16]


def check_same_data(whose: Path, record: CheckpointMetadata, identity: str) -> None:
    """Raises a UserError if a checkpoint was trained on other examples than those at hand."""
    if record.data not in ("", identity):
        raise UserError(
            f"{whose}/{record.step} was trained on other examples ({record.data} there, {identity} in data now): "
            "put the data and the tokenizer back, or use another --workdir"
        )
