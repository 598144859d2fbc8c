"""The sampler protocol: prompts in as token ids; token ids, log-probabilities and finish reasons out."""

import dataclasses
import hashlib
from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar, runtime_checkable

from stgrpo.models.transformer import Transformer
from stgrpo.react.policy import SamplingParams

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclasses.dataclass(frozen=True)
class Samples:
    """What a sampler returned, indexed by prompt, then by sample.

    Attributes:
        tokens: sampled ids, the stop token included where one was sampled.
        logprobs: log-probability of each at the sampling temperature (at 1 for greedy), before top-p and top-k.
        finish: "stop", or "length" where the limit cut the response.
        version: of the weights that made them.
    """

    tokens: list[list[list[int]]]
    logprobs: list[list[list[float]]]
    finish: list[list[str]]
    version: int


class Sampler(Protocol):
    """An engine that draws responses from the policy."""

    def generate(
        self, prompts: Sequence[Sequence[int]], group_size: int, params: SamplingParams, seeds: Sequence[int]
    ) -> Samples:
        """Draws `group_size` responses to each prompt.

        Args:
            prompts: token ids of each.
            group_size: samples a prompt.
            params: how to draw.
            seeds: one a prompt, non-negative and below 2**32. A response depends on its prompt, its seed and its
                number in the group only, not on the other prompts of the call.
        """
        ...

    def update_weights(self, params: Transformer, version: int) -> None:
        """Makes the next `generate` draw from these parameters."""
        ...


@runtime_checkable
class Shared(Protocol):
    """A sampler that has one in each of several processes."""

    def each(self, items: Sequence[Item], work: Callable[[Sampler, Sequence[Item]], list[Result]]) -> list[Result]:
        """Work that draws, dealt out over the processes.

        Args:
            items: the same in all processes.
            work: takes a sampler and some of the items, and returns as many results; done in each process.

        Returns:
            All results in the order of the items, in all processes.
        """
        ...


def mix_seed(*parts: int) -> int:
    """A seed in [0, 2**31) from integers, the same on every machine and in every process (SplitMix64's finaliser)."""
    mask, state = (1 << 64) - 1, 0
    for part in parts:
        state = (state + (part & mask) + 0x9E3779B97F4A7C15) & mask
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & mask
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & mask
        state ^= state >> 31
    return state >> 33


def text_seed(text: str) -> int:
    """A part for `mix_seed` from a text, such as the name of a layout: the same everywhere, 64 bits."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
