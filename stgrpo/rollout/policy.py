"""What plays an episode: chat messages in, text out. Behind it stand a sampler and its tokenizer, or a served model."""

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from stgrpo.react.prompt import Message
from stgrpo.rollout.base import Sampler, SamplingParams

if TYPE_CHECKING:
    from stgrpo.data.tokenizer import Tokenizer


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
    """

    text: str
    finish: str
    n_prompt_tokens: int
    n_tokens: int


class Policy(Protocol):
    """Answers questions. The answer to one does not depend on the others that are asked with it."""

    def answer(self, questions: Sequence[Question]) -> list[Response | None]:
        """One response a question, None where the prompt is too long for the policy."""
        ...


class TokenPolicy:
    """A sampler with its tokenizer. Greedy decoding answers a prompt once and remembers it.

    Args:
      sampler: the model.
      tokenizer: the model's.
      params: how to draw.
      max_prompt_len: tokens; None for no limit.
    """

    def __init__(
        self, sampler: Sampler, tokenizer: "Tokenizer", params: SamplingParams, max_prompt_len: int | None = None
    ):
        self._sampler, self._tokenizer, self._params, self._limit = sampler, tokenizer, params, max_prompt_len
        self._known: dict[tuple[int, ...], Response] = {}

    def answer(self, questions: Sequence[Question]) -> list[Response | None]:
        """See `Policy`."""
        prompts = [tuple(ids) for ids in self._tokenizer.encode_prompts([q.messages for q in questions])]
        short = [self._limit is None or len(prompt) <= self._limit for prompt in prompts]
        fitting = [(p, q.seed) for p, q, fits in zip(prompts, questions, short, strict=True) if fits]
        responses = iter(self._greedy(fitting) if self._params.temperature == 0 else self._sample(fitting))
        return [next(responses) if fits else None for fits in short]

    def _greedy(self, asked: Sequence[tuple[tuple[int, ...], int]]) -> list[Response]:
        fresh = {prompt: seed for prompt, seed in asked if prompt not in self._known}
        self._known.update(zip(fresh, self._sample(list(fresh.items())), strict=True))
        return [self._known[prompt] for prompt, _ in asked]

    def _sample(self, asked: Sequence[tuple[tuple[int, ...], int]]) -> list[Response]:
        if not asked:
            return []
        prompts, seeds = [prompt for prompt, _ in asked], [seed for _, seed in asked]
        samples = self._sampler.generate(prompts, 1, self._params, seeds)
        return [
            Response(self._tokenizer.decode(ids), finish, len(prompt), len(ids))
            for prompt, (ids,), (finish,) in zip(prompts, samples.tokens, samples.finish, strict=True)
        ]
