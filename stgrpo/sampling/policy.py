"""What plays an episode: chat messages in, text out. Behind it stand a sampler and its tokenizer, or a served model."""

import dataclasses
import hashlib
import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from stgrpo.react.policy import Question, Response, SamplingParams
from stgrpo.sampling.base import Sampler

if TYPE_CHECKING:
    from stgrpo.data.tokenizer import Tokenizer


REMEMBERED = 65_536
"""Answers that a policy keeps, at most, of some kB each; the oldest go first."""


class TokenPolicy:
    """A sampler with its tokenizer. Greedy decoding answers a prompt once and remembers it.

    So does one by a server, whose own answers to one prompt may differ by its rounding: one of them stands for all. An
    answer that is remembered is a response like any other, its tokens counted each time.

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
        self._known: dict[bytes, Response] = {}

    def answer(self, questions: Sequence[Question]) -> list[Response | None]:
        """See `Policy`."""
        prompts = [tuple(ids) for ids in self._tokenizer.encode_prompts([q.messages for q in questions])]
        short = [self._limit is None or len(prompt) <= self._limit for prompt in prompts]
        fitting = [(p, q.seed) for p, q, fits in zip(prompts, questions, short, strict=True) if fits]
        responses = iter(self._greedy(fitting) if self._params.temperature == 0 else self._sample(fitting))
        return [next(responses) if fits else None for fits in short]

    def _greedy(self, asked: Sequence[tuple[tuple[int, ...], int]]) -> list[Response]:
        keys = [hashlib.sha256(np.asarray(prompt, "<i4").tobytes()).digest() for prompt, _ in asked]
        fresh = {key: one for key, one in zip(keys, asked, strict=True) if key not in self._known}
        new = [dataclasses.replace(one, prompt_ids=(), logprobs=()) for one in self._sample(list(fresh.values()))]
        self._known.update(zip(fresh, new, strict=True))
        responses = [self._known[key] for key in keys]
        for key in list(itertools.islice(self._known, max(0, len(self._known) - REMEMBERED))):
            del self._known[key]
        return responses

    def _sample(self, asked: Sequence[tuple[tuple[int, ...], int]]) -> list[Response]:
        if not asked:
            return []
        prompts, seeds = [prompt for prompt, _ in asked], [seed for _, seed in asked]
        samples = self._sampler.generate(prompts, 1, self._params, seeds)
        drawn = zip(prompts, samples.tokens, samples.logprobs, samples.finish, strict=True)
        return [
            Response(
                self._tokenizer.decode(ids),
                finish,
                len(prompt),
                len(ids),
                ids=tuple(ids),
                logprobs=tuple(logprobs),
                prompt_ids=prompt,
                version=samples.version,
            )
            for prompt, (ids,), (logprobs,), (finish,) in drawn
        ]
