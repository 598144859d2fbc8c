"""Compare: any finished work directories in one table and one page."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

from stgrpo.comparison.compare import compare
from stgrpo.comparison.load import read_runs
from stgrpo.comparison.outcomes import write_outcomes
from stgrpo.comparison.page import write_page
from stgrpo.comparison.paper import paper_tables
from stgrpo.comparison.runs import groups_of
from stgrpo.comparison.show import lines, paper_lines
from stgrpo.console import say
from stgrpo.files import to_json, write_atomically


def run_compare(folders: Sequence[Path], written: Mapping[str, Path], *, margin: float, paper: bool) -> None:
    """Prints the tables; writes what is wanted.

    Args:
        folders: work directories, sweeps, files of outcomes.
        written: files by what goes there: "out" the page, "json" the figures, "outcomes" how every episode ended.
        margin: of equivalence; 0 for none.
        paper: whether the tables of the paper are wanted too.

    Raises:
        UserError: a folder holds nothing that can be compared, or not with a paper where that is wanted.
    """
    runs = read_runs(folders)
    groups = groups_of(runs)
    found = compare(groups, margin)
    papers = paper_tables(found, groups) if paper else ()
    for line in (*lines(found), *paper_lines(papers)):
        say(line)
    if "json" in written:
        figures = dataclasses.asdict(found) | {"paper": [dataclasses.asdict(table) for table in papers]}
        write_atomically(written["json"], to_json(figures, indent=1) + "\n")
        say(f"compare: the figures are in {written['json']}")
    if "outcomes" in written:
        write_outcomes(written["outcomes"], runs)
        say(f"compare: how every episode ended is in {written['outcomes']}")
    if "out" in written:
        write_page(written["out"], found, groups, papers)
        say(f"compare: open {written['out']}")
