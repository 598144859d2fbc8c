"""What a checkpoint says of itself, and how that is read."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stgrpo.errors import DamagedCheckpoint, RunError, UserError
from stgrpo.files import from_json, reason_of
from stgrpo.models.lora import Lora
from stgrpo.models.shapes import ModelShape

MISSING = (FileNotFoundError, NotADirectoryError, IsADirectoryError)
"""What the system says of a file that is not there: proof, where any other error is none."""


@dataclasses.dataclass(frozen=True)
class CheckpointMetadata:
    """What a checkpoint says of itself.

    Attributes:
        stage: "sft" or "grpo".
        step: updates (SFT) or rollouts (GRPO) done.
        total: of how many.
        shape: of the model.
        config: of the run, as JSON.
        tokenizer: its files, name to content.
        position: where the data goes on.
        reference: fingerprint of the frozen reference; empty for SFT.
        fingerprint: of the parameters, see `fingerprint`.
        lora: how the adapters are made that are all the checkpoint holds; None where it holds the whole model.
        base: identity of the frozen model under them.
        data: identity of the examples; empty of a checkpoint that is older than this entry.
        validation_sr: success rate in the validation layouts at this very step, in [0, 1]; None where none was played.
    """

    stage: str
    step: int
    total: int
    shape: ModelShape
    config: Mapping[str, Any]
    tokenizer: Mapping[str, str]
    position: int = 0
    reference: str = ""
    fingerprint: str = ""
    lora: Lora | None = None
    base: str = ""
    data: str = ""
    validation_sr: float | None = None

    @property
    def identity(self) -> str:
        """Of the policy, as a base or a reference: its fingerprint, after that of the base under its adapters."""
        return f"{self.base}+{self.fingerprint}" if self.lora else self.fingerprint


def load_metadata(folder: Path) -> CheckpointMetadata:
    """The record of one step folder.

    Raises:
        UserError: the folder is no checkpoint, or one of another version (DamagedCheckpoint: it is a damaged one).
        RunError: the disk does not let it be read now.
    """
    file = folder / "record" / "metadata"
    try:
        text = file.read_bytes()
    except MISSING as error:
        fix = "give the folder of one step, such as RUN/checkpoints/grpo/100"
        raise UserError(f"{folder} is not a checkpoint: {fix}") from error
    except OSError as error:
        raise unreadable(file, error) from error
    return _parsed(file, text)


def unreadable(what: Path, error: BaseException) -> RunError:
    """For what may be whole and cannot be read now, by whatever there is no proof in."""
    return RunError(f"{what} cannot be read now ({reason_of(error)}): nothing was changed; mend that and run again")


def _parsed(file: Path, text: bytes) -> CheckpointMetadata:
    try:
        values: dict[str, Any] = from_json(text)
        known = {field.name for field in dataclasses.fields(CheckpointMetadata)}
        if more := values.keys() - known:
            raise UserError(f"{file} was written by a newer version ({', '.join(sorted(more))}): use that")
        values["shape"] = ModelShape.from_dict(values["shape"])
        values["lora"] = _lora(lora) if (lora := values.get("lora")) else None
        return CheckpointMetadata(**values)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise DamagedCheckpoint(f"{file} is damaged ({reason_of(error)}): use another step") from error


def _lora(values: Mapping[str, Any]) -> Lora:
    return dataclasses.replace(Lora(**values), targets=tuple(values["targets"]))
