"""What is suggested to somebody who names a field that does not exist."""

import pytest

from stgrpo.config import FIELDS, SECTIONS
from stgrpo.config.names import suggest


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("grpo.betta", ["grpo.kl_coef"]),
        ("beta", ["grpo.kl_coef"]),
        ("grpo.kl_coeff", ["grpo.kl_coef"]),
        ("lr", ["sft.learning_rate", "grpo.learning_rate", "critic.learning_rate"]),
        ("sft.lr", ["sft.learning_rate"]),
        ("batch_size", ["sft.batch", "grpo.prompts", "rollout.batch"]),
        ("grpo.batch_size", ["grpo.prompts"]),
        ("grpo.num_generations", ["grpo.group_size"]),
        ("numGenerations", ["grpo.group_size"]),
        ("max_new_tokens", ["limits.response"]),
        ("grpo.max_completion_length", ["limits.response"]),
        ("grpo.max_tokens", ["expert.max_tokens", "limits.response"]),
        ("epochs", ["sft.epochs", "grpo.epochs"]),
        ("eps", ["grpo.clip_low", "grpo.clip_high"]),
        ("grpo.epsilon", ["grpo.clip_low", "grpo.clip_high"]),
        ("grpo.warm_up", ["grpo.warmup"]),
        ("optimizer", ["sft.optimiser", "grpo.optimiser", "critic.optimiser"]),
        ("eval.task", ["evaluation.tasks"]),
        ("lora.r", ["lora.rank"]),
        ("model.hidden_size", ["model.width"]),
        ("rollout.tensor_parallel_size", ["mesh.tensor"]),
    ],
)
def test_by_what_others_call_it_and_by_spelling(name, fields):
    assert suggest(name) == f"did you mean {' or '.join(map(repr, fields))}?"


def test_a_field_that_has_another_name_now():
    assert suggest("rollout.patience") == "it is now 'rollout.server_wait_s'"


@pytest.mark.parametrize("name", ["reward.zzz", "reward", "reward."])
def test_else_the_fields_of_the_section(name):
    assert suggest(name) == "the fields of reward are format, action, target, overlong_buffer, overlong_penalty"


@pytest.mark.parametrize("name", ["", "zzz", ".", "..", "a.b.c"])
def test_else_the_sections(name):
    assert suggest(name) == f"the sections are {', '.join(SECTIONS)}"


def test_what_others_call_a_field_is_no_other_field_of_its_section():
    for name, field in FIELDS.items():
        section = name.rpartition(".")[0]
        assert not [other for other in field.also if (f"{section}.{other}" if section else other) in FIELDS], name
