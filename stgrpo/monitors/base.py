"""The four methods of a writer of metrics, and what it is told at the start."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol


@dataclasses.dataclass(frozen=True)
class RunInfo:
    """What a writer is told when a stage begins or goes on.

    Attributes:
        stage: "collect", "sft", "grpo" or "evaluate".
        step: the last one that stands. What was written of later ones is void, they are done again; -1: all of it.
        folder: the work directory; a writer makes itself a folder in it.
        config: of the run, nested.
        environment: versions, commit and devices; empty where nobody recorded them.
    """

    stage: str
    step: int
    folder: Path
    config: Mapping[str, object]
    environment: Mapping[str, object]


class MetricWriter(Protocol):
    """Takes the figures of one stage; any class with these methods and a constructor without arguments can be one.

    An error that it raises is a warning, and the end of this writer but not of the stage.
    """

    def start(self, run: RunInfo) -> None:
        """Comes once, before everything else."""

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Takes the figures of one step, all of them finite; steps grow. It is the last call of the step."""

    def table(self, step: int, name: str, columns: Mapping[str, object]) -> None:
        """Takes a table for people to read: a list has a value a row, a single value stands in every row."""

    def close(self) -> None:
        """Comes last, however the stage ended."""


class LineWriter(MetricWriter, Protocol):
    """What writes metrics.jsonl, which a checkpoint waits for."""

    def sync(self) -> None:
        """Returns when what was written outlives the machine, not only the process."""


OF_THE_MACHINE = ("seconds", "programs", "machine/")
"""How the names of figures begin that are of the process and the devices that made a step, not of the step."""


def repeatable(values: Mapping[str, object]) -> dict[str, object]:
    """The figures of a step that the same command gives again to the last bit, killed and resumed or not."""
    return {name: value for name, value in values.items() if not name.startswith(OF_THE_MACHINE)}


class Nowhere:
    """A writer that writes nothing: that of a process which is not the first of its run."""

    def start(self, run: RunInfo) -> None:
        """See `MetricWriter`."""

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """See `MetricWriter`."""

    def table(self, step: int, name: str, columns: Mapping[str, object]) -> None:
        """See `MetricWriter`."""

    def sync(self) -> None:
        """See `LineWriter`."""

    def close(self) -> None:
        """See `MetricWriter`."""


def table_rows(columns: Mapping[str, object]) -> list[tuple[object, ...]]:
    """The rows of a table, whose single values stand in each."""
    count = max((len(c) for c in columns.values() if isinstance(c, list)), default=1)
    return list(zip(*(c if isinstance(c, list) else [c] * count for c in columns.values()), strict=True))
