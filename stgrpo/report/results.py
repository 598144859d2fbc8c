"""Results before and after GRPO, beside those that others have published."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

from stgrpo.evaluation.files import Evaluation
from stgrpo.evaluation.metrics import McNemar, mcnemar, pair_episodes, summarise, wilson_interval
from stgrpo.evaluation.records import FAILURES, STAGE_LABELS, Episode, played
from stgrpo.protocol import LAYOUT, Noun, PublishedResult
from stgrpo.react.policy import SERVER
from stgrpo.report.environment import EnvironmentView
from stgrpo.report.text import p_value, task_title

FAILURE_LABELS = {
    "timeout": "out of steps",
    "loop": "ran in circles",
    "invalid": "invalid action",
    "format": "malformed response",
    "thinking": "cut while thinking",
    "finish": "gave up",
    "prompt_too_long": "prompt too long",
    "ended": "ended by the environment",
    SERVER: "left out: the server had no answer",
}
RATES: dict[Literal["format_rate", "valid_rate", "exact_rate", "optimal_rate"], tuple[str, str]] = {
    "format_rate": ("Format", "Responses with a reasoning and an action"),
    "valid_rate": ("Valid", "Responses whose action could be taken"),
    "exact_rate": ("Exact", "Responses with the expert's action"),
    "optimal_rate": ("Optimal", "Responses with an action that shortens the way to the goal"),
}
"""Figures of `summarise` on the responses, with the headings of their columns."""


@dataclasses.dataclass(frozen=True)
class Comparison:
    """One task on one set of layouts: the episodes of each stage that played it, and what layouts these are."""

    suite: str
    task: str
    about: str
    stages: Mapping[str, tuple[Episode, ...]]

    @property
    def title(self) -> str:
        """A heading."""
        return f"{task_title(self.task)} — {self.about}"

    @property
    def test(self) -> McNemar | None:
        """The paired test of GRPO against SFT; None unless both played at least one same layout."""
        if "sft" not in self.stages or "grpo" not in self.stages:
            return None
        pairs = pair_episodes(self.stages["sft"], self.stages["grpo"])
        return mcnemar([a.success for a, _ in pairs], [b.success for _, b in pairs]) if pairs else None


def split_name(name: str) -> tuple[str, str]:
    """The stage and the set of layouts of an evaluation: ("grpo", "unseen") for "grpo_unseen"."""
    stage, _, suite = name.partition("_")
    return stage, suite


def compare(evaluations: Mapping[str, Evaluation], environment: EnvironmentView) -> list[Comparison]:
    """Groups evaluations by set of layouts and task, most episodes first; stages in the order of training."""
    order = {stage: index for index, stage in enumerate(STAGE_LABELS)}
    groups: dict[tuple[str, str], dict[str, tuple[Episode, ...]]] = {}
    for name in sorted(evaluations, key=lambda name: (order.get(split_name(name)[0], len(order)), name)):
        stage, suite = split_name(name)
        for task in evaluations[name].tasks:
            episodes = tuple(e for e in evaluations[name].episodes if e.task == task)
            if played(episodes):
                groups.setdefault((suite, task), {})[stage] = episodes
    comparisons = []
    for (suite, task), stages in groups.items():
        layouts = [episode.layout for episodes in stages.values() for episode in episodes]
        about = environment.describe(layouts) or f"{suite} {environment.noun.many}"
        comparisons.append(Comparison(suite, task, about, stages))
    return sorted(comparisons, key=lambda c: -max(map(len, c.stages.values())))


def verdict(test: McNemar, noun: Noun = LAYOUT) -> str:
    """The paired test in a sentence; no gain is claimed above p = 0.05."""
    pairs = test.both + test.only_a + test.only_b + test.neither
    gain = f"solves {'more' if test.only_b > test.only_a else 'fewer'} {noun.many} than SFT"
    claim = f"GRPO {gain}" if test.p_value < 0.05 else "No difference between SFT and GRPO is shown"
    return (
        f"{claim} ({p_value(test.p_value)}, exact McNemar test on {pairs} paired {noun.many}): GRPO alone solves "
        f"{test.only_b}, SFT alone {test.only_a}, both {test.both}, neither {test.neither}."
    )


@dataclasses.dataclass(frozen=True)
class Row:
    """A policy in the table of a comparison; `rates` are those of `RATES`, None where one is not known.

    The score is None where the environment says no more than success, and in published results.
    """

    policy: str
    tone: str
    n: int
    sr: float
    interval: tuple[float, float]
    asat: float | None
    asst: float | None
    rates: tuple[float | None, ...]
    spl: float | None = None
    score: float | None = None

    @property
    def is_judged(self) -> bool:
        """Whether a planner said of its responses what the expert does."""
        return self.rates[-1] is not None


@dataclasses.dataclass(frozen=True)
class RowGroup:
    """Rows under a heading: ours, or those of others."""

    heading: str
    is_ours: bool
    rows: tuple[Row, ...]


@dataclasses.dataclass(frozen=True)
class Part:
    """A part of a bar: its name, the CSS class of its colour, its count."""

    name: str
    tone: str
    count: int


@dataclasses.dataclass(frozen=True)
class Bar:
    """A bar of counts."""

    label: str
    parts: tuple[Part, ...]


@dataclasses.dataclass(frozen=True)
class ComparisonView:
    """A comparison as it is shown."""

    title: str
    groups: tuple[RowGroup, ...]
    verdict: str
    bars: tuple[Bar, ...]


@dataclasses.dataclass(frozen=True)
class ResultsView:
    """Every comparison, the headings of its columns with their explanations, and what is missing.

    Attributes:
        missing: stages that nobody evaluated, by the names they are shown under.
        is_judged: whether a planner judged every policy's responses.
        is_scored: whether there are scores, in a column of their own.
    """

    headings: tuple[tuple[str, str], ...]
    comparisons: tuple[ComparisonView, ...]
    missing: tuple[str, ...]
    is_judged: bool
    is_scored: bool


def _own_row(stage: str, episodes: Sequence[Episode]) -> Row:
    s = summarise(episodes)
    interval = wilson_interval(s["successes"], s["n"])
    rates = tuple(s[key] for key in RATES)
    label = STAGE_LABELS.get(stage, stage)
    sr, tone = s["successes"] / s["n"], f"tone-{stage}"
    return Row(label, tone, s["n"], sr, interval, s["asat"], s["asst"], rates, s["spl"], s["score"])


def _published_row(row: PublishedResult) -> Row:
    interval = wilson_interval(row.successes, row.n)
    return Row(row.policy, "tone-paper", row.n, row.sr, interval, row.asat, row.asst, (None,) * len(RATES))


def outcome(failure: str, count: int) -> Part:
    """How many episodes ended in this way, the empty one being success."""
    return Part(FAILURE_LABELS.get(failure, failure) if failure else "solved", f"end-{failure or 'solved'}", count)


def bar(label: str, parts: Iterable[Part]) -> Bar:
    """A bar without its empty parts."""
    return Bar(label, tuple(part for part in parts if part.count))


def _outcomes(stage: str, episodes: Sequence[Episode]) -> Bar:
    """A bar of all episodes by how they ended."""
    counts = {"": sum(e.success for e in episodes)} | {
        k: sum(e.failure == k for e in episodes) for k in (*FAILURES, SERVER)
    }
    return bar(STAGE_LABELS.get(stage, stage), [outcome(kind, count) for kind, count in counts.items()])


def _groups(comparison: Comparison, environment: EnvironmentView) -> tuple[RowGroup, ...]:
    ours = tuple(_own_row(stage, e) for stage, e in comparison.stages.items() if stage in STAGE_LABELS)
    served = tuple(_own_row(stage, e) for stage, e in comparison.stages.items() if stage not in STAGE_LABELS)
    tables = environment.published(comparison.task)
    groups = [RowGroup("This run", True, ours), RowGroup("Served models", True, served)]
    groups += [RowGroup(table.heading, False, tuple(map(_published_row, table.rows))) for table in tables]
    return tuple(group for group in groups if group.rows)


def _comparison(comparison: Comparison, environment: EnvironmentView) -> ComparisonView:
    test = comparison.test
    return ComparisonView(
        comparison.title,
        _groups(comparison, environment),
        verdict(test, environment.noun) if test else "",
        tuple(_outcomes(stage, episodes) for stage, episodes in comparison.stages.items()),
    )


def _headings(noun: Noun, *, is_scored: bool) -> tuple[tuple[str, str], ...]:
    return (
        ("Policy", ""),
        (noun.many.capitalize(), f"Episodes, one a {noun.one}"),
        ("", ""),
        ("Success rate", "SR, with its 95 % Wilson interval"),
        *([("Score", "Mean score of all episodes, from 0 to 1")] if is_scored else []),
        ("ASAT", "Mean steps of all episodes, failures counted at the cap"),
        ("ASST", "Mean steps of the successful episodes"),
        ("SPL", "Mean of the optimal steps over the steps taken, a failure counted as 0"),
        *RATES.values(),
    )


def results_view(comparisons: Sequence[Comparison], environment: EnvironmentView) -> ResultsView:
    """Every comparison with its table, its test and its outcomes."""
    views = tuple(_comparison(comparison, environment) for comparison in comparisons)
    missing = (STAGE_LABELS[s] for s in ("sft", "grpo") if views and all(s not in c.stages for c in comparisons))
    rows = [row for view in views for group in view.groups if group.is_ours for row in group.rows]
    is_judged, is_scored = all(row.is_judged for row in rows), any(row.score is not None for row in rows)
    headings = _headings(environment.noun, is_scored=is_scored)
    return ResultsView(headings, views, tuple(missing), is_judged=is_judged, is_scored=is_scored)
