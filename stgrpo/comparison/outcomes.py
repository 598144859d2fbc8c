"""How every episode of some runs ended, in one small file that is compared as the runs themselves are.

A JSON-lines file: "layouts" are those that some evaluation played of a task, by their digest; a "run" is a config, what
it ran on, and of each evaluation and task the steps of each episode and which of them failed how. What was seen and
said is not in it, nor are the curves of training.
"""

import dataclasses
import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from stgrpo.comparison.runs import Run
from stgrpo.errors import UserError
from stgrpo.evaluation.files import Evaluation
from stgrpo.evaluation.metrics import summarise
from stgrpo.evaluation.records import Episode, episode_from_facts
from stgrpo.evaluation.registration import Registration
from stgrpo.files import from_json, json_digest, to_json, write_atomically
from stgrpo.report.environment import find_environment
from stgrpo.report.load import RunData, flatten

_SHARED = ("layout", "cap", "optimal_steps")  # of an episode, the same for all policies
Json = dict[str, Any]


def write_outcomes(file: Path, runs: Sequence[Run]) -> None:
    """Writes the runs' outcomes; the evaluations alone that are whole.

    Raises:
        UserError: a run has no config, so that nobody could say of what these are the outcomes.
        RunError: the disk does not take the file.
    """
    layouts: dict[str, Json] = {}
    lines = [_run_line(run, layouts) for run in runs]
    tables = [{"kind": "layouts", "digest": digest, **table} for digest, table in layouts.items()]
    write_atomically(file, "".join(to_json(line) + "\n" for line in (*tables, *lines)))


def _run_line(run: Run, layouts: dict[str, Json]) -> Json:
    data = run.data
    if not run.config:
        raise UserError(f"{data.workdir} has no config.json: give --outcomes runs that say what they are")
    used = {(name, evaluation.protocol) for name, evaluation in data.evaluations.items()}
    return {
        "kind": "run",
        "name": run.name,
        "config": run.config,
        "environment": data.environment,
        "evaluations": {name: _columns(found, layouts) for name, found in data.evaluations.items()},
        "protocols": [dataclasses.asdict(line) for key, line in data.registrations.items() if key in used],
    }


def _columns(found: Evaluation, layouts: dict[str, Json]) -> Json:
    tasks = {task: _outcomes([e for e in found.episodes if e.task == task], layouts) for task in found.tasks}
    return {"protocol": found.protocol, "settings": found.settings, "tasks": tasks}


def _outcomes(episodes: Sequence[Episode], layouts: dict[str, Json]) -> Json:
    """Columns; those that all policies have in common go to `layouts`, once."""
    table = {name: [getattr(episode, name) for episode in episodes] for name in _SHARED}
    digest = json_digest(table)
    layouts[digest] = table
    failures: dict[str, list[int]] = {}
    for number, episode in enumerate(episodes):
        if not episode.success:
            failures.setdefault(episode.failure, []).append(number)
    found: Json = {"layouts": digest, "steps": [episode.steps for episode in episodes], "failures": failures}
    scores = [episode.score for episode in episodes]
    return found | ({"scores": scores} if any(score is not None for score in scores) else {})


def read_outcomes(file: Path) -> list[Run]:
    """The runs of a file, their names those that they had, without turns and curves.

    Raises:
        UserError: the file is none of these, or is damaged; it is named with the line.
    """
    layouts: dict[str, Json] = {}
    found = []
    for number, text in enumerate(file.read_bytes().splitlines(), start=1):
        try:
            line = from_json(text)
            if line["kind"] == "layouts":
                layouts[line["digest"]] = line
            elif line["kind"] == "run":
                found.append(_run(file, line, layouts))
            else:
                raise ValueError(f"{line['kind']!r} is no kind of line")
        except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
            fix = "give one that `stgrpo compare --outcomes` wrote, or a work directory"
            raise UserError(f"{file}:{number} is no line of outcomes ({error}): {fix}") from error
    if not found:
        raise UserError(f"{file} holds no run: give one that `stgrpo compare --outcomes` wrote, or a work directory")
    return found


def _run(file: Path, line: Json, layouts: Mapping[str, Json]) -> Run:
    notes: list[str] = []
    config = flatten(line["config"])
    protocols = [Registration(**protocol) for protocol in line["protocols"]]
    data = RunData(
        workdir=file / line["name"],
        config=config,
        environment=flatten(line["environment"]),
        played=find_environment(config, notes),
        curves={},
        evaluations={name: _evaluation(name, found, layouts) for name, found in line["evaluations"].items()},
        registrations={(protocol.evaluation, protocol.hash): protocol for protocol in protocols},
        expert=(),
        analysis=None,
        notes=tuple(notes),
    )
    run = Run(line["name"], data, line["config"])
    _ = run.fields  # raises for what is no config
    return run


def _evaluation(name: str, found: Json, layouts: Mapping[str, Json]) -> Evaluation:
    tasks = {task: list(_episodes(task, outcomes, layouts)) for task, outcomes in found["tasks"].items()}
    every = tuple(itertools.chain.from_iterable(tasks.values()))
    figures = {task: summarise(episodes) for task, episodes in tasks.items()}
    return Evaluation(name, summarise(every), figures, found["settings"], every, str(found["protocol"]))


def _episodes(task: str, found: Json, layouts: Mapping[str, Json]) -> Iterator[Episode]:
    failed = {number: kind for kind, numbers in found["failures"].items() for number in numbers}
    columns = {name: layouts[found["layouts"]][name] for name in _SHARED} | {"steps": found["steps"]}
    columns["score"] = found.get("scores", [None] * len(found["steps"]))
    for number, values in enumerate(zip(*columns.values(), strict=True)):
        failure = failed.pop(number, "")
        facts = dict(zip(columns, values, strict=True)) | {"task": task, "success": not failure, "failure": failure}
        yield episode_from_facts(facts, ())
    if failed:
        raise ValueError(f"{task} has no episodes {', '.join(map(str, failed))}, which failed")
