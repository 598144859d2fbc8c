"""Compare: any finished work directories in one table and one page."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from stgrpo.comparison.compare import compare
from stgrpo.comparison.page import write_page
from stgrpo.comparison.paper import paper_tables
from stgrpo.comparison.runs import groups_of, read_runs
from stgrpo.comparison.show import lines, paper_lines
from stgrpo.console import say
from stgrpo.files import to_json, write_atomically


def run_compare(folders: Sequence[Path], *, page: Path | None, json: Path | None, margin: float, paper: bool) -> None:
    """Prints the tables; writes the page and the figures where they are wanted.

    Raises:
        UserError: a folder holds nothing that can be compared, or not with a paper where that is wanted.
    """
    groups = groups_of(read_runs(folders))
    found = compare(groups, margin)
    papers = paper_tables(found, groups) if paper else ()
    for line in (*lines(found), *paper_lines(papers)):
        say(line)
    if json is not None:
        figures = dataclasses.asdict(found) | {"paper": [dataclasses.asdict(table) for table in papers]}
        write_atomically(json, to_json(figures, indent=1) + "\n")
        say(f"compare: the figures are in {json}")
    if page is not None:
        write_page(page, found, groups, papers)
        say(f"compare: open {page}")
