"""What `new-environment` writes: a package that an installer takes, which passes the checks and its own tests."""

import os
import pathlib
import subprocess
import sys
import tomllib

import pytest

from stgrpo.cli import main
from stgrpo.conformance.run import OK, Scope, check_environment

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]


@pytest.fixture
def package(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """The skeleton, with the metadata that an installer would write of its pyproject.toml."""
    monkeypatch.delitem(sys.modules, "my_maze", raising=False)
    main(["new-environment", "my_maze", f"--folder={tmp_path}"])
    project = tomllib.loads((tmp_path / "my_maze" / "pyproject.toml").read_text("utf-8"))["project"]
    metadata = tmp_path / "my_maze" / "my_maze-0.1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: my_maze\nVersion: 0.1.0\n", encoding="utf-8")
    points = "".join(f"{name} = {value}\n" for name, value in project["entry-points"]["stgrpo.environments"].items())
    (metadata / "entry_points.txt").write_text(f"[stgrpo.environments]\n{points}", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path / "my_maze")
    return tmp_path / "my_maze"


def test_it_passes_every_check(package: pathlib.Path) -> None:
    results = {result.check: result for result in check_environment("my_maze", Scope(layouts=1))}
    assert {result.status for result in results.values()} == {OK}
    assert results["deterministic"].why == "6 layouts, 6 of them in another process too"


@pytest.mark.slow
def test_it_passes_its_own_tests(package: pathlib.Path) -> None:
    environment = {**os.environ, "PYTHONPATH": f"{package}{os.pathsep}{REPOSITORY}"}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(package)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=package, timeout=120)
    assert done.returncode == 0 and "3 passed" in done.stdout, done.stdout + done.stderr


def test_it_keeps_to_our_style(package: pathlib.Path) -> None:
    ruff = pathlib.Path(sys.executable).with_name("ruff")
    if not ruff.is_file():
        pytest.skip("ruff is not installed beside this Python")
    files = [str(package / name) for name in ("my_maze.py", "config.py")]
    settings = ["--config", str(REPOSITORY / "pyproject.toml")]
    for words in (["check", *settings], ["format", "--check", *settings]):
        done = subprocess.run([str(ruff), *words, *files], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "new-environment takes one name, such as my_maze"),
        (["a", "b"], "takes one name"),
        (["My-Maze"], "the name 'My-Maze' cannot be that of a module"),
        (["../maze"], "the name '../maze' cannot be that of a module"),
        (["class"], "the name 'class' cannot be that of a module"),
        (["m" * 51], "cannot be that of a module"),
        (["webshop"], "there is an environment 'webshop' already"),
        (["json"], "there is a module 'json' already"),
        (["there"], "there is there already: choose another name"),
        (["maze", "--folder=nowhere"], "--folder=nowhere is no folder"),
        (["maze", "--fodler=."], "Unknown command line flag 'fodler'"),
    ],
)
def test_a_mistake_is_one_line_and_writes_nothing(words, said, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there").mkdir()
    with pytest.raises(SystemExit) as stop:
        main(["new-environment", *words])
    error = capsys.readouterr().err
    assert stop.value.code == 2 and said in error and error.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["there"]
