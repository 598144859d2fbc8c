"""Malformed settings by the hundred, through the command line as `stgrpo STAGE --dry_run` takes them.

Each ends with exit status 2 and one line, or is accepted and then a value that its declaration allows.
"""

import functools
import pathlib
import random
import sys

import pytest

from stgrpo import envs
from stgrpo.cli import main
from stgrpo.config import FIELDS
from stgrpo.config.field import Choice, Field, FilePath, Number, Switch, Text

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
SMOKE = f"--config={REPOSITORY / 'configs' / 'tiny.py'}:smoke"
STAGES = ("collect", "sft", "grpo", "evaluate", "run")

NUMBERS = ("inf", "-inf", "nan", "NaN", "Infinity", "1e400", "-1e400", "1e39", str(10**20), str(-(10**20)), "9" * 5000)
SMALL = ("-0.0", "-1", "-1e-9", "0.5.5", "1_0_", "0x10", "1e-400", "1,5", "٣", "½", "--1")
TYPES = ("None", "True", "(1,2)", "(None,)", "('a',)", "[1]", "{}", "b'x'", "lambda: 0", "1j", "...", "()", "(1,")
TEXTS = (
    "",
    " ",
    "x" * 300,
    "x" * 5000,
    "a\x00b",
    "a\nb",
    "\x1b[2J",
    "\ud800",
    "é",
    "日本",
    "a b",
    "\u202e",
    "'",
    '"',
    "\\",
)
PATHS = ("/", "x" * 256, "/".join(["d"] * 3000), "~", "a\tb", "/dev/null/x", "y" * 300 + "/z")
LISTS = (
    "('sft','sft')",
    "('burger','burger')",
    "('unseen','unseen')",
    "('q','q')",
    "('http://h:1','http://h:1/')",
    "('http://H:80','HTTP://h')",
    "('http://h','http://h:80/')",
    "('cap=1','cap=2')",
    "('tensorboard','tensorboard')",
    "('',)",
    "(('a',),)",
    "('a'*10**6,)",
)


def values_for(field: Field) -> tuple[str, ...]:
    """What somebody may write that is not meant for a field of this kind."""
    if isinstance(field, Number):
        return NUMBERS + SMALL + TYPES + TEXTS[:8]
    if isinstance(field, Switch):
        return NUMBERS[:6] + TYPES[2:] + TEXTS
    if isinstance(field, FilePath):
        return PATHS + TEXTS[2:] + TYPES[2:4]
    if isinstance(field, Text | Choice):
        return TEXTS + TYPES + NUMBERS[:6]
    return LISTS + TYPES + TEXTS + NUMBERS[:6]


def malformed(count: int, seed: int) -> list[tuple[str, str]]:
    """Fields and values, each field about as often as any other."""
    rng, names = random.Random(f"settings/{seed}"), list(FIELDS)
    fields = [name for _ in range(-(-count // len(names))) for name in rng.sample(names, len(names))]
    return [(name, rng.choice(values_for(FIELDS[name]))) for name in fields[:count]]


def outcome(name: str, value: str, capsys: pytest.CaptureFixture) -> tuple[int, str]:
    """Exit status and what was said of one setting; whatever else is raised is the caller's to see."""
    stage = STAGES[len(name + value) % len(STAGES)]
    try:
        main([stage, SMOKE, f"--config.{name}={value}", "--dry_run"])
        status = 0
    except SystemExit as stop:
        status = stop.code or 0
    return status, capsys.readouterr().err


def assert_all_end_well(settings: list[tuple[str, str]], capsys: pytest.CaptureFixture) -> list[tuple[str, str]]:
    """Returns those that were accepted."""
    accepted = []
    for name, value in settings:
        try:
            status, said = outcome(name, value, capsys)
        except BaseException as error:
            raise AssertionError(f"{name}={value[:80]!r} ends in {type(error).__name__}: {error}") from error
        lines = said.splitlines()
        if status == 0:
            accepted.append((name, value))
            continue
        assert status == 2 and len(lines) == 1 and lines[0].startswith("stgrpo: "), (name, value[:80], status, said)
        assert name.rpartition(".")[2] in said or value in said, (name, value[:80], said)  # a path says itself
    return accepted


@pytest.fixture(autouse=True)
def entry_points_are_read_once(monkeypatch):
    declared = envs._declared
    monkeypatch.setattr(envs, "_declared", functools.cache(lambda *groups: list(declared(*groups))))


def test_malformed_settings_end_with_one_line(capsys):
    assert_all_end_well(malformed(len(FIELDS), seed=1), capsys)


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ("grpo.learning_rate=inf", "at most"),
        ("grpo.learning_rate=1e400", "at most"),
        ("grpo.learning_rate=nan", "no number"),
        ("grpo.kl_coef=-0.0", "zero"),
        ("sft.batch=100000000000000000000", "at most"),
        ("seed=4294967296", "at most"),
        ("rollout.servers=(1,2)", "tuple of texts"),
        ("rollout.servers=None", "tuple of texts"),
        ("model.kv_heads=0", "at least 1"),
        (f"tokenizer.path={'x' * 300}", "bytes"),
        ("env.tasks=('burger','burger')", "twice"),
        ("evaluation.suites=('unseen','unseen')", "twice"),
        ("rollout.servers=('http://h:1','http://h:1/')", "twice"),
        ("rollout.servers=('http://H','http://h:80/')", "twice"),
        ("grpo.loss_options=('cap=1','cap=2')", "twice"),
        ("sft.batch=1048576 limits.prompt=1000000", "at most 2,147,483,647"),
        ("rollout.batch=1048576 limits.prompt=1000000", "at most 2,147,483,647"),
        ("model.width=65536 model.depth=1024 model.mlp_width=1048576", "parameters"),
    ],
)
def test_what_was_once_accepted_or_ended_in_a_traceback(capsys, setting, says):
    flags = [f"--config.{part}" for part in setting.split(" ")]
    with pytest.raises(SystemExit) as stop:
        main(["run", SMOKE, *flags, "--dry_run"])
    said = capsys.readouterr().err
    assert stop.value.code == 2 and says in said and len(said.splitlines()) == 1, said


@pytest.mark.parametrize("section", ["expert", "policy"])
def test_one_server_named_twice_in_a_list_of_addresses(capsys, section):
    kind = {"expert": "llm", "policy": "server"}[section]
    chosen = [f"--config.{section}.kind={kind}", f"--config.{section}.model=m"]
    with pytest.raises(SystemExit) as stop:
        main(["run", SMOKE, *chosen, f"--config.{section}.server=http://h:1/v1,http://h:1/v1/", "--dry_run"])
    assert stop.value.code == 2 and "twice" in capsys.readouterr().err


@pytest.mark.slow
def test_malformed_settings_by_the_hundred(capsys):
    settings = malformed(500, seed=0)
    accepted = assert_all_end_well(settings, capsys)
    print(f"{len(settings)} settings, {len(accepted)} accepted:", *accepted, sep="\n", file=sys.stderr)
