"""The report: one HTML page with everything inside it, that opens anywhere and fetches nothing."""

import dataclasses
import pathlib
import re
from collections.abc import Mapping, Sequence

from stgrpo.evaluation.metrics import summarise, wilson_interval
from stgrpo.evaluation.records import STAGE_LABELS
from stgrpo.files import write_atomically
from stgrpo.protocol import Noun
from stgrpo.report.curves import training_view
from stgrpo.report.expert import expert_view
from stgrpo.report.load import RunData, flatten, load_run
from stgrpo.report.rendering import asset, render
from stgrpo.report.replays import replays_view
from stgrpo.report.results import Comparison, compare, results_view, verdict
from stgrpo.report.text import task_title

# Header facts: label -> keys to look for, the first that is known wins.
_FACTS: dict[str, tuple[str, ...]] = {
    "Task": ("env.tasks", "env.task"),
    "Layouts": ("env.family",),
    "Model": ("model.name",),
    "Parameters": ("parameters", "model.parameters"),
    "Width × depth": (),
    "Date": ("date",),
    "Hardware": (),
    "JAX": ("versions.jax",),
    "Commit": ("git_commit",),
}


@dataclasses.dataclass(frozen=True)
class Header:
    """What was run, and what the page has; `missing` are files that say more."""

    task: str
    facts: Mapping[str, str]
    missing: tuple[str, ...]
    sections: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Figure:
    """A success rate in large letters."""

    stage: str
    label: str
    sr: float
    interval: tuple[float, float]
    n: int


@dataclasses.dataclass(frozen=True)
class Headline:
    """The success rates of the first comparison, on which layouts, and the test in a sentence."""

    figures: tuple[Figure, ...]
    about: str
    verdict: str


def build_report(workdir: pathlib.Path) -> pathlib.Path:
    """Writes WORKDIR/report.html from what the stages left there; parts without data are shown as absent.

    Returns:
        The path of the page.
    """
    path = workdir / "report.html"
    write_atomically(path, page(load_run(workdir)))
    return path


def page(run: RunData) -> str:
    """The page's HTML."""
    comparisons = compare(run.evaluations, run.played)
    return render(
        "page.html",
        header=_header(run),
        headline=_headline(comparisons[0], run.played.noun) if comparisons else None,
        notes=run.notes,
        results=results_view(comparisons, run.played),
        expert=expert_view(run.expert, run.played.noun),
        training=training_view(run.curves),
        analysis=run.analysis,
        replays=replays_view(comparisons, run.played),
        settings=_settings(run),
        symbols=run.played.symbols(),
        style=asset("report.css"),
        script=asset("report.js"),
    )


def _fact(facts: Mapping[str, object], keys: Sequence[str]) -> str:
    return next((str(facts[key]) for key in keys if facts.get(key) not in (None, "")), "")


def _facts(run: RunData, noun: Noun) -> dict[str, str]:
    known = {**run.config, **run.environment}
    facts = {label: _fact(known, keys) for label, keys in _FACTS.items()}
    settings = [evaluation.settings for evaluation in run.evaluations.values()]
    counts = [str(s["parameters"]) for s in settings if "parameters" in s]
    facts["Parameters"] = facts["Parameters"] or (counts[0] if counts else "")
    if facts["Parameters"].isdigit():
        facts["Parameters"] = f"{int(facts['Parameters']):,}"
    if path := known.get("model.path"):  # then it is not the shape of this name that was trained
        facts["Model"] = pathlib.PurePath(str(path)).name
    elif known.get("model.name") == "custom":
        facts["Model"] = "Trained from scratch"
        facts["Width × depth"] = f"{known.get('model.width')} × {known.get('model.depth')}"
    count, kind = known.get("devices.count"), known.get("devices.kind")
    cores = f", {known['cpu_count']} cores" if "cpu_count" in known else ""
    facts["Hardware"] = f"{count} × {kind}{cores}" if count else ""
    facts["Date"] = facts["Date"].replace("T", " ")[:16]
    facts["Commit"] = facts["Commit"][:10] if re.fullmatch(r"[0-9a-f]{40}", facts["Commit"]) else facts["Commit"]
    facts = {noun.many.capitalize() if label == "Layouts" else label: value for label, value in facts.items()}
    return {label: value for label, value in facts.items() if value}


def _header(run: RunData) -> Header:
    task = task_title(str(run.config.get("env.tasks") or run.workdir.absolute().name))
    missing = [name for name, part in (("config.json", run.config), ("environment.json", run.environment)) if not part]
    sections = ("results", *(("expert",) if run.expert else ()), "training")
    sections += (*(("theory",) if run.analysis else ()), "replays", "settings")
    return Header(task, _facts(run, run.played.noun), tuple(missing), sections)


def _headline(first: Comparison, noun: Noun) -> Headline:
    ours = {stage: episodes for stage, episodes in first.stages.items() if stage in STAGE_LABELS}
    figures = []
    for stage, episodes in (ours or first.stages).items():  # the arrow is training: other models are in the table
        s = summarise(episodes)
        label, interval = STAGE_LABELS.get(stage, stage), wilson_interval(s["successes"], s["n"])
        figures.append(Figure(stage, label, s["successes"] / s["n"], interval, s["n"]))
    return Headline(tuple(figures), first.about, verdict(first.test, noun) if first.test else "")


def _settings(run: RunData) -> dict[str, Mapping[str, object]]:
    """Tables of settings by their names, without the empty ones."""
    tables = {"Configuration": run.config, "Environment": run.environment}
    tables |= {
        f"Evaluation {name}": flatten(e.settings) | _protocol(run, name)
        for name, e in run.evaluations.items()
        if e.settings
    }
    return {name: values for name, values in tables.items() if values}


def _protocol(run: RunData, name: str) -> dict[str, object]:
    """What an evaluation was said to be before it was played, and how often its layouts were played otherwise."""
    found = run.evaluations[name].protocol
    line = run.registrations.get((name, found))
    if line is None:
        return {}
    others = sum(other.evaluation == name for other in run.registrations.values()) - 1
    more = f"; {others} others of this name were written too" if others else ""
    return {"protocol": f"{found}, written {line.date}, before the first episode{more}"}
