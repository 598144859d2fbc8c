"""`make quick` chooses the tests of what changed, and ends in time."""

import types

import pytest
from quick import CORE, REPOSITORY, Deadline, select


@pytest.fixture
def repository(tmp_path):
    files = {
        "tests/models/test_shapes.py": "from stgrpo.models.shapes import ModelShape",
        "tests/models/test_late.py": "def test():\n    import stgrpo.models.shapes",
        "tests/models/test_room.py": "from stgrpo import models",
        "tests/test_other.py": "import stgrpo.models.shapes_of_clouds",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def test_select_a_module_are_those_that_import_it(repository):
    chosen = select(["stgrpo/models/shapes.py"], repository)
    assert chosen == ["tests/models/test_late.py", "tests/models/test_shapes.py"]
    assert select(["stgrpo/models/__init__.py"], repository) == ["tests/models/test_room.py"]
    assert select(["tests/test_other.py", "README.md"], repository) == ["tests/test_other.py"]
    assert select([], repository) == []


def test_the_core_is_there():
    assert [name for name in CORE if not (REPOSITORY / name).exists()] == []


def test_nothing_begins_after_the_deadline():
    item = types.SimpleNamespace(path=REPOSITORY / "tests/test_late.py")
    said = []
    terminal = types.SimpleNamespace(write_line=said.append)
    early, late = Deadline(60), Deadline(-1)
    early.pytest_runtest_setup(item)
    early.pytest_terminal_summary(terminal)
    assert said == []
    with pytest.raises(pytest.skip.Exception, match="out of time"):
        late.pytest_runtest_setup(item)
    late.pytest_terminal_summary(terminal)
    assert said == ["out of time; not or not wholly run: tests/test_late.py"]
