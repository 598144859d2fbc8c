"""A figure that has become worse is named, and the script fails."""

import importlib.util
import json
import pathlib
import sys

import pytest

FOLDER = pathlib.Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture
def compare():
    spec = importlib.util.spec_from_file_location("benchmark_compare", FOLDER / "compare.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(compare, monkeypatch, tmp_path, values: dict[str, float], *more: str) -> int:
    path = tmp_path / "run.jsonl"
    path.write_text("".join(json.dumps({"figure": name, "value": value}) + "\n" for name, value in values.items()))
    monkeypatch.setattr(sys, "argv", ["compare.py", f"--run={path}", *more])
    return compare.main()


@pytest.fixture
def recorded():
    figures = json.loads((FOLDER / "baselines" / "cpu.json").read_text())["figures"]
    return {name: figure["value"] for name, figure in figures.items()}


def test_the_recorded_run_is_no_regression(compare, recorded, monkeypatch, tmp_path, capsys):
    assert run(compare, monkeypatch, tmp_path, recorded) == 0
    assert "WORSE" not in capsys.readouterr().out


def test_each_figure_can_be_seen_to_become_worse(compare, recorded, monkeypatch, tmp_path, capsys):
    for name, value in recorded.items():
        assert run(compare, monkeypatch, tmp_path, recorded | {name: 1.5 * value}) == 1, name
        worse = [line for line in capsys.readouterr().out.splitlines() if "WORSE" in line]
        assert len(worse) == 1 and f" {name}: " in worse[0] and "+50.0%" in worse[0]


def test_one_program_more_and_three_percent_of_memory_are_seen(compare, recorded, monkeypatch, tmp_path):
    for name, factor in (
        ("programs/sampling", 1.0 + 1 / recorded["programs/sampling"]),
        ("memory/sampling/slots", 1.03),
    ):
        assert run(compare, monkeypatch, tmp_path, recorded | {name: recorded[name] * factor}) == 1


def test_a_figure_that_is_missing_or_no_number_is_worse_and_one_that_is_lower_is_not(
    compare, recorded, monkeypatch, tmp_path, capsys
):
    name = "planner/potato_soup/steps"
    fewer = {other: value for other, value in recorded.items() if other != name}
    assert run(compare, monkeypatch, tmp_path, fewer) == 1
    assert f"WORSE   {name}: not measured" in capsys.readouterr().out
    assert run(compare, monkeypatch, tmp_path, recorded | {name: float("nan")}) == 1
    assert run(compare, monkeypatch, tmp_path, recorded | {name: 0.5 * recorded[name], "new": 3}) == 0
    out = capsys.readouterr().out
    assert f"better  {name}" in out and "new     new: 3" in out


def test_recording_keeps_tolerances_and_says_where_and_when(compare, recorded, monkeypatch, tmp_path):
    path = tmp_path / "cpu.json"
    path.write_text((FOLDER / "baselines" / "cpu.json").read_text())
    before = json.loads(path.read_text())
    doubled = {name: 2 * value for name, value in recorded.items()}
    assert run(compare, monkeypatch, tmp_path, doubled, f"--baseline={path}", "--record") == 0
    after = json.loads(path.read_text())
    assert {n: f["value"] for n, f in after["figures"].items()} == doubled
    assert [f["tolerance"] for f in after["figures"].values()] == [f["tolerance"] for f in before["figures"].values()]
    assert set(after["machine"]) == {"processor", "cores", "python", "jax"} and len(after["date"]) == 10
    assert run(compare, monkeypatch, tmp_path, doubled, f"--baseline={path}") == 0
