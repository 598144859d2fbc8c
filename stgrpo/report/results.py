"""Results before and after GRPO, beside the paper's."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

from stgrpo.evaluation.files import Evaluation
from stgrpo.evaluation.metrics import McNemar, mcnemar, pair_episodes, summarise, wilson_interval
from stgrpo.evaluation.records import FAILURES, STAGE_LABELS, Episode
from stgrpo.report.paper import LAYOUTS, PaperRow, paper_rows
from stgrpo.report.text import absent, esc, p_value, percent, steps

BENCHMARK = "the benchmark’s ten test kitchens, almost surely those of the paper"
KITCHENS = {
    "default": "the benchmark’s example kitchen",
    "test": BENCHMARK,
    "random": "unseen kitchens, generated like the benchmark’s",
    "small": "unseen small kitchens (3–5 stations), easier than the paper’s: its numbers are for orientation only",
}
FAILURE_LABELS = {
    "timeout": "out of steps",
    "loop": "ran in circles",
    "invalid": "invalid action",
    "format": "malformed response",
    "finish": "gave up",
    "prompt_too_long": "prompt too long",
}


@dataclasses.dataclass(frozen=True)
class Comparison:
    """One task on one set of kitchens: the episodes of each stage that played it."""

    suite: str
    task: str
    stages: Mapping[str, tuple[Episode, ...]]

    @property
    def kitchens(self) -> str:
        """What kind of kitchens these are, by the names of the layouts."""
        families = {e.layout.partition(":")[0] for episodes in self.stages.values() for e in episodes}
        return KITCHENS.get(families.pop(), self.suite) if len(families) == 1 else self.suite

    @property
    def test(self) -> McNemar | None:
        """The paired test of GRPO against SFT; None unless both played at least one same kitchen."""
        if "sft" not in self.stages or "grpo" not in self.stages:
            return None
        pairs = pair_episodes(self.stages["sft"], self.stages["grpo"])
        return mcnemar([a.success for a, _ in pairs], [b.success for _, b in pairs]) if pairs else None


def split_name(name: str) -> tuple[str, str]:
    """The stage and the set of kitchens of an evaluation: ("grpo", "unseen") for "grpo_unseen"."""
    stage, _, suite = name.partition("_")
    return stage, suite


def compare(evaluations: Mapping[str, Evaluation]) -> list[Comparison]:
    """Groups evaluations by set of kitchens and task, most episodes first; stages in the order of training."""
    order = {stage: index for index, stage in enumerate(STAGE_LABELS)}
    groups: dict[tuple[str, str], dict[str, tuple[Episode, ...]]] = {}
    for name in sorted(evaluations, key=lambda name: (order.get(split_name(name)[0], len(order)), name)):
        stage, suite = split_name(name)
        for task in evaluations[name].tasks:
            episodes = tuple(e for e in evaluations[name].episodes if e.task == task)
            groups.setdefault((suite, task), {})[stage] = episodes
    comparisons = [Comparison(suite, task, stages) for (suite, task), stages in groups.items()]
    return sorted(comparisons, key=lambda c: -max(map(len, c.stages.values())))


def rate_bar(rate: float, low: float, high: float, tone: str) -> str:
    """A success rate as a bar with its interval as a whisker; the numbers stand beside it in text."""
    at = [round(120 * value, 1) for value in (rate, low, high)]
    return (
        f'<svg class="bar {tone}" viewBox="0 0 120 16" width="120" height="16" aria-hidden="true">'
        f'<rect class="track" y="3" width="120" height="10" rx="3"/>'
        f'<rect class="fill" y="3" width="{at[0]}" height="10" rx="3"/>'
        f'<path class="whisker" d="M{at[1]} 8H{at[2]}M{at[1]} 4V12M{at[2]} 4V12"/></svg>'
    )


def _cells(rate: float, interval: tuple[float, float], asat: object, asst: object, *, tone: str) -> str:
    low, high = interval
    return (
        f"<td>{rate_bar(rate, low, high, tone)}</td><td><strong>{percent(rate)}</strong> "
        f'<span class="interval">{100 * low:.0f}–{100 * high:.0f} %</span></td>'
        f"<td>{steps(asat)}</td><td>{steps(asst)}</td>"
    )


def _own_row(stage: str, episodes: Sequence[Episode]) -> str:
    s = summarise(episodes)
    interval = wilson_interval(int(s["successes"]), int(s["n"]))
    keys = ("format_rate", "valid_rate", "exact_rate", "optimal_rate")
    rates = "".join(f"<td>{percent(s[key])}</td>" for key in keys)
    cells = _cells(float(s["sr"]), interval, s["asat"], s["asst"], tone=f"tone-{esc(stage)}")
    label = STAGE_LABELS.get(stage, stage)
    return f'<tr class="own"><th scope="row">{esc(label)}</th><td>{s["n"]}</td>{cells}{rates}</tr>'


def _paper_row(row: PaperRow) -> str:
    interval = wilson_interval(row.successes, LAYOUTS)
    cells = _cells(row.sr, interval, row.asat, row.asst, tone="tone-paper")
    return f'<tr><th scope="row">{esc(row.policy)}</th><td>{LAYOUTS}</td>{cells}{"<td>–</td>" * 4}</tr>'


_HEADINGS = (
    ("Policy", ""),
    ("Kitchens", "Episodes, one a kitchen"),
    ("", ""),
    ("Success rate", "SR, with its 95 % Wilson interval"),
    ("ASAT", "Mean steps of all episodes, failures counted at the cap"),
    ("ASST", "Mean steps of the successful episodes"),
    ("Format", "Responses with a reasoning and an action"),
    ("Valid", "Responses whose action could be taken"),
    ("Exact", "Responses with the expert's action"),
    ("Optimal", "Responses with an action that shortens the way to the goal"),
)


def _table(comparison: Comparison) -> str:
    head = "".join(f'<th scope="col" title="{esc(hint)}">{esc(title)}</th>' for title, hint in _HEADINGS)
    ours = "".join(_own_row(s, episodes) for s, episodes in comparison.stages.items() if s in STAGE_LABELS)
    served = "".join(_own_row(s, episodes) for s, episodes in comparison.stages.items() if s not in STAGE_LABELS)
    rows = "".join(_paper_row(row) for row in paper_rows(comparison.task))
    group = f'<tr class="group"><th colspan="{len(_HEADINGS)}" scope="rowgroup">%s</th></tr>'
    paper = group % "The paper, Qwen2.5-1.5B-Instruct unless named otherwise" + rows if rows else ""
    name = esc(title(comparison))
    run = (group % "This run" + ours if ours else "") + (group % "Served models" + served if served else "")
    body = f"<tbody>{run}{paper}</tbody>"
    table = f"<table><thead><tr>{head}</tr></thead>{body}</table>"
    return f'<h3>{name}</h3><div class="scroll" tabindex="0" role="region" aria-label="Results, {name}">{table}</div>'


def title(comparison: Comparison) -> str:
    """A heading for a comparison."""
    return f"{comparison.task.replace('_', ' ').capitalize()} — {comparison.kitchens}"


def verdict(test: McNemar) -> str:
    """The paired test in a sentence; no gain is claimed above p = 0.05."""
    kitchens = test.both + test.only_a + test.only_b + test.neither
    gain = "solves more kitchens than SFT" if test.only_b > test.only_a else "solves fewer kitchens than SFT"
    claim = f"GRPO {gain}" if test.p_value < 0.05 else "No difference between SFT and GRPO is shown"
    return (
        f"{claim} ({p_value(test.p_value)}, exact McNemar test on {kitchens} paired kitchens): GRPO alone solves "
        f"{test.only_b}, SFT alone {test.only_a}, both {test.both}, neither {test.neither}."
    )


def _outcomes(stage: str, episodes: Sequence[Episode]) -> str:
    """A bar of all episodes by how they ended."""
    counts = {"": sum(e.success for e in episodes)} | {k: sum(e.failure == k for e in episodes) for k in FAILURES}
    return stacked(STAGE_LABELS.get(stage, stage), [outcome(kind, count) for kind, count in counts.items()])


def outcome(failure: str, count: int) -> tuple[str, str, int]:
    """For `stacked`: how many episodes ended in this way, the empty one being success."""
    return FAILURE_LABELS.get(failure, failure) if failure else "solved", f"end-{failure or 'solved'}", count


def stacked(label: str, parts: Iterable[tuple[str, str, int]]) -> str:
    """A bar of counts.

    Args:
        label: of the bar.
        parts: the name of each, the CSS class of its colour, its count; those of 0 are left out.
    """
    shown = [(esc(name), esc(tone), count) for name, tone, count in parts if count]
    bar = "".join(f'<span class="{t}" style="flex-grow:{n}" title="{name}: {n}"></span>' for name, t, n in shown)
    keys = "".join(f'<span class="{tone} key">{name} <b>{count}</b></span>' for name, tone, count in shown)
    return f'<div class="ends"><b>{esc(label)}</b><div class="stack">{bar}</div><div>{keys}</div></div>'


def _comparison(comparison: Comparison) -> str:
    test = comparison.test
    sentence = f'<p class="verdict">{esc(verdict(test))}</p>' if test else ""
    ends = "".join(_outcomes(stage, episodes) for stage, episodes in comparison.stages.items())
    return f"<article>{_table(comparison)}{sentence}<h4>How the episodes ended</h4>{ends}</article>"


def results_section(comparisons: Sequence[Comparison]) -> str:
    """Every comparison with its table, its test and its outcomes."""
    if not comparisons:
        missing = absent("No results yet.", "The evaluate stage writes them to evaluation/.")
        return f'<section id="results"><h2>Results</h2>{missing}</section>'
    body = "".join(_comparison(comparison) for comparison in comparisons)
    missing = [STAGE_LABELS[s] for s in ("sft", "grpo") if all(s not in c.stages for c in comparisons)]
    notes = "".join(absent(f"{stage} has not been evaluated.", "Its rows are absent.") for stage in missing)
    return f'<section id="results"><h2>Results</h2>{notes}{body}</section>'
