"""Work directories to be compared, those that differ in nothing but their seed together."""

import collections
import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stgrpo.config import FIELDS, restored
from stgrpo.errors import UserError
from stgrpo.evaluation.files import list_evaluations
from stgrpo.files import from_json, read_object
from stgrpo.report.load import RunData, load_run
from stgrpo.sweeps.plan import FILE, read_plan
from stgrpo.workdir import RUNTIME_FIELDS
from stgrpo.workdir.keys import counting

_SHOWN = 4  # fields in a label


@dataclasses.dataclass(frozen=True)
class Run:
    """A work directory.

    Attributes:
        name: its folder's name, or more of its path where two have the same.
        data: what it holds.
        fields: of its config, by their full names, those that say where it was computed left out; empty without one.
    """

    name: str
    data: RunData
    fields: Mapping[str, Any]

    @property
    def seed(self) -> int | None:
        """Of its training; None where that is not known."""
        return self.fields.get("seed")


@dataclasses.dataclass(frozen=True)
class Group:
    """Runs whose configs differ in their seed alone, in the order of the seeds.

    Attributes:
        label: what tells it from the other groups.
        runs: at least one.
    """

    label: str
    runs: tuple[Run, ...]

    @property
    def seeds(self) -> tuple[int | None, ...]:
        """Of its runs."""
        return tuple(run.seed for run in self.runs)


def read_runs(folders: Sequence[Path]) -> list[Run]:
    """The runs of some folders; a sweep stands for its points.

    Raises:
        UserError: a folder is none, or holds nothing that can be compared.
    """
    found: dict[Path, None] = {}
    for folder in folders:
        for place in _places(folder):
            found[place.absolute()] = None
    names = _names(list(found))
    return [Run(names[place], load_run(place), _fields(place / "config.json")) for place in found]


def _places(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise UserError(f"{folder} is no folder: give work directories, or the folder of a sweep")
    if not (folder / FILE).is_file():
        if not list_evaluations(folder / "evaluation") and not (folder / "metrics.jsonl").is_file():
            raise UserError(f"{folder} has no evaluation and no metrics.jsonl: give the folder of a run, or of a sweep")
        return [folder]
    points = [folder / "points" / name for name in read_plan(folder).points]
    if begun := [point for point in points if (point / "metrics.jsonl").is_file()]:
        return begun
    raise UserError(f"no point of the sweep {folder} has begun: run `stgrpo sweep` first")


def _names(places: Sequence[Path]) -> dict[Path, str]:
    """Of each its last part, or as many of its last parts as tell all of them apart."""
    for parts in itertools.count(1):
        names = {place: "/".join(place.parts[-parts:]) for place in places}
        if len(set(names.values())) == len(places):
            return names
    raise AssertionError("unreachable")


def _fields(file: Path) -> dict[str, Any]:
    if not file.is_file():
        return {}
    try:
        config = restored(read_object(file, "restore it"))
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise UserError(f"{file} is no config ({error}): restore it") from error
    return counting(from_json(config.to_json()), RUNTIME_FIELDS)


def groups_of(runs: Sequence[Run]) -> list[Group]:
    """The groups, in the order in which they were given first.

    A run with config and seed of one before it, as of another version of the code, is in another group.
    """
    found: dict[tuple[str, int], list[Run]] = {}
    for run in runs:
        config = str({name: value for name, value in run.fields.items() if name != "seed"} or run.name)
        number = next(n for n in itertools.count() if run.seed not in [r.seed for r in found.get((config, n), [])])
        found.setdefault((config, number), []).append(run)
    members = [sorted(group, key=lambda run: (run.seed is None, run.seed or 0)) for group in found.values()]
    return [Group(label, tuple(group)) for label, group in zip(_labels(members), members, strict=True)]


def differing(groups: Sequence[Sequence[Run]]) -> list[str]:
    """The fields in which groups differ, but for the seed, in the order of the config."""
    return [
        name
        for name in FIELDS
        if name != "seed" and len({str(group[0].fields.get(name)) for group in groups if group[0].fields}) > 1
    ]


def _labels(groups: Sequence[Sequence[Run]]) -> list[str]:
    """What tells each group from the others: its values of what differs, else the names of its runs."""
    fields = differing(groups)
    last = [name.rpartition(".")[2] for name in fields]
    short = {name: word if last.count(word) == 1 else name for name, word in zip(fields, last, strict=True)}
    labels = []
    for group in groups:
        values = [f"{short[name]}={group[0].fields[name]}" for name in fields if name in group[0].fields]
        told = 0 < len(values) <= _SHOWN and all(len(value) <= 40 for value in values)
        labels.append(", ".join(values) if told else group[0].name)
    counts = collections.Counter(labels)
    return [
        f"{label} ({group[0].name})" if counts[label] > 1 and label != group[0].name else label
        for label, group in zip(labels, groups, strict=True)
    ]
