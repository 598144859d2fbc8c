"""What an evaluated episode leaves behind: plain values that go to JSON and back unchanged."""

import dataclasses
import functools
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar, get_type_hints

from stgrpo.errors import UserError
from stgrpo.react.policy import SERVER, THINKING

# How a policy can fail an episode, in the order in which reports list them.
FAILURES = ("timeout", "loop", "invalid", "format", THINKING, "finish", "prompt_too_long", "ended")
# The policies of a run and what reports call them; served models have names of their own.
BASE = "base"  # the model that training starts from
STAGE_LABELS = {BASE: "Before training", "sft": "SFT", "grpo": "SFT + GRPO"}
# Failures of a response (stgrpo.react) that mean the text did not have the ReAct form.
MALFORMED = ("reasoning", "action", THINKING)
Record = TypeVar("Record", "TurnRecord", "Episode")


@dataclasses.dataclass(frozen=True)
class TurnRecord:
    """One response of the model and what became of it.

    Attributes:
        step: environment steps taken before this response.
        attempt: 0 for the first try at this decision, then 1, 2, ... while the benchmark's feedback asks again.
        observation: what the model was shown, valid actions and goal included.
        response: the decoded text, exactly as sampled.
        action: the action as parsed, valid or not; None when no action could be read.
        failure: why it was refused, "" when the action was taken: "reasoning", "action", "invalid" or "finish";
            "thinking" where the limit cut it before an answer began. "server": there was none, and `response` is what
            the server said instead.
        expert: the expert's action; None without a planner, or where it cannot tell.
        exact: whether the action was taken and is the expert's; None where `expert` is.
        optimal: whether the action was taken and shortens the way to the goal; None where `expert` is.
        distance: fewest steps to the goal before this response; None where `expert` is.
        finish: why decoding ended, "stop" or "length".
        n_prompt_tokens: length of the prompt.
        n_tokens: length of the response, its stop token included.
    """

    step: int
    attempt: int
    observation: str
    response: str
    action: str | None
    failure: str
    expert: str | None
    exact: bool | None
    optimal: bool | None
    distance: int | None
    finish: str
    n_prompt_tokens: int
    n_tokens: int


@dataclasses.dataclass(frozen=True)
class Episode:
    """One layout, played from its start until the goal, the cap or a failure.

    Attributes:
        steps: environment steps taken, also by a failed episode; `counted_steps` is what ASAT averages.
        cap: the most steps the task allows.
        failure: "" after a success, else one of `FAILURES`; "server" where a server had no answer, so that nothing is
            known of the policy.
        optimal_steps: fewest steps from the start; None without a planner.
        turns: every response in order, refused ones included.
        last_observation: the state in which the episode ended; after a success the goal holds in it.
        score: how well it went, from 0 to 1; None where the environment says no more than success.
    """

    task: str
    layout: str
    success: bool
    steps: int
    cap: int
    failure: str
    optimal_steps: int | None
    turns: tuple[TurnRecord, ...]
    last_observation: str = ""
    score: float | None = None

    @property
    def counted_steps(self) -> int:
        """Steps as ASAT counts them: a failure costs the cap, however early it came."""
        return self.steps if self.success else self.cap


def result_name(given: str) -> str:
    """What a model that is not trained here is called in the names of results: letters, digits, dots and dashes.

    Raises:
        UserError: it would be that of a policy of the work directory.
    """
    name = re.sub(r"[^A-Za-z0-9.]+", "-", given).strip("-.")
    if not name or name.lower() in STAGE_LABELS:
        raise UserError(f"policy.name={given!r} cannot name this model's results: give another, such as qwen-7b")
    return name


def played(episodes: Iterable[Episode]) -> list[Episode]:
    """The episodes that say something of the policy: without those that a server failed."""
    return [episode for episode in episodes if episode.failure != SERVER]


def episode_facts(episode: Episode) -> dict[str, object]:
    """All of an episode but its turns, for its own line of a file."""
    return {field.name: getattr(episode, field.name) for field in dataclasses.fields(episode) if field.name != "turns"}


def episode_from_facts(facts: Mapping[str, Any], turns: Sequence[Mapping[str, Any]]) -> Episode:
    """The inverse of `episode_facts` and `dataclasses.asdict` of the turns.

    Raises:
        TypeError: a field is missing, unknown, or of another type.
    """
    episode = Episode(**facts, turns=tuple(_typed(TurnRecord(**turn)) for turn in turns))
    return _typed(episode)


@functools.cache
def _kinds(record: type) -> Mapping[str, Any]:
    return get_type_hints(record)


def _typed(record: Record) -> Record:
    for name, kind in _kinds(type(record)).items():
        value = getattr(record, name)
        if name != "turns" and not isinstance(value, kind):
            raise TypeError(f"{name} is {type(value).__name__}")
    return record
