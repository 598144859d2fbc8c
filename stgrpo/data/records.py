"""Expert trajectories on disk: one JSON object a line, written whole or not at all, read with every field checked."""

import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path

from stgrpo.errors import UserError
from stgrpo.files import from_json, replacing, to_json
from stgrpo.react.reward import GroundTruth, RewardWeights


@dataclass(frozen=True)
class Step:
    """One state of an expert trajectory: one single-turn problem and its solution.

    Attributes:
        observation: the state's text as a model sees it.
        valid_actions: in display order.
        reasoning: why the expert does what it does.
        action: the expert's action; a language model's need not be optimal.
        optimal_actions: every action that brings the goal one step nearer; None without a planner.
        distance: exact number of steps to the goal, before the action; None without a planner.
        distances: the same after each of the valid actions, None where the goal cannot be reached any more; None as a
            whole where it was not recorded (`expert.action_distances`).
    """

    observation: str
    valid_actions: tuple[str, ...]
    reasoning: str
    action: str
    optimal_actions: tuple[str, ...] | None
    distance: int | None
    distances: tuple[int | None, ...] | None = None

    def can_be_rewarded(self, target: str) -> bool:
        """Whether what `reward.target` asks for is known."""
        known = {"optimal": self.optimal_actions, "distance": self.distances}
        return target not in known or known[target] is not None

    def ground_truth(self, target: str, weights: RewardWeights) -> GroundTruth:
        """What responses to it are rewarded by."""
        asked = (self.valid_actions, self.action, self.optimal_actions)
        return GroundTruth(*asked, target, weights.format, weights.action, self.distances)


@dataclass(frozen=True)
class Trajectory:
    """The expert's way from the start of one layout to its goal."""

    task: str
    layout: str
    steps: tuple[Step, ...]


def write_trajectories(path: str | os.PathLike[str], trajectories: Iterable[Trajectory]) -> int:
    """Write trajectories, one a line; the file appears only when all of them are on disk.

    Returns:
        How many were written.
    """
    count = 0
    with replacing(Path(path)) as unfinished, unfinished.open("w", encoding="utf-8", errors="backslashreplace") as file:
        for trajectory in trajectories:
            file.write(to_json(asdict(trajectory), ensure_ascii=False) + "\n")
            count += 1
    return count


def read_trajectories(path: str | os.PathLike[str]) -> list[Trajectory]:
    """Read what `write_trajectories` wrote.

    Raises:
        UserError: if the file is absent or empty, or a line is not a whole trajectory; it names the line.
    """
    return list(stream_trajectories(path))


def stream_trajectories(path: str | os.PathLike[str]) -> Iterator[Trajectory]:
    """Read what `write_trajectories` wrote, one trajectory at a time.

    Raises:
        UserError: see `read_trajectories`; a line is looked at when it is its turn.
    """
    path, number = Path(path), 0
    if not path.is_file():
        raise UserError(f"{path} does not exist: run `stgrpo collect` with this work directory first")
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                yield _trajectory(from_json(line.rstrip(b"\n")))
            except ValueError as error:
                fix = "delete that line, or delete the file and run `stgrpo collect` again"
                what = error.msg if isinstance(error, json.JSONDecodeError) else error
                raise UserError(f"{path}:{number}: not a trajectory ({what}): {fix}") from error
    if not number:
        raise UserError(f"{path} holds no trajectory: delete it and run `stgrpo collect` again")


def _trajectory(value: object) -> Trajectory:
    entry = _fields(value, Trajectory)
    steps = entry["steps"]
    if not isinstance(steps, list) or not steps:
        raise ValueError("steps must be a list that is not empty")
    return Trajectory(
        task=_text(entry, "task"),
        layout=_text(entry, "layout"),
        steps=tuple(_step(step, index) for index, step in enumerate(steps)),
    )


def _step(value: object, index: int) -> Step:
    try:
        entry = _fields(value, Step)
        optimal, distance = _judged(entry)
        step = Step(
            observation=_text(entry, "observation"),
            valid_actions=_texts(entry, "valid_actions"),
            reasoning=_text(entry, "reasoning"),
            action=_text(entry, "action"),
            optimal_actions=optimal,
            distance=distance,
            distances=_distances(entry),
        )
        for action in (step.action, *(optimal or ())):
            if action not in step.valid_actions:
                raise ValueError(f"action {action!r} is not among the valid_actions")
    except ValueError as error:
        raise ValueError(f"step {index}: {error}") from error
    return step


def _judged(entry: dict[str, object]) -> tuple[tuple[str, ...] | None, int | None]:
    """What the planner says of a state: both figures, or none where there was no planner."""
    distance = entry["distance"]
    if distance is None and entry["optimal_actions"] is None:
        return None, None
    if not isinstance(distance, int) or isinstance(distance, bool) or distance < 1:
        raise ValueError(f"distance is {distance!r}, must be a whole number of at least 1, or null as optimal_actions")
    return _texts(entry, "optimal_actions"), distance


def _distances(entry: dict[str, object]) -> tuple[int | None, ...] | None:
    """The distances after the valid actions; None where there are none, as in files of older versions."""
    found = entry.get("distances")
    if found is None:
        return None
    whole = isinstance(found, list) and all(d is None or (type(d) is int and d >= 0) for d in found)
    if not whole or len(found) != len(_texts(entry, "valid_actions")):
        raise ValueError("distances must be a whole number of at least 0, or null, for each of the valid_actions")
    return tuple(found)


def _fields(value: object, record: type[Step] | type[Trajectory]) -> dict[str, object]:
    names = {field.name for field in fields(record)}
    needed = {field.name for field in fields(record) if field.default is MISSING}
    if not isinstance(value, dict):
        raise ValueError(f"expected an object with {', '.join(sorted(names))}")
    if missing := needed - value.keys():
        raise ValueError(f"{', '.join(sorted(missing))} missing")
    if unknown := value.keys() - names:
        raise ValueError(f"unknown field {', '.join(sorted(unknown))}")
    return value


def _text(entry: dict[str, object], name: str) -> str:
    value = entry[name]
    if not isinstance(value, str):
        raise ValueError(f"{name} must be text")
    return value


def _texts(entry: dict[str, object], name: str) -> tuple[str, ...]:
    value = entry[name]
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ValueError(f"{name} must be a list of texts")
    return tuple(value)
