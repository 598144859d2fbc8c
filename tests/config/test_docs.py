"""The page of all fields is the one that the declarations make; `stgrpo help` explains any of them."""

import pathlib

import pytest

from stgrpo.cli import USAGE, main
from stgrpo.config import FIELDS, SECTIONS
from stgrpo.config.docs import page

PAGE = pathlib.Path(__file__).resolve().parents[2] / "docs" / "config.md"


def test_the_page_is_made_from_the_declarations():
    text = PAGE.read_text(encoding="utf-8")
    assert text == page(), "run: python -m stgrpo.config.docs > docs/config.md"
    assert all(text.count(f"| `{name}` |") == 1 for name in FIELDS)


def shown(capsys, *arguments: str) -> str:
    try:
        main(["help", *arguments])
    except SystemExit as stop:
        assert not stop.code
    return capsys.readouterr().out


@pytest.mark.parametrize("name", FIELDS)
def test_a_field_is_explained(name, capsys):
    text = " ".join(shown(capsys, name).split())
    assert text.startswith(f"{name} meaning") and " ".join(FIELDS[name].meaning.replace("`", "").split()) in text
    assert f"--config.{name}=VALUE" in text


@pytest.mark.parametrize("name", SECTIONS)
def test_a_section_is_explained(name, capsys):
    lines = shown(capsys, name).splitlines()
    assert [line.split()[0] for line in lines if line.startswith("  ") and line[2] != " "] == list(
        SECTIONS[name].fields
    )


def test_help_alone_and_of_a_command_is_the_usage(capsys):
    assert shown(capsys).strip() == shown(capsys, "collect").strip() == USAGE.strip()


def test_what_is_neither_is_one_line_and_exit_2(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["help", "grpo.betta"])
    error = capsys.readouterr().err
    assert stop.value.code == 2 and error.count("\n") == 1 and "did you mean 'grpo.kl_coef'?" in error
