"""Tables of results in README and docs are those that the script makes of the published files."""

import importlib.util
import pathlib

import pytest

from stgrpo.evaluation.statistics.planning import mcnemar_power, planned_layouts

ROOT = pathlib.Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("tables", ROOT / "benchmarks" / "tables.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_table_is_what_its_file_gives_and_every_one_is_shown(script):
    known, shown = script.tables(), set()
    for name in script.PAGES:
        text = (ROOT / name).read_text(encoding="utf-8")
        assert script.with_tables(text, known) == text, f"{name}: run python benchmarks/tables.py"
        shown |= {found[2] for found in script.TABLE.finditer(text)}
    assert shown == known.keys()


def test_a_table_that_says_something_else_is_written_anew(script):
    known = script.tables()
    page = "a\n<!-- table quick start, muon -->\n| old |\n<!-- end of table -->\nb\n"
    new = script.with_tables(page, known)
    assert new == f"a\n<!-- table quick start, muon -->\n{known['quick start, muon']}<!-- end of table -->\nb\n"
    assert "| SFT (350 updates) | .695 [.628, .755], n = 200 |  | 10.88 | 9.06 |" in new  # Wilson's of 139 in 200
    assert ".810 [.750, .858], n = 200 | +.115 [+.071, +.170], p = 5.6e-06 |" in new


def test_three_seeds_are_a_row_each_and_one_of_all(script):
    *seeds, together = script.tables()["quick start, three seeds"].splitlines()[2:]
    assert seeds[0] == "| 0 | .750 [.686, .805] | .810 [.750, .858] | +.060 [+.015, +.111], p = 0.017 | 17 | 5 |"
    assert len(seeds) == 3 and together.startswith("| all 3 | .730 [") and together.endswith("| 49 | 17 |")


def test_the_planned_numbers_of_the_page_are_those_that_it_says():
    text = (ROOT / "docs" / "experiments.md").read_text(encoding="utf-8")
    assert f"10 % of the layouts, SFT alone 3 %: {planned_layouts(0.03, 0.10)} for a power of 80 %" in text
    assert f"# {mcnemar_power(100, 0.03, 0.10):.2f} with a hundred" in text
