"""A comparison in lines of the console."""

from collections.abc import Iterator, Sequence

from stgrpo.comparison.cells import Row
from stgrpo.comparison.compare import Comparison, Contrast
from stgrpo.comparison.paper import PaperTable
from stgrpo.console import table
from stgrpo.evaluation.records import STAGE_LABELS

HEADINGS = (
    "policy",
    "runs",
    "seeds",
    "n",
    "SR [95 %, other layouts]",
    "SD over seeds",
    "[95 %, other seeds too]",
    "ASAT",
    "ASST",
    "SPL",
    "failures",
)


def lines(comparison: Comparison) -> Iterator[str]:
    """The tables, with what they are of, and the notes."""
    yield from _of_groups(comparison)
    for suite, task in dict.fromkeys((row.suite, row.task) for row in comparison.rows):
        yield ""
        yield f"{task}, {suite}{protocol_of(comparison, suite, task)}"
        rows = [cells(row) for row in comparison.rows if (row.suite, row.task) == (suite, task)]
        yield from table(rows, HEADINGS)
    if comparison.contrasts:
        yield ""
        yield from table(map(contrast_cells, comparison.contrasts), contrast_headings(comparison))
        for method in dict.fromkeys(contrast.method for contrast in comparison.contrasts):
            yield f"made by: {method}"
    for note in comparison.notes:
        yield f"note: {note}"


def protocol_of(comparison: Comparison, suite: str, task: str) -> str:
    """Under which protocol a table was played, for its title; empty where nothing was written down before."""
    rows = [row for row in comparison.rows if (row.suite, row.task) == (suite, task)]
    known = dict.fromkeys(found for row in rows for found in row.protocols)
    if not known:
        return ""
    if len(known) > 1:
        return ", by different protocols"
    return f", protocol {next(iter(known))}" + ("" if all(row.protocols for row in rows) else " where it is known")


def paper_lines(papers: Sequence[PaperTable]) -> Iterator[str]:
    """The tables in a paper's form."""
    for paper in papers:
        yield ""
        yield paper.title
        yield from table(paper.rows, paper.headings)


def _of_groups(comparison: Comparison) -> Iterator[str]:
    for label, runs in comparison.groups.items():
        yield f"{label}: {', '.join(runs)}"
    if comparison.differ:
        yield f"they differ in {', '.join(comparison.differ)}"


def cells(row: Row) -> tuple[str, ...]:
    """One row of the table of rates."""
    left_out = [f"{row.dropped} left out, the server had no answer"] if row.dropped else []
    failures = ", ".join([f"{count} {kind}" for kind, count in row.failures.items()] + left_out)
    seeds = ",".join("?" if seed is None else str(seed) for seed in row.seeds)
    sd = "-" if row.over_seeds is None or row.over_seeds.sd is None else f"{row.over_seeds.sd:.3f}"
    return (
        STAGE_LABELS.get(row.policy, row.policy),
        row.group,
        seeds,
        str(row.layouts),
        f"{row.sr:.3f} [{row.over_layouts[0]:.3f}, {row.over_layouts[1]:.3f}]",
        sd,
        "-" if row.over_both is None else f"[{row.over_both[0]:.3f}, {row.over_both[1]:.3f}]",
        *("-" if value is None else f"{value:.2f}" for value in (row.asat, row.asst, row.spl)),
        failures or "-",
    )


def contrast_headings(comparison: Comparison) -> tuple[str, ...]:
    """Of the table of differences."""
    margin = (f"equivalent within {comparison.margin:g}",) if comparison.margin else ()
    return ("where", "is above", "by [95 %]", "n", "p", "p (Holm)", *margin)


def contrast_cells(contrast: Contrast) -> tuple[str, ...]:
    """One row of the table of differences."""
    found = contrast.difference
    same = () if contrast.equivalent is None else ("yes" if contrast.equivalent else "not shown",)
    return (
        f"{contrast.task}, {contrast.suite}: {contrast.b}",
        contrast.a,
        f"{found.estimate:+.3f} [{found.low:+.3f}, {found.high:+.3f}]",
        str(contrast.layouts),
        *("-" if p is None else f"{p:.2g}" for p in (contrast.p_value, contrast.p_holm)),
        *same,
    )
