"""The runs that a command line names: work directories, sweeps, files of outcomes."""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Sequence
from pathlib import Path

from stgrpo.comparison.outcomes import read_outcomes
from stgrpo.comparison.runs import Run
from stgrpo.errors import UserError
from stgrpo.evaluation.files import list_evaluations
from stgrpo.files import read_object
from stgrpo.report.load import load_run
from stgrpo.sweeps.plan import FILE, read_plan


def read_runs(folders: Sequence[Path]) -> list[Run]:
    """The runs of some folders; a sweep stands for its points, a file of outcomes for the runs in it.

    Raises:
        UserError: a folder is none, or holds nothing that can be compared.
    """
    found: dict[Path, Callable[[str], Run]] = {}
    for folder in folders:
        if folder.is_file():
            inside = {run.data.workdir.absolute(): run for run in read_outcomes(folder)}
            found |= {place: functools.partial(_renamed, run) for place, run in inside.items()}
        else:
            found |= {place.absolute(): functools.partial(_read, place) for place in _places(folder)}
    names = _names(list(found))
    return [make(names[place]) for place, make in found.items()]


def _renamed(run: Run, name: str) -> Run:
    return dataclasses.replace(run, name=name)


def _places(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise UserError(f"{folder} is no folder: give work directories, the folder of a sweep, or a file of outcomes")
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


def _read(place: Path, name: str) -> Run:
    file = place / "config.json"
    run = Run(name, load_run(place), read_object(file, "restore it") if file.is_file() else {})
    try:
        _ = run.fields
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise UserError(f"{file} is no config ({error}): restore it") from error
    return run
