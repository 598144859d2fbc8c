"""An evaluation on disk: NAME.json, summary and settings; NAME.episodes.jsonl, a line an episode and a response."""

import dataclasses
import logging
import pathlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from stgrpo import processes
from stgrpo.errors import UserError
from stgrpo.evaluation import metrics, records
from stgrpo.files import from_json, to_json, write_atomically

log = logging.getLogger(__name__)
Settings = Mapping[str, Any]
EPISODES_SUFFIX = ".episodes.jsonl"


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """What `write_evaluation` wrote.

    Attributes:
        name: such as "grpo_small": the policy, an underscore, the set of layouts.
        summary: `metrics.Summary` of all episodes; what an older version wrote may lack figures.
        tasks: the same for each task by itself.
        settings: how the episodes were played, as the caller gave it: JSON.
        episodes: the episodes, with every response.
        protocol: hash of what was written down before they were played (`registration`); empty of older ones.
    """

    name: str
    summary: Mapping[str, Any]
    tasks: Mapping[str, Mapping[str, Any]]
    settings: Settings
    episodes: tuple[records.Episode, ...]
    protocol: str = ""


def _episode_lines(episodes: Iterable[records.Episode]) -> Iterable[str]:
    for index, episode in enumerate(episodes):
        head = {"kind": "episode", "episode": index, **records.episode_facts(episode)}
        yield to_json(head) + "\n"
        for turn in episode.turns:
            yield to_json({"kind": "step", "episode": index, **dataclasses.asdict(turn)}) + "\n"


def write_evaluation(
    directory: pathlib.Path,
    name: str,
    episodes: Sequence[records.Episode],
    *,
    settings: Settings,
    protocol: str = "",
) -> Evaluation:
    """Writes both files; the summary goes first away and last in, so that where it stands it fits the episodes.

    Args:
        directory: of the results.
        name: such as "grpo_small"; see `Evaluation`.
        episodes: in the order in which they are to be written.
        settings: JSON-able facts on how the episodes were played (policy, seed, temperature, layouts, ...).
        protocol: what `registration.register` gave.

    Returns:
        What a later `read_evaluation` gives.
    """
    tasks = sorted({episode.task for episode in episodes})
    by_task = {task: metrics.summarise([e for e in episodes if e.task == task]) for task in tasks}
    evaluation = Evaluation(name, metrics.summarise(episodes), by_task, dict(settings), tuple(episodes), protocol)
    head = {"name": name, "summary": evaluation.summary, "tasks": by_task, "settings": evaluation.settings}
    head |= {"protocol": protocol} if protocol else {}
    text = to_json(head, indent=2) + "\n"  # before any file is touched: the settings may not be JSON
    if not processes.is_first():
        return evaluation
    directory.mkdir(parents=True, exist_ok=True)
    (directory / f"{name}.json").unlink(missing_ok=True)
    write_atomically(directory / f"{name}{EPISODES_SUFFIX}", "".join(_episode_lines(episodes)))
    write_atomically(directory / f"{name}.json", text)
    return evaluation


def read_episodes(path: pathlib.Path) -> list[records.Episode]:
    """The episodes of one NAME.episodes.jsonl.

    Raises:
        UserError: the file does not exist, or a line is damaged; names file and line.
    """
    if not path.is_file():
        raise UserError(f"{path} does not exist: run the evaluate stage to write it")
    heads: list[dict[str, Any]] = []
    turns: list[list[Mapping[str, Any]]] = []
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                _collect_line(from_json(line), heads, turns)
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise UserError(f"{path}:{number} is not an episode or a step ({error}): evaluate again") from error
    try:
        return [records.episode_from_facts(head, steps) for head, steps in zip(heads, turns, strict=True)]
    except TypeError as error:
        raise UserError(f"{path} was written by another version ({error}): evaluate again") from error


def _collect_line(row: dict[str, Any], heads: list[dict[str, Any]], turns: list[list[Mapping[str, Any]]]) -> None:
    kind, index = row.pop("kind"), row.pop("episode")
    if kind == "episode" and index == len(heads):
        heads.append(row)
        turns.append([])
    elif kind == "step" and index == len(heads) - 1:
        turns[-1].append(row)
    else:
        raise ValueError(f"kind {kind!r} of episode {index!r} is out of place")


def read_evaluation(directory: pathlib.Path, name: str) -> Evaluation:
    """Reads NAME.json and NAME.episodes.jsonl.

    Raises:
        UserError: a file is missing or damaged.
    """
    path = directory / f"{name}.json"
    if not path.is_file():
        raise UserError(f"{path} does not exist: run the evaluate stage to write it")
    try:
        head = from_json(path.read_bytes())
        tables = head["summary"], head["tasks"], head["settings"], *head["tasks"].values()
        if not all(isinstance(table, dict) for table in tables):
            raise TypeError("not all of it are objects")
        if not isinstance(head["name"], str):
            raise TypeError("its name is no text")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path} is not the summary of an evaluation ({error}): evaluate again") from error
    episodes = tuple(read_episodes(directory / f"{name}{EPISODES_SUFFIX}"))
    settings, protocol = head["settings"], str(head.get("protocol", ""))
    return Evaluation(head["name"], head["summary"], head["tasks"], settings, episodes, protocol)


def list_evaluations(directory: pathlib.Path) -> list[str]:
    """Names of the complete evaluations in a directory, sorted; none where it does not exist."""
    names = [path.stem for path in directory.glob("*.json")]
    return sorted(name for name in names if (directory / f"{name}{EPISODES_SUFFIX}").is_file())


def reusable(
    directory: pathlib.Path, wanted: Mapping[str, Settings], *, fits: Callable[[Settings, Settings], bool]
) -> list[Evaluation]:
    """Those of the wanted evaluations that are there, whole, and were played as they would be now.

    Args:
        directory: of the results.
        wanted: settings by name.
        fits: whether settings in a file are those that are wanted.
    """
    found, there = [], list_evaluations(directory)
    for name in wanted:
        try:
            if name in there and fits((result := _whole(directory, name)).settings, wanted[name]):
                found.append(result)
        except UserError as error:
            log.warning("%s", str(error).replace(": evaluate again", ": it is played again"))
    return found


def _whole(directory: pathlib.Path, name: str) -> Evaluation:
    """An evaluation whose summary is that of its episodes, in what every version counts alike."""
    result = read_evaluation(directory, name)
    found = metrics.summarise(result.episodes)
    if any(result.summary.get(count) != found[count] for count in ("n", "successes", "responses")):
        raise UserError(f"{directory / name}{EPISODES_SUFFIX} has not the episodes of the summary: evaluate again")
    return result
