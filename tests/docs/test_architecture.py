"""What the page on the rooms names is there; `tests/test_imports.py` compares its rooms with the rules."""

import pathlib
import re

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
PAGE = (REPOSITORY / "docs" / "architecture.md").read_text(encoding="utf-8")


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
