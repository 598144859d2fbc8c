"""Runs to be compared, those that differ in nothing but their seed together."""

import collections
import dataclasses
import functools
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from stgrpo.config import FIELDS, restored
from stgrpo.files import from_json
from stgrpo.report.load import RunData
from stgrpo.workdir import RUNTIME_FIELDS
from stgrpo.workdir.keys import counting

_SHOWN = 4  # fields in a label


@dataclasses.dataclass(frozen=True)
class Run:
    """A work directory, or what a file of outcomes has of one.

    Attributes:
        name: its folder's name, or more of its path where two have the same.
        data: what it holds.
        config: as it was written, JSON; empty without one.
    """

    name: str
    data: RunData
    config: Mapping[str, Any]

    @functools.cached_property
    def fields(self) -> Mapping[str, Any]:
        """Of its config, by their full names, those that say where it was computed left out; empty without one.

        Raises:
            TypeError, ValueError, KeyError, AttributeError: it is no config.
        """
        return counting(from_json(restored(self.config).to_json()), RUNTIME_FIELDS) if self.config else {}

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
