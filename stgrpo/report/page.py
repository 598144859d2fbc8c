"""The report: one HTML page with everything inside it, that opens anywhere and fetches nothing."""

import pathlib
import re
from collections.abc import Mapping, Sequence

from stgrpo.envs.robotouille.draw.svg import symbols
from stgrpo.evaluation.metrics import summarise
from stgrpo.evaluation.records import STAGE_LABELS
from stgrpo.files import write_atomically
from stgrpo.report.assets import SCRIPT, STYLE
from stgrpo.report.curves import curves_section
from stgrpo.report.expert import expert_section
from stgrpo.report.load import RunData, flatten, load_run
from stgrpo.report.replays import replays_section
from stgrpo.report.results import Comparison, compare, results_section, verdict
from stgrpo.report.text import absent, esc, percent

# Header facts: label -> keys to look for, the first that is known wins.
_FACTS: dict[str, tuple[str, ...]] = {
    "Task": ("env.tasks", "env.task"),
    "Kitchens": ("env.family",),
    "Model": ("model.name",),
    "Parameters": ("parameters", "model.parameters"),
    "Width × depth": (),
    "Date": ("date",),
    "Hardware": (),
    "JAX": ("versions.jax",),
    "Commit": ("git_commit",),
}


def build_report(workdir: pathlib.Path) -> pathlib.Path:
    """Writes WORKDIR/report.html from what the stages left there; parts without data are shown as absent.

    Returns:
        The path of the page.
    """
    path = workdir / "report.html"
    write_atomically(path, render(load_run(workdir)))
    return path


def render(run: RunData) -> str:
    """The page's HTML."""
    comparisons = compare(run.evaluations)
    parts = [
        _header(run),
        _headline(comparisons),
        _notes(run.notes),
        results_section(comparisons),
        expert_section(run.expert),
        curves_section(run.curves),
        replays_section(comparisons),
        _settings(run),
    ]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; "
        "script-src 'unsafe-inline'\">"
        f"<title>{esc(_task(run))} — stgrpo report</title><style>{STYLE}</style></head>"
        f"<body>{symbols()}<main>{''.join(parts)}</main><script>{SCRIPT}</script></body></html>\n"
    )


def _task(run: RunData) -> str:
    name = str(run.config.get("env.tasks") or run.workdir.absolute().name)
    return name.replace("_", " ").capitalize()


def _fact(facts: Mapping[str, object], keys: Sequence[str]) -> str:
    return next((str(facts[key]) for key in keys if facts.get(key) not in (None, "")), "")


def _facts(run: RunData) -> dict[str, str]:
    known = {**run.config, **run.environment}
    facts = {label: _fact(known, keys) for label, keys in _FACTS.items()}
    settings = [evaluation.settings for evaluation in run.evaluations.values()]
    counts = [str(s["parameters"]) for s in settings if "parameters" in s]
    facts["Parameters"] = facts["Parameters"] or (counts[0] if counts else "")
    if facts["Parameters"].isdigit():
        facts["Parameters"] = f"{int(facts['Parameters']):,}"
    if known.get("model.name") == "custom":
        facts["Model"] = "Trained from scratch"
        facts["Width × depth"] = f"{known.get('model.width')} × {known.get('model.depth')}"
    count, kind = known.get("devices.count"), known.get("devices.kind")
    cores = f", {known['cpu_count']} cores" if "cpu_count" in known else ""
    facts["Hardware"] = f"{count} × {kind}{cores}" if count else ""
    facts["Date"] = facts["Date"].replace("T", " ")[:16]
    facts["Commit"] = facts["Commit"][:10] if re.fullmatch(r"[0-9a-f]{40}", facts["Commit"]) else facts["Commit"]
    return {label: value for label, value in facts.items() if value}


def _header(run: RunData) -> str:
    facts = "".join(f"<div><dt>{esc(label)}</dt><dd>{esc(value)}</dd></div>" for label, value in _facts(run).items())
    missing = [name for name, part in (("config.json", run.config), ("environment.json", run.environment)) if not part]
    notes = "".join(absent(f"{name} is absent.", "What it says is not shown.") for name in missing)
    sections = ("results", *(("expert",) if run.expert else ()), "training", "replays", "settings")
    links = "".join(f'<a href="#{s}">{s.capitalize()}</a>' for s in sections)
    return (
        f'<header><p class="brand">stgrpo</p><h1>{esc(_task(run))}: planning, learned one turn at a time</h1>'
        f'<dl class="facts">{facts}</dl>{notes}<nav aria-label="Sections">{links}</nav></header>'
    )


def _headline(comparisons: Sequence[Comparison]) -> str:
    """The success rates of the first comparison in large letters, with the test in a sentence."""
    if not comparisons:
        return ""
    first = comparisons[0]
    figures = []
    ours = {stage: episodes for stage, episodes in first.stages.items() if stage in STAGE_LABELS}
    for stage, episodes in (ours or first.stages).items():  # the arrow is training: other models are in the table
        s = summarise(episodes)
        interval = f"{100 * float(s['sr_low']):.0f}–{100 * float(s['sr_high']):.0f} %"
        figures.append(
            f'<div class="figure tone-{esc(stage)}"><span>{esc(STAGE_LABELS.get(stage, stage))}</span>'
            f"<strong>{percent(s['sr'])}</strong><small>{interval}, n = {s['n']}</small></div>"
        )
    arrow = '<span class="arrow" aria-hidden="true">→</span>'
    sentence = f"<p>{esc(verdict(first.test))}</p>" if first.test else ""
    about = f"<p>Success rate on {esc(first.kitchens)}.</p>"
    return f'<section class="headline"><div class="figures">{arrow.join(figures)}</div>{about}{sentence}</section>'


def _notes(notes: Sequence[str]) -> str:
    if not notes:
        return ""
    items = "".join(f"<li>{esc(note)}</li>" for note in notes)
    return f'<aside class="absent"><strong>Not everything could be read.</strong><ul>{items}</ul></aside>'


def _settings(run: RunData) -> str:
    tables = [("Configuration", run.config), ("Environment", run.environment)]
    tables += [(f"Evaluation {name}", flatten(e.settings)) for name, e in run.evaluations.items() if e.settings]
    parts = [
        f"<details><summary>{esc(name)}</summary><dl class='settings'>"
        + "".join(f"<div><dt>{esc(k)}</dt><dd>{esc('–' if v == '' else v)}</dd></div>" for k, v in values.items())
        + "</dl></details>"
        for name, values in tables
        if values
    ]
    body = "".join(parts) or absent("No settings.", "config.json and environment.json are absent.")
    return f'<section id="settings"><h2>Settings</h2>{body}</section>'
