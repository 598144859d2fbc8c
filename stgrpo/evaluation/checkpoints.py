"""Checkpoints play whole episodes in layouts they have never seen."""

import dataclasses
import functools
from pathlib import Path

from ml_collections import ConfigDict

from stgrpo.console import ProgramLog
from stgrpo.data.tokenizer import Tokenizer
from stgrpo.evaluation.files import Evaluation
from stgrpo.evaluation.policies import LocalPolicy, evaluate_policy
from stgrpo.evaluation.records import BASE
from stgrpo.files import json_digest
from stgrpo.training.checkpointing import CheckpointMetadata, load_metadata
from stgrpo.training.policies import read_policy


def evaluate_checkpoint(
    config: ConfigDict, folder: Path, directory: Path, programs: ProgramLog | None = None
) -> list[Evaluation]:
    """Plays every suite of the config with the policy of one step folder; see `evaluate_policy`."""
    return evaluate_policy(config, checkpoint_policy(folder), directory, programs)


def checkpoint_policy(folder: Path) -> LocalPolicy:
    """The policy of one step folder.

    Raises:
        UserError: it is no checkpoint, or a damaged one.
    """
    record = load_metadata(folder)
    return LocalPolicy(
        name=record.stage if record.step else BASE,
        step=record.step,
        shape=record.shape,
        tokenizer=Tokenizer.from_files(record.tokenizer),
        read=functools.partial(read_policy, folder),
        identity=_identity(record),
    )


def _identity(record: CheckpointMetadata) -> dict[str, object]:
    policy = {"shape": dataclasses.asdict(record.shape), "tokenizer": record.tokenizer}
    return {
        "stage": record.stage if record.step else BASE,
        "step": record.step,
        "fingerprint": record.fingerprint,
        "base": record.base,
        "shape_and_tokenizer": json_digest(policy, 16),
    }
