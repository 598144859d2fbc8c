"""The Dockerfiles: what they copy is there and reaches the builder, the extras exist, signals reach the program."""

import fnmatch
import json
import pathlib
import re
import shlex
import tomllib

import pytest

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
FILES = sorted(p.name for p in (REPOSITORY / "launch" / "docker").iterdir())
INSTRUCTIONS = {"FROM", "RUN", "ENV", "WORKDIR", "COPY", "USER", "ENTRYPOINT"}


def instructions(file: str) -> list[tuple[str, str]]:
    text = (REPOSITORY / "launch" / "docker" / file).read_text()
    lines = "\n".join(line for line in text.splitlines() if not line.startswith("#")).replace("\\\n", " ").splitlines()
    return [tuple(line.split(maxsplit=1)) for line in lines if line]


def sources(file: str) -> list[str]:
    return [source for name, rest in instructions(file) if name == "COPY" for source in rest.split()[:-1]]


def test_there_is_one_for_each_kind_of_device():
    assert FILES == ["cpu.Dockerfile", "cuda.Dockerfile", "tpu.Dockerfile"]


@pytest.mark.parametrize("file", FILES)
def test_instructions_are_those_of_docker(file):
    found = instructions(file)
    assert found[0][0] == "FROM"
    assert {name for name, _ in found} <= INSTRUCTIONS
    stages = [rest.split()[-1] for name, rest in found if name == "FROM"]
    assert all(re.fullmatch(r"\S+(:\S+)?( AS \w+)?", rest) for name, rest in found if name == "FROM")
    assert len(stages) == len(set(stages))


@pytest.mark.parametrize("file", FILES)
def test_what_is_copied_is_there_and_not_ignored(file):
    ignored = (REPOSITORY / ".dockerignore").read_text().splitlines()
    assert "*" in ignored
    for source in sources(file):
        assert (REPOSITORY / source).exists(), source
        assert f"!{source}" in ignored
        assert not any(fnmatch.fnmatch(source, line) for line in ignored[ignored.index(f"!{source}") + 1 :])
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    assert {project["readme"], *project["license-files"], "pyproject.toml", "stgrpo", "configs"} == set(sources(file))


@pytest.mark.parametrize("file", FILES)
def test_extras_exist(file):
    extras = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    packages = [
        word for name, rest in instructions(file) if name == "RUN" for word in shlex.split(rest) if word[:1] == "."
    ]
    (package,) = packages
    device = file.removesuffix(".Dockerfile")
    assert package == ("." if device == "cpu" else f".[{device}]")
    assert device == "cpu" or device in extras
    if device == "cuda":
        (vllm,) = extras["vllm"]
        assert any(f"'{vllm}'" in rest for name, rest in instructions(file) if name == "RUN")


@pytest.mark.parametrize("file", FILES)
def test_signals_and_statuses_pass(file):
    (entry,) = (rest for name, rest in instructions(file) if name == "ENTRYPOINT")
    assert json.loads(entry) == ["tini", "--", "stgrpo"]  # a list: a shell would keep signals to itself
    assert any(name == "RUN" and " tini " in rest for name, rest in instructions(file))
