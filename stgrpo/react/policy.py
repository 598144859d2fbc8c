"""What answers a question about a state: chat messages in, text out."""

import dataclasses
from collections.abc import Sequence
from typing import Protocol

from stgrpo.react.prompt import Message

SERVER, THINKING = "server", "thinking"
"""Failures of a `Response`."""


@dataclasses.dataclass(frozen=True)
class SamplingParams:
    """How to draw a response. Training samples the policy itself: `top_p` 1 and `top_k` 0.

    Attributes:
        max_tokens: limit of a response, its stop token included.
        temperature: logits are divided by it; 0 is greedy.
        top_p: keep the smallest set of tokens with at least this probability; 1 is off.
        top_k: keep this many tokens; 0 is off.
    """

    max_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0


@dataclasses.dataclass(frozen=True)
class Question:
    """One decision that a policy is asked for.

    Attributes:
        messages: the conversation; the policy speaks next.
        valid_actions: of the state that the last message shows; for policies that can be held to them.
        seed: of the response, non-negative and below 2**31.
    """

    messages: list[Message]
    valid_actions: tuple[str, ...]
    seed: int


@dataclasses.dataclass(frozen=True)
class Response:
    """What a policy said.

    Attributes:
        text: without special tokens.
        finish: "stop", or "length" where a limit cut it; a server may have further reasons.
        n_prompt_tokens: length of the prompt.
        n_tokens: length of the response, its stop token included.
        failure: why it is none; "" where it is one. `THINKING`: the policy was still thinking when the limit cut it.
            `SERVER`: a server had none, which says nothing of the policy; the text is then what it said instead.
        ids: the tokens that were sampled, the stop token included; empty where who answers does not tell.
        logprobs: of these, as `sampling.base.Samples` has them; empty likewise.
        prompt_ids: the prompt that was answered; empty likewise.
        version: of the weights that answered.
    """

    text: str
    finish: str
    n_prompt_tokens: int
    n_tokens: int
    failure: str = ""
    ids: tuple[int, ...] = ()
    logprobs: tuple[float, ...] = ()
    prompt_ids: tuple[int, ...] = ()
    version: int = 0


class Policy(Protocol):
    """Answers questions. The answer to one does not depend on the others that are asked with it."""

    def answer(self, questions: Sequence[Question]) -> list[Response | None]:
        """One response a question, None where the prompt is too long for the policy."""
        ...
