"""Reads `benchmark.txt`: the tasks of the benchmark, their default kitchens and its ten test kitchens of each.

The file has facts of github.com/portal-cornell/robotouille (MIT, commit c8236a2; see NOTICE) in our own notation.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import resources

TESTING_SEEDS = (42, 84, 126, 168, 210, 252, 294, 336, 378, 420)


@dataclass(frozen=True)
class TaskText:
    """One task as it stands in the file.

    Attributes:
        name: our name of the task.
        path: the benchmark's.
        steps: the steps that the benchmark takes for optimal in the default kitchen.
        text: the goal in words.
        goal: the goal's atoms, as `kitchen.parse_goal` reads them.
        kitchens: "default", and the testing seeds where the benchmark tests this task, for `kitchen.parse_kitchen`.
    """

    name: str
    path: str
    steps: int
    text: str
    goal: str
    kitchens: Mapping[str, str]


def read_records() -> tuple[TaskText, ...]:
    """Returns the tasks in the order of the file."""
    text = resources.files("stgrpo.envs.robotouille.kitchen").joinpath("benchmark.txt").read_text(encoding="utf-8")
    fields: dict[str, str] = {}
    blocks: dict[str, dict[str, str]] = {}
    for line in _joined(text):
        if line.startswith("["):
            fields = blocks[line.strip("[]")] = {}
        else:
            field, _, value = line.partition(": ")
            fields[field] = value
    return tuple(
        TaskText(name, f.pop("path"), int(f.pop("steps")), f.pop("text"), f.pop("goal"), f)
        for name, f in blocks.items()
    )


def _joined(text: str) -> Iterator[str]:
    """Yields the lines that say something, each with its continuation."""
    whole = ""
    for line in text.splitlines():
        if line.startswith(" "):
            whole += f" {line.strip()}"
            continue
        if whole:
            yield whole
        whole = "" if line.startswith("#") else line
    if whole:
        yield whole
