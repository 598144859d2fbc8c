"""Models in Hugging Face folders play without training: the zero-shot rows, beside what was trained from them."""

import functools
import hashlib
from pathlib import Path

from ml_collections import ConfigDict

from stgrpo.config.environments import environment_of
from stgrpo.console import ProgramLog
from stgrpo.data.tokenizer import Tokenizer
from stgrpo.errors import UserError
from stgrpo.evaluation.files import Evaluation
from stgrpo.evaluation.policies import LocalPolicy, evaluate_policy
from stgrpo.evaluation.records import BASE, result_name
from stgrpo.evaluation.suites import longest_first_prompt, suites, with_room
from stgrpo.models.huggingface.weights import load_folder
from stgrpo.protocol import PureEnvironment
from stgrpo.training.inputs import check_given, given_tokenizer
from stgrpo.training.start import starting_shape


def evaluate_model(config: ConfigDict, directory: Path, programs: ProgramLog) -> list[Evaluation]:
    """Plays every suite with the model in `policy.path`, or in `model.path`; see `evaluate_policy`.

    Raises:
        UserError: the folder cannot be used, or an episode begins with a prompt that is over the limit.
    """
    config = playing_config(config)
    policy = model_policy(config)
    check_prompts(config, policy.tokenizer)
    return evaluate_policy(config, policy, directory, programs)


def check_prompts(config: ConfigDict, tokenizer: Tokenizer) -> None:
    """Looks at the first prompts of a `playing_config`: the model may have others than the run, or another tokenizer.

    Raises:
        UserError: one is over the limit.
    """
    if not isinstance(environment_of(config), PureEnvironment):
        return
    for suite in suites(config):
        length, layout = longest_first_prompt(config, suite, tokenizer)
        if length > config.limits.prompt:
            raise UserError(
                f"the first prompt of {layout} ({suite.name}) has {length} tokens for this model, over the limit of "
                f"{config.limits.prompt}: set --config.policy.prompt to {with_room(length)}"
            )


def playing_config(config: ConfigDict) -> ConfigDict:
    """The same with the model that plays, and its prompts, in place of the one that is trained."""
    played, policy = config.copy_and_resolve_references(), config.policy
    played.init_from = ""
    if policy.path:
        played.model.path, played.tokenizer.path = policy.path, ""
    played.prompt.instructions = policy.instructions or played.prompt.instructions
    played.prompt.history = policy.history or played.prompt.history
    played.limits.prompt = policy.prompt or played.limits.prompt
    return played


def model_policy(config: ConfigDict) -> LocalPolicy:
    """The model of a `playing_config`.

    Raises:
        UserError: the folder cannot be used, or not with these prompts and limits.
    """
    check_given(config, weights=True)
    tokenizer, folder = given_tokenizer(config), Path(config.model.path)
    assert tokenizer is not None  # since there is a path
    return LocalPolicy(
        name=model_name(config),
        step=0,
        shape=starting_shape(config, tokenizer.vocab_size),
        tokenizer=tokenizer,
        read=functools.partial(load_folder, folder),
        identity={"stage": BASE, "step": 0, "model": folder.name, "files": _digest(folder)},
    )


def model_name(config: ConfigDict) -> str:
    """The name of the model in files: "base" for the one that training starts from, else that of its folder.

    Raises:
        UserError: it would be that of a policy of the work directory.
    """
    if not (config.policy.name or config.policy.path):
        return BASE
    return result_name(config.policy.name or Path(config.policy.path).absolute().name)


def _digest(folder: Path) -> str:
    """Of all files that make the model and its tokenizer."""
    digest = hashlib.sha256()
    for file in sorted(folder.glob("*")):
        if file.suffix in (".safetensors", ".json", ".jinja", ".txt", ".model"):
            with file.open("rb") as opened:
                digest.update(f"{file.name} {hashlib.file_digest(opened, 'sha256').hexdigest()}\n".encode())
    return digest.hexdigest()[:16]
