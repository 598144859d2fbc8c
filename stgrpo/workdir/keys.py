"""What decides whether a result may be used again: the config, all of it but what is known to have no part in it.

A field that is new counts until it is named in WITHOUT. So what is forgotten costs a result that is made again, and
never one that is not what it says. What is no field is added by whoever makes the result: the identity of a
checkpoint, the layouts, the form of a prompt.
"""

from collections.abc import Iterator, Mapping, Sequence

import ml_collections

from stgrpo.files import from_json, json_digest, to_json
from stgrpo.workdir.folder import RUNTIME_FIELDS

REVISION = {"data": 1, "evaluation": 2}
"""Raised when our code makes other data or plays otherwise by the same config."""

_NO_PART = (
    *("client", "init_from", "lora", "mesh", "monitor", "profile", "reward", "sft", "grpo", "critic", "episodes"),
    *("tokenizer", "watchdog_minutes"),
    "env.data",  # a place
)
IN_SUITES = ("env.tasks", "env.family", "evaluation.layouts", "evaluation.suites", "evaluation.tasks")
_SERVING = ("servers", "python", "folder", "timeout", "server_wait_s")
_TRAINING = ("correction", "correction_cap", "max_staleness", "mismatch_alarm", "old_logprobs")
_COLLECTED = (
    *(*_NO_PART, "limits", "policy", "model", "rollout", "evaluation", "env.engine", "env.failure", "env.tasks"),
    *("expert.server", "expert.tries", "expert.layouts", "expert.trajectories", "expert.validation"),
)
_OF_A_SERVED_EXPERT = ("model", "successes", "max_excess", "temperature", "top_p", "max_tokens", "history")
_OF_A_PLANNER = ("expert.error_rate", "expert.errors", "expert.action_distances")
_CONSTRAINT = ("evaluation.constrain_action", "evaluation.reasoning_chars")
# By kind of result; a section stands for its fields.
WITHOUT = {
    "trajectories": (*_COLLECTED, *_OF_A_PLANNER),
    # A planner's episodes follow from the layouts alone, and these from their task and family.
    "planned": (*_COLLECTED, "seed", *(f"expert.{name}" for name in _OF_A_SERVED_EXPERT)),
    "tries": (
        *_COLLECTED,
        *_OF_A_PLANNER,
        "expert.successes",
        "expert.max_excess",
    ),  # the budget decides how many, not how they go
    "checkpoint": (
        *(*_NO_PART, *IN_SUITES, *_CONSTRAINT, "expert", "policy", "model.path", "model.remat"),
        *(f"rollout.{name}" for name in (*_SERVING, *_TRAINING)),
    ),
    "served": (
        *(*_NO_PART, *IN_SUITES, "expert", "model", "rollout", "limits.prompt", "prompt"),
        *(f"policy.{name}" for name in ("kind", "name", "server", "history", "instructions", "prompt")),  # told
        *_CONSTRAINT,  # told too, the second where the first is on
    ),
}
_OF = {"trajectories": "data", "planned": "data", "tries": "data", "checkpoint": "evaluation", "served": "evaluation"}
KEY = "decided_by"

_LATER = ("critic", "episodes", "env.engine", "env.failure", "evaluation", "grpo", "reward", "rollout")  # than SFT
STAGES_WITHOUT = {
    "collect": (*RUNTIME_FIELDS, *_LATER, "limits", "lora", "sft"),
    "sft": (*RUNTIME_FIELDS, *_LATER),
    "grpo": (*RUNTIME_FIELDS, "evaluation.layouts", "evaluation.suites", "evaluation.tasks"),
}
"""What has no part in all that a stage and those before it leave in a work directory."""


def with_key(config: ml_collections.ConfigDict, kind: str, settings: Mapping[str, object]) -> dict[str, object]:
    """Settings of a result as they are read from a file, and beside them all of the config that can change it.

    Args:
        config: that it is made by.
        kind: of result, as in WITHOUT.
        settings: what else decides, and what people want to know.
    """
    counts = counting(from_json(config.to_json()), WITHOUT[kind])
    return from_json(to_json({**settings, KEY: {"revision": REVISION[_OF[kind]], **counts}}))


def that_count(settings: Mapping[str, object], kind: str) -> dict[str, object]:
    """Settings of a result as an older version wrote them: without the fields that no longer count, with new ones.

    What the version did not have yet counts as having its default, as in config.json.
    """
    from stgrpo.config import FIELDS  # brings jax, which those who only look at keys do without

    key = settings.get(KEY)
    if not isinstance(key, Mapping):
        return dict(settings)
    new = from_json(to_json({name: field.default for name, field in FIELDS.items()}))
    return {**settings, KEY: counting({**new, **key}, WITHOUT[kind])}


def counting(fields: Mapping[str, object], without: Sequence[str]) -> dict[str, object]:
    """Of the fields of a config, nested or not, those that are neither in `without` nor in a section that is."""
    parts = tuple(f"{name}." for name in without)
    return {name: value for name, value in _flat(fields) if not f"{name}.".startswith(parts)}


def stage_key(fields: Mapping[str, object], stage: str) -> str:
    """A digest of all of a config that decides what a stage, and those before it, leave in a work directory.

    Two runs that agree in it would make the same there.

    Args:
        fields: the config, as JSON has it.
        stage: "collect", "sft" or "grpo".
    """
    flat, without = dict(_flat(fields)), list(STAGES_WITHOUT[stage])
    if stage == "collect":  # the tokenizer is the model's, or made of prompts
        without += [name for name in flat if name.startswith("model.") and name != "model.path"]
        without += ["seed"] if flat["expert.kind"] == "planner" else []
    if not flat["lora.rank"] or (stage == "sft" and "sft" not in _texts(flat["lora.stages"])):
        without.append("lora")
    return json_digest(counting(fields, without))


def _texts(value: object) -> Sequence[object]:
    return value if isinstance(value, Sequence) else ()


def same(theirs: Mapping[str, object], mine: Mapping[str, object]) -> bool:
    """Whether a result that cost money was made as one would be now; one without a key is held to what it says."""
    return theirs == mine or (KEY not in theirs and all(mine.get(k) == v for k, v in theirs.items()))


def differences(theirs: Mapping[str, object], mine: Mapping[str, object]) -> str:
    """What differs, for a person."""
    theirs, mine = dict(_flat(theirs)), dict(_flat(mine))
    names = [k for k in mine | theirs if mine.get(k) != theirs.get(k)]
    shown = [f"{k.removeprefix(KEY + '.')}: {mine.get(k)!r} here, {theirs.get(k)!r} there" for k in names[:6]]
    return "; ".join(shown) + ("; ..." if len(names) > 6 else "")


def _flat(values: Mapping[str, object], at: str = "") -> Iterator[tuple[str, object]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{at}{name}.")
        else:
            yield f"{at}{name}", value
