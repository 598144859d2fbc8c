"""What a work directory holds for the report. Missing files are missing parts; damaged ones are notes on the page."""

import dataclasses
import json
import math
import pathlib
from collections.abc import Mapping

from stgrpo.errors import UserError
from stgrpo.evaluation.files import Evaluation, list_evaluations, read_evaluation
from stgrpo.evaluation.registration import Registration, read_registrations
from stgrpo.files import from_json
from stgrpo.report.analysis import AnalysisView, read_analysis
from stgrpo.report.environment import EnvironmentView, find_environment
from stgrpo.report.expert import ExpertSummary, read_expert

Row = dict[str, float]


@dataclasses.dataclass(frozen=True)
class RunData:
    """A run as its work directory tells it.

    Attributes:
        workdir: where.
        config, environment: flattened to dotted keys; empty where the file is absent.
        played: the environment that the config names.
        curves: stage -> rows of finite numbers, "step" among them, in the order of the steps.
        evaluations: by name.
        registrations: what was to be evaluated, as it was written down before, by evaluation and hash.
        expert: how a served expert was sampled; empty where the planner is the expert.
        analysis: the theorems, measured; None where they were not.
        notes: what could not be read, one sentence each.
    """

    workdir: pathlib.Path
    config: Mapping[str, object]
    environment: Mapping[str, object]
    played: EnvironmentView
    curves: Mapping[str, list[Row]]
    evaluations: Mapping[str, Evaluation]
    registrations: Mapping[tuple[str, str], Registration]
    expert: tuple[ExpertSummary, ...]
    analysis: AnalysisView | None
    notes: tuple[str, ...]


def flatten(value: object, prefix: str = "") -> dict[str, object]:
    """Nested mappings as dotted keys; lists of plain values as text."""
    if isinstance(value, Mapping):
        parts = (flatten(inner, f"{prefix}.{key}" if prefix else str(key)) for key, inner in value.items())
        return {key: leaf for part in parts for key, leaf in part.items()}
    if isinstance(value, list):
        return {prefix: ", ".join(str(item) for item in value)}
    return {prefix: value}


def _read_json(path: pathlib.Path, notes: list[str]) -> dict[str, object]:
    if not path.is_file():
        return {}
    try:
        value = from_json(path.read_bytes())
    except ValueError as error:
        notes.append(f"{path.name} is not JSON ({error}).")
        return {}
    return flatten(value) if isinstance(value, dict) else {}


def _numbers(row: Mapping[str, object]) -> Row:
    return {k: v for k, v in row.items() if isinstance(v, int | float) and not isinstance(v, bool) and math.isfinite(v)}


def read_curves(path: pathlib.Path, notes: list[str]) -> dict[str, list[Row]]:
    """metrics.jsonl by stage. A step that was logged again after a resume counts as logged last.

    A number that is none, as runs once wrote when they diverged, is left out and noted.
    """
    stages: dict[str, dict[float, Row]] = {}
    diverged: dict[str, str] = {}
    damaged = 0
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else ():
        try:
            row = json.loads(line)  # of any version: with NaN
            stage, values = str(row["stage"]), _numbers(row)
            stages.setdefault(stage, {}).setdefault(values["step"], {}).update(values)
            if wrong := [k for k, v in row.items() if isinstance(v, float) and not math.isfinite(v)]:
                said = f"{stage} diverged: at step {values['step']} {', '.join(wrong)} is no finite number."
                diverged.setdefault(stage, said)
        except (ValueError, KeyError, TypeError, AttributeError):
            damaged += bool(line.strip())
    notes += diverged.values()
    if damaged:
        notes.append(f"{damaged} lines of {path.name} could not be read and were left out.")
    return {stage: [rows[step] for step in sorted(rows)] for stage, rows in stages.items()}


def _registrations(directory: pathlib.Path, notes: list[str]) -> dict[tuple[str, str], Registration]:
    try:
        return {(line.evaluation, line.hash): line for line in read_registrations(directory)}
    except UserError as error:
        notes.append(f"{error}.")
        return {}


def load_run(workdir: pathlib.Path) -> RunData:
    """Reads everything the report shows."""
    notes: list[str] = []
    config = _read_json(workdir / "config.json", notes)
    evaluations = {}
    for name in list_evaluations(workdir / "evaluation"):
        try:
            evaluations[name] = read_evaluation(workdir / "evaluation", name)
        except UserError as error:
            notes.append(f"{error}.")
    return RunData(
        workdir=workdir,
        config=config,
        environment=_read_json(workdir / "environment.json", notes),
        played=find_environment(config, notes),
        curves=read_curves(workdir / "metrics.jsonl", notes),
        evaluations=evaluations,
        registrations=_registrations(workdir / "evaluation", notes),
        expert=tuple(read_expert(workdir / "expert", notes)),
        analysis=read_analysis(workdir / "analysis.json", notes),
        notes=tuple(notes),
    )
