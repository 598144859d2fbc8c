"""What decides whether a result may be used again: the config, all of it but what is known to have no part in it.

A field that is new counts until it is named in WITHOUT. So what is forgotten costs a result that is made again, and
never one that is not what it says. What is no field is added by whoever makes the result: the identity of a
checkpoint, the layouts, the form of a prompt.
"""

from collections.abc import Iterator, Mapping

import ml_collections

from stgrpo.files import from_json, to_json

REVISION = {"data": 1, "evaluation": 2}
"""Raised when our code makes other data or plays otherwise by the same config."""

_NO_PART = (
    *("client", "init_from", "lora", "mesh", "monitor", "profile", "reward", "sft", "grpo", "critic", "tokenizer"),
    "watchdog_minutes",
    "env.data",  # a place
)
_IN_SUITES = ("env.tasks", "env.family", "evaluation.layouts", "evaluation.suites", "evaluation.tasks")
_SERVING = ("servers", "python", "folder", "timeout", "server_wait_s")
_TRAINING = ("correction", "correction_cap", "max_staleness", "mismatch_alarm", "old_logprobs")
_COLLECTED = (
    *(*_NO_PART, "limits", "policy", "model", "rollout", "evaluation", "env.engine", "env.failure", "env.tasks"),
    *("expert.server", "expert.tries", "expert.layouts", "expert.trajectories", "expert.validation"),
)
_CONSTRAINT = ("evaluation.constrain_action", "evaluation.reasoning_chars")
# By kind of result; a section stands for its fields.
WITHOUT = {
    "trajectories": _COLLECTED,
    "tries": (*_COLLECTED, "expert.successes", "expert.max_excess"),  # the budget decides how many, not how they go
    "checkpoint": (
        *(*_NO_PART, *_IN_SUITES, *_CONSTRAINT, "expert", "policy", "model.path", "model.remat"),
        *(f"rollout.{name}" for name in (*_SERVING, *_TRAINING)),
    ),
    "served": (
        *(*_NO_PART, *_IN_SUITES, "expert", "model", "rollout", "limits.prompt", "prompt"),
        *(f"policy.{name}" for name in ("kind", "name", "server", "history", "instructions")),  # its prompt is told
        *_CONSTRAINT,  # told too, the second where the first is on
    ),
}
_OF = {"trajectories": "data", "tries": "data", "checkpoint": "evaluation", "served": "evaluation"}
KEY = "decided_by"


def with_key(config: ml_collections.ConfigDict, kind: str, settings: Mapping[str, object]) -> dict[str, object]:
    """Settings of a result as they are read from a file, and beside them all of the config that can change it.

    Args:
        config: that it is made by.
        kind: of result, as in WITHOUT.
        settings: what else decides, and what people want to know.
    """
    fields = dict(_flat(from_json(config.to_json())))
    counts = {k: v for k, v in fields.items() if not f"{k}.".startswith(tuple(f"{w}." for w in WITHOUT[kind]))}
    return from_json(to_json({**settings, KEY: {"revision": REVISION[_OF[kind]], **counts}}))


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
