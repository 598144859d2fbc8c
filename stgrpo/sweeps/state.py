"""Of each unit of a sweep, how it ended: a small file, so that those of other machines can be read too."""

import dataclasses
from pathlib import Path

from stgrpo.errors import UserError
from stgrpo.files import read_object, to_json, write_atomically
from stgrpo.sweeps.units import Unit

DONE, FAILED = "done", "failed"


@dataclasses.dataclass(frozen=True)
class State:
    """How a unit ended.

    Attributes:
        status: DONE or FAILED.
        seconds: that the last command took.
        said: by one that failed, its last line.
    """

    status: str
    seconds: float
    said: str = ""


def write_state(folder: Path, unit: Unit, state: State) -> None:
    """Keeps how a unit of the sweep in `folder` ended."""
    write_atomically(_file(folder, unit), to_json(dataclasses.asdict(state)) + "\n")


def read_state(folder: Path, unit: Unit) -> State | None:
    """How a unit ended; None where it did not, or its work directory is gone."""
    file = _file(folder, unit)
    if not file.is_file() or not (folder / unit.name / "config.json").is_file():
        return None
    try:
        return State(**read_object(file, "delete it"))
    except TypeError as error:
        raise UserError(f"{file} is no state of a sweep: delete it, and the unit is looked at again") from error


def is_done(folder: Path, unit: Unit) -> bool:
    """Whether nothing is left to do for a unit."""
    state = read_state(folder, unit)
    return state is not None and state.status == DONE


def log_file(folder: Path, name: str) -> Path:
    """What a unit has said."""
    return folder / "logs" / f"{name}.log"


def _file(folder: Path, unit: Unit) -> Path:
    return folder / "state" / f"{unit.name}.json"
