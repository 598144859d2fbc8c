"""The file of a sweep: its config, and what each point sets. All that is done later goes by it, not by the command."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from stgrpo.config import FIELDS, restored
from stgrpo.errors import UserError
from stgrpo.files import from_json, read_object, to_json, write_atomically
from stgrpo.workdir import RUNTIME_FIELDS
from stgrpo.workdir.keys import counting

FILE = "sweep.json"
_OURS = (FILE, "lock", "points", "shared", "logs", "state")
Point = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Plan:
    """A sweep.

    Attributes:
        config: of all points, as JSON has it, before they set anything.
        points: what each sets, by its name, as JSON has it too.
    """

    config: Mapping[str, Any]
    points: Mapping[str, Point]

    @classmethod
    def of(cls, config: ConfigDict, points: Mapping[str, Mapping[str, object]]) -> "Plan":
        """The plan of a config and of what its points set."""
        return cls(from_json(config.to_json()), from_json(to_json(points)))

    @property
    def swept(self) -> tuple[str, ...]:
        """The fields that points set."""
        return tuple(next(iter(self.points.values())))

    def config_of(self, point: str) -> ConfigDict:
        """The whole config of a point, locked."""
        config = restored(self.config)
        config.update_from_flattened_dict({field: _typed(field, v) for field, v in self.points[point].items()})
        return config

    def fields_of(self, point: str) -> dict[str, Any]:
        """The same as JSON has it, nested."""
        return from_json(self.config_of(point).to_json())


def _typed(field: str, value: object) -> object:
    """A value from JSON in the type of its field."""
    default = FIELDS[field].default
    if isinstance(default, tuple) and isinstance(value, list):
        return tuple(value)
    return float(value) if isinstance(default, float) and isinstance(value, int) else value


def read_plan(folder: Path) -> Plan:
    """The sweep of a folder.

    Raises:
        UserError: it has none, or one that cannot be read.
    """
    file = folder / FILE
    if not file.is_file():
        raise UserError(f"--workdir={folder} is no sweep, it has no {FILE}: give the folder of one")
    found = read_object(file, "copy it again")
    try:
        plan = Plan(dict(found["config"]), {name: dict(point) for name, point in found["points"].items()})
        fields = {tuple(point) for point in plan.points.values()}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{file} is no plan of a sweep: restore it, or use another --workdir") from error
    if len(fields) != 1 or not set(*fields) <= set(FIELDS) or any("/" in name for name in plan.points):
        raise UserError(f"{file} is no plan of a sweep: restore it, or use another --workdir")
    return plan


def check_folder(folder: Path, plan: Plan) -> None:
    """Looks whether a sweep can be done in a folder: it has none yet, or this one, or this one with less points.

    Raises:
        UserError: it has another sweep, a run, or something else in it.
    """
    there = f"--workdir={folder}"
    if not folder.exists():
        return
    if not folder.is_dir():
        raise UserError(f"{there} is a file: give a folder")
    if not (folder / FILE).is_file():
        if (folder / "config.json").is_file():
            raise UserError(f"{there} is the work directory of a run, not of a sweep: give another")
        if more := sorted(path.name for path in folder.iterdir() if path.name not in _OURS):
            raise UserError(f"{there} is not empty ({more[0]}) and has no {FILE}: give a new or empty folder")
        return
    if why := _differs(read_plan(folder), plan):
        raise UserError(f"{there} has another sweep ({why}): use another --workdir")


def write_plan(folder: Path, plan: Plan) -> None:
    """Writes the file, unless it says the same."""
    text = to_json({"config": plan.config, "points": plan.points}, indent=1) + "\n"
    file = folder / FILE
    if not file.is_file() or file.read_text(encoding="utf-8") != text:
        write_atomically(file, text)


def _differs(theirs: Plan, mine: Plan) -> str:
    """What is not the same in a sweep that is there; empty where this one is it, or has more points."""
    for name in theirs.points:
        if name not in mine.points:
            lost = f"it has the point {name}, which this one has not"
            return lost if theirs.swept == mine.swept else f"it sweeps {', '.join(theirs.swept)}"
        old, new = (counting(plan.fields_of(name), RUNTIME_FIELDS) for plan in (theirs, mine))
        if different := [field for field in new if new[field] != old[field]]:
            return f"{different[0]}: {new[different[0]]!r} here, {old[different[0]]!r} there"
    return ""
