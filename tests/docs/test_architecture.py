"""The page's picture of the rooms is the one that the import rules hold."""

import pathlib
import re
import runpy

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
PAGE = (REPOSITORY / "docs" / "architecture.md").read_text(encoding="utf-8")
FLOORS = runpy.run_path(str(REPOSITORY / "tests" / "test_imports.py"))["FLOORS"]


def test_the_table_has_the_floors_in_order():
    rows = re.findall(r"^\| (\d+) \| (.+?) \| (.+?) \|$", PAGE, flags=re.MULTILINE)
    assert [tuple(re.findall(r"`(\w+)`", rooms)) for _, rooms, _ in rows] == list(FLOORS)
    assert [int(number) for number, _, _ in rows] == list(range(len(FLOORS)))


def test_the_picture_has_every_room():
    picture = PAGE.partition("```mermaid")[2].partition("```")[0]
    drawn = set(re.findall(r"\w+", picture))
    assert {room for floor in FLOORS[:-1] for room in floor} <= drawn


def is_there(name: str, sources: dict[str, str]) -> bool:
    """Whether a dotted name is a module of ours, something that a module defines, or a method of a class."""
    owner, _, attribute = name.rpartition(".")
    defines = re.compile(rf"\b(def|class) {attribute}\b")
    of_class = re.compile(rf"class {owner}\b.*?def {attribute}\b|class {owner}\b.*?\n    {attribute}: ", re.DOTALL)
    return name in sources or any(
        (module == owner and defines.search(text)) or of_class.search(text) for module, text in sources.items()
    )


def test_what_the_page_names_is_there():
    package = REPOSITORY / "stgrpo"
    dotted = {path: ".".join(path.relative_to(package).with_suffix("").parts) for path in package.rglob("*.py")}
    sources = {name.removesuffix(".__init__"): path.read_text() for path, name in dotted.items()}
    names = re.findall(r"`((?:\w+\.)+\w+)`", PAGE.partition("## How one prompt travels")[2])
    assert len(names) > 12
    assert [name for name in names if not name.endswith("jsonl") and not is_there(name, sources)] == []
    assert not is_there("rl.losses.no_such_loss", sources) and not is_there("react.nothing", sources)
