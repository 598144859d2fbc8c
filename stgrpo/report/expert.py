"""What it took to get the data from a served expert: tries, successes, tokens, and how far from optimal it is."""

import pathlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stgrpo.files import from_json
from stgrpo.protocol import Noun
from stgrpo.react.policy import SERVER
from stgrpo.report.results import Bar, Part, bar, outcome
from stgrpo.report.text import task_title

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
        counts: every whole number of the summary, and of its usage: layouts, episodes, successes, unfit, kept,
            requests, prompt_tokens, completion_tokens.
        mean_steps, mean_excess: of the kept trajectories; None without one, the excess also without a planner.
        cost: None without prices.
        excess: how many kept trajectories are how many steps above the optimum; empty without a planner.
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
    facts = from_json(path.read_bytes())
    means = [None if facts.get(name) is None else float(facts[name]) for name in ("mean_steps", "mean_excess", "cost")]
    return ExpertSummary(
        path.parent.name,
        path.stem,
        str(facts["model"]),
        _counts(facts),
        *means,
        excess={int(above): int(count) for above, count in (facts.get("excess") or {}).items()},
        failures={str(kind): int(count) for kind, count in facts["failures"].items()},
    )


def _counts(facts: Mapping[str, Any]) -> dict[str, int]:
    """The whole numbers of a summary.

    Raises:
        KeyError: one that the page shows is missing.
    """
    numbers = {**facts, **facts["usage"]}
    counts = {name: number for name, number in numbers.items() if isinstance(number, int)}
    for name in ("episodes", "successes", "unfit", "kept", "requests", "prompt_tokens", "completion_tokens"):
        if name not in counts:
            raise KeyError(name)
    return counts


@dataclass(frozen=True)
class ExpertRow:
    """A summary as a row of the table.

    Attributes:
        name: of task and split.
        layouts: how many were tried; None where the summary does not say.
        share: of the tries that succeeded; None without one.
        summary: the rest.
    """

    name: str
    layouts: int | None
    share: float | None
    summary: ExpertSummary


@dataclass(frozen=True)
class ExpertView:
    """The expert as it is shown: the models that were asked, what a layout is called, a row and bars a split.

    Attributes:
        is_measured: whether a planner said how far the kept trajectories are from optimal.
    """

    models: str
    noun: Noun
    headings: tuple[tuple[str, str], ...]
    rows: tuple[ExpertRow, ...]
    bars: tuple[Bar, ...]
    is_measured: bool


def expert_view(summaries: Sequence[ExpertSummary], noun: Noun) -> ExpertView | None:
    """A row and two bars a split; None where the expert is the planner."""
    if not summaries:
        return None
    return ExpertView(
        ", ".join(dict.fromkeys(summary.model for summary in summaries)),
        noun,
        _headings(noun),
        tuple(_row(summary, noun) for summary in summaries),
        tuple(bar for summary in summaries for bar in _bars(summary)),
        all(summary.mean_excess is not None for summary in summaries if summary.counts["kept"]),
    )


def _headings(noun: Noun) -> tuple[tuple[str, str], ...]:
    many = noun.many.capitalize()
    return (
        ("Data", ""),
        (many, "Tried until there were enough trajectories"),
        ("Kept", f"{many} with a success that is learned from: the shortest one"),
        ("Tries", f"Episodes, several a {noun.one}"),
        ("Successes", "Episodes that reached the goal, and their share of the tries"),
        ("Not usable", "Successes over the learner's limits or the allowed steps"),
        ("Steps", "Mean of the kept"),
        ("Above optimum", "Mean steps of the kept above the fewest possible, from the planner"),
        ("Requests", "Answered"),
        ("Tokens in", "Of prompts, as the server counts them"),
        ("Tokens out", "Of answers, as the server counts them"),
        ("Cost", "At the prices in the config"),
    )


def _name(summary: ExpertSummary) -> str:
    return f"{task_title(summary.task)}, {summary.split}"


def _row(summary: ExpertSummary, noun: Noun) -> ExpertRow:
    counts = summary.counts
    share = counts["successes"] / counts["episodes"] if counts["episodes"] else None
    layouts = counts.get("layouts", counts.get(noun.many))  # earlier summaries have the environment's own word
    return ExpertRow(_name(summary), layouts, share, summary)


def _bars(summary: ExpertSummary) -> Iterable[Bar]:
    """How the tries ended, and how far above the optimum the kept ones are."""
    ends = [outcome("", summary.counts["successes"]), *(outcome(*end) for end in summary.failures.items())]
    ends.append(outcome(SERVER, summary.counts.get("server_failures", 0)))
    yield bar(f"{_name(summary)}: how the tries ended", ends)
    parts, least = [], 0
    for name, tone, most in _EXCESS:
        counted = [n for above, n in summary.excess.items() if least <= above and (most is None or above <= most)]
        parts.append(Part(name, tone, sum(counted)))
        least = (most or 0) + 1
    if any(summary.excess.values()):
        yield bar(f"{_name(summary)}: what was kept", parts)
