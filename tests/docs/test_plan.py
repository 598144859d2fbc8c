"""The tables of docs/plan.md are those that the script makes of its results, and of the table of chips."""

import importlib.util
import pathlib
import re

import pytest

from stgrpo.cli import parse
from stgrpo.errors import UserError
from stgrpo.plan.hardware import CHIPS, GIB, GIGA, TERA

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "plan.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("presets", ROOT / "benchmarks" / "presets.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_place_and_size_is_in_the_table(script):
    lines = script.read(script.RESULTS)
    assert set(lines) == {(place, size) for place in script.places() for size in script.SIZES}
    assert script.table(lines) in PAGE
    for line in lines.values():
        assert "error" in line or max(line["memory_gib"].values()) <= line["has_gib"]


def test_formulas_are_near_what_was_compiled(script):
    """Both are of the same preset where the results have it compiled and its formula is asked again."""
    compiled = [line for line in script.read(script.RESULTS).values() if line.get("compiled")]
    assert len(compiled) >= 3
    for line in compiled:
        for name, figure in line["formula_gib"].items():
            assert figure == pytest.approx(line["memory_gib"][name], rel=0.25, abs=0.3), (
                line["place"],
                line["size"],
                name,
            )


def test_chips_are_as_in_the_program():
    for name, chip in CHIPS.items():
        cells = [name, f"{chip.flops / TERA:g}", f"{chip.memory / GIB:g} GiB", f"{chip.bandwidth / GIGA:,g}"]
        assert f"| {' | '.join(cells)} |" in PAGE and chip.source in PAGE


@pytest.mark.parametrize(
    "place", re.findall(r'^    "(\w+-\d+)": ', (ROOT / "configs" / "qwen2_5.py").read_text(), re.M)
)
def test_a_place_is_a_config(place):
    config = parse(["plan", f"--config={ROOT / 'configs' / 'qwen2_5.py'}:3b,burger,{place}"]).config
    assert config.model.name == "qwen2.5-3b" and config.grpo.micro_batches >= 1


def test_a_place_that_is_too_small_or_unknown_is_one_line():
    with pytest.raises(UserError, match="14b does not fit v5e-8, not even with adapters"):
        parse(["plan", f"--config={ROOT / 'configs' / 'qwen2_5.py'}:14b,burger,v5e-8"])
    with pytest.raises(UserError, match="no variant 'v5e-9'"):
        parse(["plan", f"--config={ROOT / 'configs' / 'qwen2_5.py'}:14b,burger,v5e-9"])


@pytest.mark.slow
@pytest.mark.compilers
@pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="needs the compiler for TPUs")
def test_weak_scaling_is_what_the_formulas_give(script, monkeypatch):
    monkeypatch.setenv("TPU_SKIP_MDS_QUERY", "1")
    monkeypatch.setenv("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")
    assert script.scaling() in PAGE
