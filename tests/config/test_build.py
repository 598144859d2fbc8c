"""What the declarations make: the config, in the paper's numbers. Their choices are those of the code."""

import json
from types import SimpleNamespace

import pytest

from stgrpo.cli import parse
from stgrpo.config import FIELDS, base, with_new_names
from stgrpo.config.build import RENAMED
from stgrpo.config.field import PAPER, Choice, Number
from stgrpo.errors import UserError
from stgrpo.models.attention.choose import CHOICES
from stgrpo.models.shapes import LINEAR, named_shapes
from stgrpo.plan.checks import validate
from stgrpo.react.prompt import HISTORY_POLICIES, INSTRUCTION_STYLES
from stgrpo.react.reward import TARGETS
from stgrpo.rl.losses import BASELINES, KL_ESTIMATORS
from stgrpo.rl.mismatch import CORRECTIONS
from stgrpo.training import checkpointing
from stgrpo.training.batch import AGGREGATIONS
from stgrpo.training.optimiser import OPTIMISERS
from stgrpo.workdir import WorkDir


def test_the_config_is_that_of_the_declarations_and_can_run():
    config = base()
    assert validate(config) == [] and config.is_locked
    for name, field in FIELDS.items():
        assert config[name] == field.default and type(config[name]) is type(field.default)
        assert field.meaning and list(field.errors(name, field.default)) == []


def test_what_the_paper_states():
    """Section 5 and the equations; see docs/paper.md."""
    stated = {name: field.default for name, field in FIELDS.items() if field.source == PAPER}
    numbers = {name: value for name, value in stated.items() if isinstance(value, int | float)}
    assert numbers == {
        "expert.trajectories": 100,
        "sft.epochs": 8.0,
        "sft.batch": 8,
        "grpo.learning_rate": 1e-6,
        "grpo.epochs": 50.0,
        "grpo.prompts": 256,
        "grpo.kl_coef": 0.001,
        "grpo.scale_by_std": True,
        "reward.format": 0.1,
        "reward.action": 0.9,
    }


@pytest.mark.parametrize(
    ("field", "known"),
    [
        ("expert.history", HISTORY_POLICIES),
        ("policy.history", ("", *HISTORY_POLICIES)),
        ("policy.instructions", ("", *INSTRUCTION_STYLES)),
        ("prompt.history", HISTORY_POLICIES),
        ("prompt.instructions", INSTRUCTION_STYLES),
        ("model.name", (*named_shapes(), "custom")),
        ("model.attention", CHOICES),
        ("lora.targets", tuple(LINEAR)),
        ("sft.optimiser", OPTIMISERS),
        ("grpo.optimiser", OPTIMISERS),
        ("grpo.kl_estimator", KL_ESTIMATORS),
        ("grpo.aggregation", AGGREGATIONS),
        ("grpo.baseline", (*BASELINES, "critic")),
        ("reward.target", TARGETS),
        ("rollout.correction", CORRECTIONS),
    ],
)
def test_choices_are_those_of_the_code_that_takes_them(field, known):
    assert tuple(FIELDS[field].choices) == tuple(known)


def test_a_number_without_limits_is_no_declaration():
    with pytest.raises(ValueError, match="one limit on either side"):
        Number(1, "of something", low=0)
    with pytest.raises(ValueError, match="one limit on either side"):
        Number(1, "of something", low=0, above=0, high=2)
    with pytest.raises(TypeError):
        Choice("a", "without choices")


def test_a_renamed_field_is_read_by_its_old_name(tmp_path):
    for was, now in RENAMED.items():
        assert was not in FIELDS and now in FIELDS
    config = base()
    old = json.loads(config.to_json())
    old["rollout"]["patience"] = old["rollout"].pop("server_wait_s")
    assert with_new_names(old)["rollout"]["server_wait_s"] == 600.0 and "patience" in old["rollout"]
    assert "patience" not in with_new_names(old)["rollout"]
    (tmp_path / "config.json").write_text(json.dumps(old))
    WorkDir(tmp_path).claim(config)


def test_a_checkpoint_with_old_names_is_read_by_them(monkeypatch, tmp_path):
    old = json.loads(base().to_json())
    del old["rollout"]["server_wait_s"], old["expert"]["layouts"], old["monitor"]
    old["rollout"]["patience"], old["expert"]["kitchens"], old["lora"]["targets"] = 5.0, 7, ["q"]
    monkeypatch.setattr(checkpointing, "load_metadata", lambda folder: SimpleNamespace(config=old))
    config = parse(["evaluate", f"--checkpoint={tmp_path}", "--dry_run", "--config.seed=3"]).config
    assert validate(config) == []
    assert (config.rollout.server_wait_s, config.expert.layouts, config.lora.targets) == (5.0, 7, ("q",))
    assert config.seed == 3 and config.monitor == base().monitor


@pytest.mark.parametrize("content", ["[]", "3", "{", "\xff\xfe"])
def test_a_work_directory_whose_config_is_none_says_so(content, tmp_path):
    (tmp_path / "config.json").write_bytes(content.encode("latin-1"))
    with pytest.raises(UserError, match="restore it or use another --workdir"):
        WorkDir(tmp_path).claim(base())
