"""Which prompt goes into which slot, and when: continuous batching as the host sees it, without a device."""

import collections
import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np

from stgrpo.data.padding import bucket

PREFILL_TOKENS = 16_384
"""Prompt tokens a device that are run at one time; a longer prompt is run alone."""
REFILL_SHARE = 4
"""One slot in so many is free before waiting prompts are prefilled, so that they are run together."""


def size_of(n: int, smallest: int) -> int:
    """The least size ≥ n among smallest × 2^k × {1, 1.5}: two an octave, since each is a decode loop to compile."""
    size = smallest
    while size < n:
        size *= 2
    half = size * 3 // 4
    return half if smallest < half and half * 4 == size * 3 and n <= half else size


def slots_for(prompts: int, most: int) -> int:
    """Slots for so many prompts where at most `most` fit: what takes them in the fewest rounds, each as full as can be.

    So 40 prompts get 24 slots where 32 fit: with all of those, a quarter would be busy in the second round.
    """
    rounds = -(-prompts // most)
    return min(size_of(-(-prompts // rounds), 1), most)


@dataclasses.dataclass(frozen=True)
class Filling:
    """Prompts to prefill together.

    Attributes:
      prompts_B: indices of them, the same number for each device; -1 pads.
      source_S: for each slot which of its device's prompts it gets, or -1.
      length: padded length of the prompts.
    """

    prompts_B: np.ndarray
    source_S: np.ndarray
    length: int


class SlotSchedule:
    """Prompts wait, the longest first, for slots that are split evenly over devices."""

    def __init__(self, lengths: Sequence[int], slots: int, shards: int = 1):
        """All of `slots`, a multiple of `shards`, are free; `lengths` are those of the prompts, in tokens."""
        self._lengths = lengths
        self._waiting = collections.deque(sorted(range(len(lengths)), key=lambda i: -lengths[i]))
        self._shards = shards
        self.prompt_S = np.full(slots, -1)

    @property
    def finished(self) -> bool:
        """Whether no prompt waits and no slot holds one."""
        return not self._waiting and bool((self.prompt_S < 0).all())

    @property
    def wanted(self) -> int:
        """How many slots should be free before the next filling, or all where nothing waits."""
        slots = len(self.prompt_S)
        return min(len(self._waiting), max(1, slots // REFILL_SHARE)) if self._waiting else slots

    def fillings(self) -> Iterator[Filling]:
        """Gives waiting prompts to free slots until one of them is used up.

        The number of prompts a device is a power of two, so that few programs are compiled; several fillings make up
        a number that is none, with no padding on one device.
        """
        free = [collections.deque(np.flatnonzero(part < 0)) for part in self.prompt_S.reshape(self._shards, -1)]
        while self._waiting and any(free):
            yield self._filling(free)

    def _filling(self, free: list[collections.deque[int]]) -> Filling:
        width = len(self.prompt_S) // self._shards
        length = bucket(max(1, self._lengths[self._waiting[0]]), smallest=32)
        share = -(-len(self._waiting) // self._shards)
        each = _power_of_two(min(max(map(len, free)), share, max(1, PREFILL_TOKENS // length)))
        prompts_DB, source_DS = np.full((self._shards, each), -1), np.full((self._shards, width), -1, np.int32)
        for at in range(each):
            for shard in range(self._shards):
                if free[shard] and self._waiting:
                    slot, prompt = free[shard].popleft(), self._waiting.popleft()
                    prompts_DB[shard, at], source_DS[shard, slot] = prompt, at
                    self.prompt_S[shard * width + slot] = prompt
        return Filling(prompts_DB.reshape(-1), source_DS.reshape(-1), length)

    def release(self, ended_S: np.ndarray) -> list[tuple[int, int]]:
        """Frees the slots whose responses have ended; returns the (slot, prompt) pairs of those that held one."""
        done = np.flatnonzero(ended_S & (self.prompt_S >= 0))
        pairs = [(int(slot), int(self.prompt_S[slot])) for slot in done]
        self.prompt_S[done] = -1
        return pairs


def slot_schedule(lengths: Sequence[int], group: int, *, batch: int, shards: int) -> SlotSchedule:
    """The schedule of a call: as many slots as decode at most `batch` responses at one time, `group` in each."""
    each = slots_for(-(-len(lengths) // shards), max(1, batch // group // shards))
    return SlotSchedule(lengths, each * shards, shards)


def _power_of_two(n: int) -> int:
    """The largest power of two ≤ n."""
    return 1 << (n.bit_length() - 1)
