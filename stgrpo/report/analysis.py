"""The theorems as they were measured: what analysis.json says, as tables, charts and sentences."""

import dataclasses
import pathlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from stgrpo.errors import UserError
from stgrpo.files import read_object
from stgrpo.report.charts import Chart, Series, line_chart
from stgrpo.report.text import decimals, percent

Table = Mapping[str, Any]
POLICIES = {"reference": "SFT", "trained": "SFT + GRPO"}
ESTIMATORS = {
    "response": "single-turn GRPO",
    "episode": "multi-turn GRPO",
    "step": "with equal states (GiGPO)",
    "exact": "by distances",
}
AGREEMENT = ("zero", "right_sign", "pearson", "spearman", "noise")
_DRAWN = dict(reversed(POLICIES.items()))  # a chart's first colour is that of SFT + GRPO


@dataclasses.dataclass(frozen=True)
class Cell:
    """A mean over layouts with its interval; all None where there is no layout to average over."""

    mean: float | None
    low: float | None
    high: float | None


@dataclasses.dataclass(frozen=True)
class AnalysisView:
    """The section of the page.

    Attributes:
        about: what was measured, and how much of it.
        rows: label, how it was computed, and a cell a policy.
        findings: sentences.
        betas: for Theorem 3.1: beta, the mean fixed point, and the measured mean less it.
        charts: of the theorems.
        credit: by policy its turns and the share of optimal actions, and by estimator a cell for each of `AGREEMENT`;
            empty where nothing was measured of it.
        sources: by table of analysis.json what its numbers were computed from.
    """

    about: str
    policies: tuple[str, ...]
    rows: tuple[tuple[str, str, tuple[Cell, ...]], ...]
    findings: tuple[str, ...]
    betas: tuple[tuple[float, float, float], ...]
    charts: tuple[Chart, ...]
    credit: tuple[tuple[str, str, tuple[tuple[str, tuple[Cell, ...]], ...]], ...]
    sources: Mapping[str, str]


def read_analysis(path: pathlib.Path, notes: list[str]) -> AnalysisView | None:
    """The view of an analysis.json; None where there is none. What is damaged is noted."""
    if not path.is_file():
        return None
    try:
        return analysis_view(read_object(path, "run `stgrpo analyse` again"))
    except UserError as error:
        notes.append(f"{error}.")
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        notes.append(
            f"{path.name} is not as this version writes it ({type(error).__name__}): run `stgrpo analyse` again."
        )
    return None


def analysis_view(found: Table) -> AnalysisView:
    """What is shown of the tables in analysis.json.

    Raises:
        KeyError, TypeError: a table is missing, or of another form.
    """
    betas = found["theorem_3_1"]["betas"]
    return AnalysisView(
        about=_about(found),
        policies=tuple(POLICIES.values()),
        rows=tuple(_rows(found)),
        findings=tuple(_findings(found)),
        betas=tuple((b["beta"], b["mean_fixed_point"], b["measured_minus_fixed_point"]) for b in betas),
        charts=tuple(chart for chart in _charts(found) if chart is not None),
        credit=tuple(_credit(found["credit"])) if "credit" in found else (),
        sources={name: table["from"] for name, table in found.items() if isinstance(table, dict) and "from" in table},
    )


def _about(found: Table) -> str:
    settings, layouts = found["settings"], found["layouts"]
    return (
        f"{layouts['n']} unseen layouts ({layouts['unique']} with a single way of fewest steps), "
        f"{layouts['expert_states']} states of the expert; {settings['samples']} answers in each state and "
        f"{settings['episodes']} episodes in each layout, drawn at temperature {settings['temperature']:g}."
    )


def _rows(found: Table) -> Iterator[tuple[str, str, tuple[Cell, ...]]]:
    single, second, shift = found["single_turn"], found["theorem_3_2"], found["assumption_3_1"]
    specs: tuple[tuple[str, str, Callable[[str], Table]], ...] = (
        ("p(s), expert’s action", "share of answers", lambda p: single[p]["expert"]["sampled"]),
        ("", "probability given their reasoning", lambda p: single[p]["expert"]["scored"]),
        ("p(s), any optimal action", "share of answers", lambda p: single[p]["optimal"]["sampled"]),
        ("", "probability given their reasoning", lambda p: single[p]["optimal"]["scored"]),
        ("P(the expert’s way)", "product of p(s)", lambda p: second[p]["as_expert"]["scored"]),
        ("", "episodes", lambda p: second[p]["as_expert"]["episodes"]),
        ("", "difference", lambda p: second[p]["as_expert"]["scored_minus_episodes"]),
        ("P(fewest steps)", "recursion over p(s)", lambda p: second[p]["fewest"]["scored"]),
        ("", "episodes", lambda p: second[p]["fewest"]["episodes"]),
        ("", "difference", lambda p: second[p]["fewest"]["scored_minus_episodes"]),
        ("P(fewest) − P(the expert’s way)", "recursions", lambda p: second[p]["fewest_minus_as_expert"]["scored"]),
        ("Off the expert’s path", "mean over its steps", lambda p: shift[p]["off_path"]),
        ("States met against the expert’s", "total variation", lambda p: shift[p]["states"]),
    )
    for label, how, of in specs:
        yield label, how, tuple(_cell(of(p)) for p in POLICIES)


def _credit(found: Table) -> Iterator[tuple[str, str, tuple[tuple[str, tuple[Cell, ...]], ...]]]:
    for policy, label in POLICIES.items():
        of = found[policy]
        rows = tuple(
            (ESTIMATORS.get(name, name), tuple(_cell(values[key]) for key in AGREEMENT))
            for name, values in of["estimators"].items()
        )
        if rows:
            yield label, f"{of['turns']} turns, {percent(of['optimal'])} of them optimal", rows


def _cell(of: Table) -> Cell:
    return Cell(of["mean"], of["low"], of["high"])


def _findings(found: Table) -> Iterator[str]:
    third, prefixes = found["theorem_3_3"], found["corollary_3_2"]
    gain, bound = third["gain"], third["bound"]
    yield (
        f"Theorem 3.3: p(s) is higher after GRPO in {percent(third['higher'])} of {third['states']} states of the "
        f"expert and lower in {percent(third['lower'])} (shown by intervals: {percent(third['shown_higher'])} and "
        f"{percent(third['shown_lower'])}); its premise, lower nowhere, holds along "
        f"{percent(third['layouts_where_premise_holds'])} of the paths. P(the expert’s way) gains "
        f"{decimals(gain['mean'], '+')} [{decimals(gain['low'], '+')}, {decimals(gain['high'], '+')}]; what the falls "
        f"leave of the bound is {decimals(bound['mean'])}."
    )
    yield (
        f"Corollary 3.2: of {prefixes['prefixes']} prefixes {percent(prefixes['higher'])} are likelier after GRPO, "
        f"{percent(prefixes['lower'])} less likely, by at most {decimals(prefixes['largest_fall'])}."
    )


def _charts(found: Table) -> Iterator[Chart | None]:
    bins, betas = found["theorem_3_1"]["bins"], [b["beta"] for b in found["theorem_3_1"]["betas"]]
    lines = [_series("measured", bins, "reference", "trained")]
    for beta in betas[len(betas) // 2 :][:3]:
        points = tuple((b["reference"], b["fixed_points"][str(beta)]) for b in bins)
        lines += [Series(f"β {beta:g}", points)]
    yield line_chart(
        "Theorem 3.1: p(s) after GRPO by p(s) of SFT", lines, note="Lines for β are its fixed points.", x_name="p(s)"
    )
    steps = found["corollary_3_2"]["by_steps"]
    prefixes = [_series(label, steps, "steps", policy) for policy, label in _DRAWN.items()]
    yield line_chart("Corollary 3.2: P(first k steps)", prefixes, note="Only paths that are as long.", x_name="k")
    for policy, label in POLICIES.items():
        rows = found["horizons"][policy]
        curves = [
            _series("goal", rows, "horizon", "success"),
            _series("fewest steps", rows, "horizon", "fewest"),
            _series("product of p(s)", rows, "horizon", "recursion"),
        ]
        yield line_chart(f"{label}: success by horizon", curves, note="Horizon: the expert’s steps.", x_name="horizon")
    away = [_series(label, found["horizons"][policy], "horizon", "off_path") for policy, label in _DRAWN.items()]
    yield line_chart("Off the expert’s path, by horizon", away, note="Mean over the path’s steps.", x_name="horizon")


def _series(label: str, rows: list[Table], x: str, y: str) -> Series:
    return Series(label, tuple((row[x], row[y]) for row in rows))
