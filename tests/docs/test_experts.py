"""The commands of the page on served models are commands, and its fields are fields."""

import pathlib
import re
import shlex

import pytest

from stgrpo.cli import check, parse
from stgrpo.config import base

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
PAGE = (REPOSITORY / "docs" / "experts.md").read_text()
COMMANDS = re.findall(r"^stgrpo ((?:.*\\\n)*.*)$", PAGE + (REPOSITORY / "README.md").read_text(), re.MULTILINE)


@pytest.mark.parametrize("kind", ["--config.expert.kind=llm", "--config.policy.kind=server"])
def test_the_commands_parse_and_their_config_can_run(kind, monkeypatch):
    monkeypatch.chdir(REPOSITORY)
    commands = [shlex.split(command.replace("\\\n", " ")) for command in COMMANDS if kind in command]
    assert commands
    for command in commands:
        check(parse(command).config)


def test_the_fields_exist():
    sections = base().to_dict()
    named = re.findall(r"`(expert|policy|client|evaluation|prompt|limits)\.([a-z_]+)", PAGE)
    assert len(set(named)) > 15
    for section, field in named:
        assert field in sections[section], f"{section}.{field}"
