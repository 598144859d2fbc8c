"""A result is used again only if all that could change it is the same: a field counts unless it is known not to."""

import pytest

from stgrpo.config import FIELDS, base
from stgrpo.workdir.keys import KEY, WITHOUT, differences, same, that_count, with_key

# Fields that are known to change what comes out, by kind of result.
CHANGES = {
    "trajectories": {"env.name": "x", "env.family": "small", "expert.model": "m", "expert.temperature": 0.1, "seed": 1},
    "planned": {
        "env.name": "x",
        "env.family": "small",
        "expert.kind": "llm",
        "expert.error_rate": 0.1,
        "expert.errors": "states",
        "expert.action_distances": True,
    },
    "tries": {"expert.history": "none", "expert.max_tokens": 9, "prompt.instructions": "none", "seed": 1},
    "checkpoint": {
        "env.engine": "upstream",
        "env.failure": 0.5,
        "evaluation.on_invalid": "retry",
        "evaluation.temperature": 1.0,
        "limits.response": 9,
        "model.attention": "xla",
        "model.dtype": "bfloat16",
        "prompt.history": "last_action",
        "prompt.instructions": "none",
        "rollout.backend": "vllm",
        "rollout.dtype": "bfloat16",
        "rollout.flags": ("--quantization=fp8",),
        "seed": 1,
    },
    "served": {"policy.model": "m", "evaluation.top_p": 0.5, "limits.response": 9, "env.engine": "upstream", "seed": 1},
}
FREE = {
    "trajectories": ("grpo.learning_rate", "expert.server", "client.timeout", "watchdog_minutes"),
    "planned": ("seed", "expert.temperature", "env.tasks"),
    "tries": ("expert.successes", "expert.tries", "expert.error_rate"),
    "checkpoint": (
        "mesh.fsdp",
        "client.timeout",
        "rollout.servers",
        "monitor.writers",
        "policy.model",
    ),
    "served": ("policy.server", "client.concurrency", "rollout.backend", "watchdog_minutes"),
}


def key_with(kind: str, **fields) -> dict:
    config = base()
    with config.unlocked():
        config.update_from_flattened_dict(fields)
    return with_key(config, kind, {"suite": ("a",)})


@pytest.mark.parametrize("kind", sorted(WITHOUT))
def test_what_changes_a_result_is_in_its_key_and_what_does_not_is_not(kind):
    plain = key_with(kind)
    for field, value in CHANGES[kind].items():
        assert field in FIELDS and key_with(kind, **{field: value}) != plain, field
    assert all(field in FIELDS and field not in plain[KEY] for field in FREE[kind])
    assert plain["suite"] == ["a"] and plain[KEY]["revision"]


def test_what_has_no_part_names_fields_and_sections_that_there_are():
    names = {*FIELDS, *(field.partition(".")[0] for field in FIELDS)}
    assert {name for without in WITHOUT.values() for name in without} <= names


def test_a_field_that_nobody_has_thought_of_counts():
    config = base()
    with config.unlocked():
        config.evaluation.new = 1
    assert with_key(config, "checkpoint", {}) != key_with("checkpoint")


def test_a_paid_result_without_a_key_is_held_to_what_it_says():
    mine = {"model": "m", "seed": 0, KEY: {"revision": 1}}
    assert same({"model": "m", "seed": 0}, mine) and not same({"model": "n"}, mine)
    assert not same({**mine, KEY: {"revision": 2}}, mine)
    assert differences({**mine, KEY: {"revision": 2}}, mine) == "revision: 1 here, 2 there"


def test_a_field_that_counts_no_longer_does_not_count_in_older_keys_either():
    older = {"task": "burger", KEY: {"revision": 1, "seed": 3, "env.name": "x", "expert.temperature": 0.7}}
    found = that_count(older, "planned")
    assert found["task"] == "burger" and found[KEY].items() >= {"revision": 1, "env.name": "x"}.items()
    assert not {"seed", "expert.temperature"} & found[KEY].keys()
    assert that_count({"task": "burger"}, "planned") == {"task": "burger"}


def test_what_an_older_version_did_not_have_counts_as_its_default():
    mine = key_with("planned")
    older = {**mine, KEY: {k: v for k, v in mine[KEY].items() if k != "expert.error_rate"}}
    assert older != mine and that_count(older, "planned") == mine
    assert that_count(older, "planned") != key_with("planned", **{"expert.error_rate": 0.1})
