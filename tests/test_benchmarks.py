"""The benchmarks fit the package: each can be imported and says what it takes."""

import importlib.util
import pathlib
import sys

import pytest

FOLDER = pathlib.Path(__file__).resolve().parents[1] / "benchmarks"
ELSEWHERE = {"peer_tunix"}  # run in the peer's environment, which is not at hand here
NO_PROGRAM = {"peer"}
TAKES_A_CONFIG = {"memory"}  # and hands its flags on to it, --help too


@pytest.mark.parametrize("name", sorted({path.stem for path in FOLDER.glob("*.py")} - ELSEWHERE))
def test_it_can_be_imported_and_tells_how_it_is_used(name, monkeypatch, capsys):
    monkeypatch.syspath_prepend(FOLDER)
    spec = importlib.util.spec_from_file_location(f"benchmark_{name}", FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    assert module.__doc__
    if name in NO_PROGRAM | TAKES_A_CONFIG:
        return
    monkeypatch.setattr(sys, "argv", [f"{name}.py", "--help"])
    with pytest.raises(SystemExit) as stop:
        module.main()
    assert stop.value.code == 0 and "usage:" in capsys.readouterr().out


def test_what_runs_elsewhere_is_a_program_at_least():
    for name in ELSEWHERE:
        compile((FOLDER / f"{name}.py").read_text(encoding="utf-8"), name, "exec")
