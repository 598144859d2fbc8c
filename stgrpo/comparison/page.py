"""The page of a comparison: its tables, the parts of the variance, and curves with bands over seeds."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

from stgrpo.comparison.cells import Row
from stgrpo.comparison.compare import Comparison
from stgrpo.comparison.paper import PaperTable
from stgrpo.comparison.runs import Group
from stgrpo.comparison.show import HEADINGS, cells, contrast_cells, contrast_headings, protocol_of
from stgrpo.files import write_atomically
from stgrpo.report.charts import Chart, Series, line_chart
from stgrpo.report.curves import KNOWN, STAGES
from stgrpo.report.load import Row as Step
from stgrpo.report.rendering import asset, render
from stgrpo.report.text import task_title

MOST_LINES = 8  # of a chart: there are no more colours
_LEFT_OUT = ("learning_rate", "seconds", "machine/", "programs", "tokens_")


@dataclasses.dataclass(frozen=True)
class RowView:
    """A row of rates, as it is drawn: the rate and its interval, and all in words."""

    row: Row
    cells: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Table:
    """The rates on one task and set of layouts."""

    title: str
    rows: tuple[RowView, ...]


def write_page(path: Path, comparison: Comparison, groups: Sequence[Group], papers: Sequence[PaperTable] = ()) -> None:
    """Writes the page, which needs nothing beside it.

    Raises:
        RunError: the disk does not take it.
    """
    write_atomically(path, page(comparison, groups, papers))


def page(comparison: Comparison, groups: Sequence[Group], papers: Sequence[PaperTable] = ()) -> str:
    """The page's HTML."""
    places = dict.fromkeys((row.task, row.suite) for row in comparison.rows)
    tables = [
        Table(
            f"{task_title(task)} — {suite}{protocol_of(comparison, suite, task)}",
            tuple(RowView(row, cells(row)) for row in comparison.rows if (row.task, row.suite) == (task, suite)),
        )
        for task, suite in places
    ]
    return render(
        "compare.html",
        comparison=comparison,
        tables=tables,
        papers=papers,
        headings=HEADINGS,
        contrasts=[contrast_cells(contrast) for contrast in comparison.contrasts],
        contrast_headings=contrast_headings(comparison),
        methods=list(dict.fromkeys(contrast.method for contrast in comparison.contrasts)),
        values={name: [group.runs[0].fields.get(name, "–") for group in groups] for name in comparison.differ},
        curves={title: charts for stage, title in STAGES.items() if (charts := _charts(groups[:MOST_LINES], stage))},
        left_out=max(0, len(groups) - MOST_LINES),
        style=asset("report.css"),
        script=asset("report.js"),
    )


def _charts(groups: Sequence[Group], stage: str) -> list[Chart]:
    found = []
    for spec in KNOWN[stage]:
        key = next(iter(spec.keys))
        if not key.startswith(_LEFT_OUT):
            series = [_series(group, stage, key) for group in groups]
            found.append(line_chart(spec.title, series, note=spec.note))
    return [chart for chart in found if chart is not None]


def _series(group: Group, stage: str, key: str) -> Series:
    """The mean over the runs of a group at each step that all of them have, and the band from the least to the most."""
    each = [_points(run.data.curves, stage, key) for run in group.runs]
    each = [points for points in each if points]
    steps = sorted(set.intersection(*map(set, each))) if each else []
    values = [[points[step] for points in each] for step in steps]
    mean = tuple((step, sum(v) / len(v)) for step, v in zip(steps, values, strict=True))
    band = tuple((step, min(v), max(v)) for step, v in zip(steps, values, strict=True)) if len(each) > 1 else ()
    return Series(group.label, mean, band)


def _points(curves: Mapping[str, Sequence[Step]], stage: str, key: str) -> dict[float, float]:
    return {row["step"]: row[key] for row in curves.get(stage, ()) if key in row}
