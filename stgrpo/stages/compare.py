"""Compare: any finished work directories in one table and one page."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from stgrpo.comparison.compare import compare
from stgrpo.comparison.page import write_page
from stgrpo.comparison.runs import groups_of, read_runs
from stgrpo.comparison.show import lines
from stgrpo.console import say
from stgrpo.files import to_json, write_atomically


def run_compare(folders: Sequence[Path], *, page: Path | None, json: Path | None, margin: float) -> None:
    """Prints the tables; writes the page and the figures where they are wanted.

    Raises:
        UserError: a folder holds nothing that can be compared.
    """
    groups = groups_of(read_runs(folders))
    found = compare(groups, margin)
    for line in lines(found):
        say(line)
    if json is not None:
        write_atomically(json, to_json(dataclasses.asdict(found), indent=1) + "\n")
        say(f"compare: the figures are in {json}")
    if page is not None:
        write_page(page, found, groups)
        say(f"compare: open {page}")
