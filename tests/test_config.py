"""Every shipped config parses and can run; a config that cannot says why, all of it at once."""

import pathlib

import pytest

from stgrpo.cli import check, parse
from stgrpo.config import base, validate
from stgrpo.errors import UserError

CONFIGS = pathlib.Path(__file__).resolve().parents[1] / "configs"
FILES = sorted(p for p in CONFIGS.rglob("*.py") if not p.name.startswith("_"))


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(CONFIGS)))
def test_a_shipped_config_is_valid_and_locked(path):
    config = parse(["run", f"--config={path}", "--dry_run"]).config
    assert validate(config) == []
    with pytest.raises(AttributeError):
        config.no_such_field = 1


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(CONFIGS)))
def test_a_shipped_config_refuses_a_variant_it_does_not_have(path):
    with pytest.raises(UserError, match="nonsense"):
        parse(["run", f"--config={path}:nonsense", "--dry_run"])


def test_there_are_configs():
    assert {"tiny.py", "small.py"} <= {p.name for p in FILES}


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("env.tasks", ("burgr",), "did you mean 'burger'?"),
        ("env.family", "smal", "did you mean 'small'?"),
        ("grpo.kl_estimator", "k4", "k3"),
        ("grpo.group_size", 1, "at least 2"),
        ("grpo.top_p", 0.9, "top_p=1.0 and top_k=0"),
        ("sft.batch", 0, "at least 1"),
        ("sft.micro_batches", 3, "sft.batch=8 is not a multiple of sft.micro_batches=3: use sft.batch=9"),
        ("model.name", "qwen2.5-2b", "did you mean 'qwen2.5-"),
        ("grpo.clip_low", 1.5, "below 1"),
        ("env.failure", 1.0, "use one from 0 to 0.9"),
    ],
)
def test_an_error_names_the_field_the_value_and_the_way_out(field, value, says):
    config = base()
    section, _, name = field.rpartition(".")
    config[section][name] = value
    (error,) = validate(config)
    assert field in error and says in error


def test_all_errors_come_at_once():
    config = base()
    config.grpo.group_size, config.sft.batch, config.prompt.history = 1, 0, "all"
    with pytest.raises(UserError) as caught:
        check(config)
    assert all(name in str(caught.value) for name in ("grpo.group_size", "sft.batch", "prompt.history"))
    assert "\n" not in str(caught.value)
