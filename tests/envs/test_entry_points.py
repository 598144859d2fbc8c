"""Environments are found where they are declared: by installed packages, by a checkout, by the process itself."""

import pathlib
import tomllib

import pytest

from stgrpo import envs
from stgrpo.errors import UserError

PLUG_IN = """
class Ours:
    def tasks(self):
        return ("here",)

class Faster(Ours):
    data = ""

    def with_data(self, path):
        self.data = path
        return self
"""
OTHER = """
[project]
name = "other"
[project.entry-points."stgrpo.environments"]
maze = "maze_plug_in:Ours"
"""
DECLARED = """
[stgrpo.environments]
maze = maze_plug_in:Ours
maze.fast = maze_plug_in:Faster
broken = maze_plug_in:Nothing
absent = no_such_module:Nothing
"""


@pytest.fixture
def installed(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package with metadata as an installer writes them."""
    (tmp_path / "maze_plug_in.py").write_text(PLUG_IN, encoding="utf-8")
    metadata = tmp_path / "maze-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: maze\nVersion: 1.0\n", encoding="utf-8")
    (metadata / "entry_points.txt").write_text(DECLARED, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(envs, "_REGISTRY", {})


def test_an_installed_package_brings_environments_and_engines(installed: None) -> None:
    assert {"maze", "broken", "robotouille"} <= set(envs.names()) and "maze.fast" not in envs.names()
    assert envs.engines("maze") == ("ours", "fast")
    assert [type(envs.get("maze", engine=engine)).__name__ for engine in ("ours", "fast")] == ["Ours", "Faster"]
    with pytest.raises(UserError, match="no engine 'slow'; use one of ours, fast"):
        envs.get("maze", engine="slow")


def test_data_are_for_environments_that_read_some(installed: None) -> None:
    assert envs.get("maze", engine="fast", data="mazes").data == "mazes"
    with pytest.raises(UserError, match="env.data='mazes': environment 'maze' reads no data, leave it out"):
        envs.get("maze", data="mazes")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("broken", "environment 'broken': maze_plug_in:Nothing cannot be imported: module 'maze_plug_in' has no"),
        ("absent", "environment 'absent': no_such_module:Nothing cannot be imported: No module named"),
    ],
)
def test_a_plug_in_that_cannot_be_imported_is_named(installed: None, name: str, said: str) -> None:
    with pytest.raises(UserError) as caught:
        envs.get(name)
    assert str(caught.value).startswith(said)


def test_what_a_process_registers_comes_first(installed: None) -> None:
    mine = object()
    envs.register("maze", lambda: mine)
    assert envs.get("maze") is mine and envs.engines("maze") == ("ours", "fast")
    envs.register("cave", lambda: mine, engine="mine")
    assert "cave" in envs.names() and envs.engines("cave") == ("mine",)


def test_a_checkout_that_is_not_installed_has_what_its_pyproject_declares(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(envs, "entry_points", lambda group: ())
    monkeypatch.setattr(envs, "_REGISTRY", {})
    declared = tomllib.loads((envs.CHECKOUT / "pyproject.toml").read_text("utf-8"))["project"]["entry-points"]
    known = {
        "robotouille",
        "robotouille.upstream",
        "alfworld",
        "alfworld.upstream",
        "alfworld_0_3",
        "webshop",
        "openenv",
    }
    assert set(declared[envs.ENTRY_POINTS]) == known
    assert set(envs.names()) == {name.partition(".")[0] for name in known}
    assert envs.engines("robotouille") == envs.engines("alfworld") == ("ours", "upstream")
    assert "burger" in envs.get("robotouille").tasks()


@pytest.mark.parametrize("text", ["", OTHER])
def test_where_nothing_is_declared_the_fix_is_said(
    text: str, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if text:
        (tmp_path / "pyproject.toml").write_text(text, encoding="utf-8")
    monkeypatch.setattr(envs, "CHECKOUT", tmp_path)
    monkeypatch.setattr(envs, "entry_points", lambda group: ())
    monkeypatch.setattr(envs, "_REGISTRY", {})
    assert envs.names() == ()
    with pytest.raises(UserError, match="'robotouille': unknown; none is declared: `pip install -e .`"):
        envs.get("robotouille")
