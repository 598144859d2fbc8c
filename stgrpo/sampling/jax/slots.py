"""Which prompt goes into which slot, and when: continuous batching as the host sees it, without a device."""

import collections
import dataclasses
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

PREFILL_TOKENS = 1024
"""Prompt tokens a device that are run at one time, prompts as long as their limit; at least one prompt."""
REFILL_SHARE = 4
"""One slot in so many is free before waiting prompts are prefilled, so that they are run together."""
SMALL_SHARE = 2
"""A call that fills at most one slot in so many is decoded in a loop of only those."""
ALIGNED = 32
"""Sizes of prompts are multiples of it."""
LEAST_PREFIX = 64
"""Tokens that all prompts begin with, below which they are not read apart: little would be saved."""


@dataclasses.dataclass(frozen=True)
class SamplerSizes:
    """The few sizes that programs are compiled for: functions of limits that a run does not change.

    Prompts are padded to one of two lengths, the limit or three quarters of it, in prefills of one number of rows. For
    a group size and a way to draw there are at most three decode loops: all slots, with room for the longer or the
    shorter prompts, and half of them. So a stage that draws in two ways, for training and for validation, compiles at
    most eight programs: two prefills, twice three loops; and one more for what all prompts begin with, where that is
    read apart. (A prompt that does not begin so is read whole, by two prefills more.)

    Attributes:
        prompt: the longest prompt.
        batch: the most responses that are decoded at one time.
        shards: devices that slots and new prompts are split over.
        largest: prompts of the largest call by group size; one of another size is taken to fill the batch.
    """

    prompt: int
    batch: int
    shards: int = 1
    largest: Mapping[int, int] = dataclasses.field(default_factory=dict)

    @property
    def lengths(self) -> tuple[int, int]:
        """What prompts are padded to, the shorter first."""
        return _aligned(-(-self.prompt * 3 // 4)), self.room

    @property
    def room(self) -> int:
        """The longer of both."""
        return _aligned(self.prompt)

    @property
    def rows(self) -> int:
        """Prompts a device that are prefilled at one time: no more than it has slots for in the largest call."""
        rows = max(1, PREFILL_TOKENS // self.room)
        return min(rows, max(map(self.most_slots, self.largest))) if self.largest else rows

    def length(self, tokens: int) -> int:
        """What a prompt is padded to."""
        short, long = self.lengths
        return short if tokens <= short else long

    def most_slots(self, group: int) -> int:
        """Slots a device: what takes the largest call in the fewest rounds, each as full as can be.

        So 40 prompts get 20 slots where 32 fit: with all of those, a quarter would be busy in the second round.
        """
        fit = max(1, self.batch // group // self.shards)
        prompts = -(-self.largest[group] // self.shards) if group in self.largest else fit
        return -(-prompts // -(-prompts // fit))

    def said(self, group: int) -> list[str]:
        """A line for people where more responses than `batch` are decoded at one time, since no device has none."""
        responses = self.most_slots(group) * self.shards * group
        if responses <= self.batch:
            return []
        return [
            f"rollout.batch={self.batch} is less than a prompt's {group} responses on each of {self.shards} devices: "
            f"{responses} are decoded at one time"
        ]

    def slots(self, prompts: int, longest: int, group: int) -> tuple[int, int]:
        """Slots of all devices for a call, and the room each has for its prompt."""
        most = self.most_slots(group)
        few = most // SMALL_SHARE
        if prompts <= few * self.shards:
            return few * self.shards, self.room
        return most * self.shards, self.length(longest)


def _aligned(tokens: int) -> int:
    return -(-tokens // ALIGNED) * ALIGNED


def prefix_length(tokens: int, limit: int) -> int:
    """How many of the tokens that all prompts begin with are read apart.

    Args:
        tokens: that they begin with.
        limit: the longest prompt, which keeps a token at least of its own; 0 for none.
    """
    most = min(tokens, limit - 1) if limit else tokens
    return most // ALIGNED * ALIGNED if most >= LEAST_PREFIX else 0


@dataclasses.dataclass(frozen=True)
class Filling:
    """Prompts to prefill together.

    Attributes:
        prompts_B: indices of them, the same number for each device; -1 pads.
        slot_B: the slot each gets, counted among those of its device; for padding one that there is not.
        length: padded length of the prompts.
    """

    prompts_B: np.ndarray
    slot_B: np.ndarray
    length: int


class SlotSchedule:
    """Prompts wait, the longest first, for slots that are split evenly over devices."""

    def __init__(self, lengths: Sequence[int], slots: int, sizes: SamplerSizes):
        """All of `slots`, a multiple of the shards, are free; `lengths` are those of the prompts, in tokens."""
        self._lengths, self._sizes = lengths, sizes
        self._waiting = collections.deque(sorted(range(len(lengths)), key=lambda i: -lengths[i]))
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
        """Gives waiting prompts to free slots until one of them is used up."""
        shards = self._sizes.shards
        free = [collections.deque(np.flatnonzero(part < 0).tolist()) for part in self.prompt_S.reshape(shards, -1)]
        while self._waiting and any(free):
            yield self._filling(free)

    def _filling(self, free: list[collections.deque[int]]) -> Filling:
        shards, width = len(free), len(self.prompt_S) // len(free)
        length = self._sizes.length(self._lengths[self._waiting[0]])
        prompts_DB = np.full((shards, self._sizes.rows), -1)
        slot_DB = np.full(prompts_DB.shape, width, np.int32)
        for at in range(self._sizes.rows):
            for shard in range(shards):
                if free[shard] and self._waiting:
                    slot, prompt = free[shard].popleft(), self._waiting.popleft()
                    prompts_DB[shard, at], slot_DB[shard, at] = prompt, slot
                    self.prompt_S[shard * width + slot] = prompt
        return Filling(prompts_DB.reshape(-1), slot_DB.reshape(-1), length)

    def release(self, ended_S: np.ndarray) -> list[tuple[int, int]]:
        """Frees the slots whose responses have ended; returns the (slot, prompt) pairs of those that held one."""
        done = np.flatnonzero(ended_S & (self.prompt_S >= 0))
        pairs = [(int(slot), int(self.prompt_S[slot])) for slot in done]
        self.prompt_S[done] = -1
        return pairs
