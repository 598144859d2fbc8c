"""What it took to get the data from a served expert: tries, successes, tokens, and how far from optimal it is."""

import json
import pathlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from stgrpo.report.results import outcome, stacked
from stgrpo.report.text import esc, number, percent, steps

_HEADINGS = (
    ("Data", ""),
    ("Kitchens", "Tried until there were enough trajectories"),
    ("Kept", "Kitchens with a success that is learned from: the shortest one"),
    ("Tries", "Episodes, several a kitchen"),
    ("Successes", "Episodes that reached the goal, and their share of the tries"),
    ("Not usable", "Successes over the learner's limits or the allowed steps"),
    ("TrainProgram", "Mean of the kept"),
    ("Above optimum", "Mean steps of the kept above the fewest possible, from the planner"),
    ("Requests", "Answered"),
    ("Tokens in", "Of prompts, as the server counts them"),
    ("Tokens out", "Of answers, as the server counts them"),
    ("Cost", "At the prices in the config"),
)
_EXCESS = (
    ("optimal", "end-solved", 0),
    ("1 or 2 steps above", "end-timeout", 2),
    ("3 or more steps above", "end-loop", None),
)


@dataclass(frozen=True)
class ExpertSummary:
    """How a served expert was sampled for one split of a task; see `experts.llm_expert.summary`.

    Attributes:
        task, split: of the data.
        model: that was asked.
        counts: kitchens, episodes, successes, unfit, kept, requests, prompt_tokens and completion_tokens.
        mean_steps, mean_excess: of the kept trajectories; None without one.
        cost: None without prices.
        excess: how many kept trajectories are how many steps above the optimum.
        failures: how many episodes ended in which way.
    """

    task: str
    split: str
    model: str
    counts: Mapping[str, int]
    mean_steps: float | None
    mean_excess: float | None
    cost: float | None
    excess: Mapping[int, int]
    failures: Mapping[str, int]


def read_expert(folder: pathlib.Path, notes: list[str]) -> list[ExpertSummary]:
    """Every summary in the folder expert/ of a work directory, by task, training first; damaged ones are noted."""
    found = []
    for path in sorted(folder.glob("*/*.json"), key=lambda p: (p.parent.name, p.stem != "train", p.stem)):
        try:
            found.append(_read(path))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            where = f"{path.parent.name}/{path.name}"
            notes.append(f"expert/{where} is no summary of an expert ({type(error).__name__}: {error}).")
    return found


def _read(path: pathlib.Path) -> ExpertSummary:
    facts = json.loads(path.read_text(encoding="utf-8"))
    names = ("kitchens", "episodes", "successes", "unfit", "kept")
    usage = ("requests", "prompt_tokens", "completion_tokens")
    means = [None if facts[name] is None else float(facts[name]) for name in ("mean_steps", "mean_excess", "cost")]
    return ExpertSummary(
        path.parent.name,
        path.stem,
        str(facts["model"]),
        {name: int(facts[name]) for name in names} | {name: int(facts["usage"][name]) for name in usage},
        *means,
        excess={int(above): int(count) for above, count in facts["excess"].items()},
        failures={str(kind): int(count) for kind, count in facts["failures"].items()},
    )


def expert_section(summaries: Sequence[ExpertSummary]) -> str:
    """A table and two bars a split; nothing where the expert is the planner."""
    if not summaries:
        return ""
    head = "".join(f'<th scope="col" title="{esc(hint)}">{esc(title)}</th>' for title, hint in _HEADINGS)
    rows = "".join(map(_row, summaries))
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
    models = ", ".join(dict.fromkeys(summary.model for summary in summaries))
    about = (
        f"<p>{esc(models)} was sampled until it succeeded; the shortest success in each kitchen is learned from.</p>"
    )
    body = f'<div class="scroll" tabindex="0" role="region" aria-label="The expert">{table}</div>'
    bars = "".join(map(_bars, summaries))
    return f'<section id="expert"><h2>The expert</h2><article>{about}{body}{bars}</article></section>'


def _name(summary: ExpertSummary) -> str:
    return f"{summary.task.replace('_', ' ').capitalize()}, {summary.split}"


def _row(summary: ExpertSummary) -> str:
    c = summary.counts
    share = f' <span class="interval">{percent(c["successes"] / c["episodes"])}</span>' if c["episodes"] else ""
    cells = (
        *(number(c[name]) for name in ("kitchens", "kept", "episodes")),
        f"{number(c['successes'])}{share}",
        number(c["unfit"]),
        steps(summary.mean_steps),
        steps(summary.mean_excess),
        *(number(c[name]) for name in ("requests", "prompt_tokens", "completion_tokens")),
        "–" if summary.cost is None else f"{summary.cost:,.2f}",
    )
    return f'<tr><th scope="row">{esc(_name(summary))}</th>{"".join(f"<td>{cell}</td>" for cell in cells)}</tr>'


def _bars(summary: ExpertSummary) -> str:
    """How the tries ended, and how far above the optimum the kept ones are."""
    ends = [outcome("", summary.counts["successes"]), *(outcome(*end) for end in summary.failures.items())]
    bars, parts, least = stacked(f"{_name(summary)}: how the tries ended", ends), [], 0
    for name, tone, most in _EXCESS:
        counted = [n for above, n in summary.excess.items() if least <= above and (most is None or above <= most)]
        parts.append((name, tone, sum(counted)))
        least = (most or 0) + 1
    return bars + (stacked(f"{_name(summary)}: what was kept", parts) if any(summary.excess.values()) else "")
