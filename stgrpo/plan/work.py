"""Arithmetic of a stage's parts: what its tokens need (`models.flops`), what padding and rematerialisation add."""

import dataclasses
import math

import numpy as np
from ml_collections import ConfigDict

from stgrpo.models.flops import TokenCounts, forward_flops, group_counts, training_flops, triangle
from stgrpo.models.lora import Lora
from stgrpo.models.shapes import ModelShape
from stgrpo.training.batch import GroupBatch
from stgrpo.training.micro_batches import largest_batch
from stgrpo.training.packing import Batch


@dataclasses.dataclass(frozen=True)
class Work:
    """Operations of all devices.

    Attributes:
        needed: by tokens that there are, once.
        padding: by tokens that there are not.
        repeated: to compute again what was not kept for the backward pass.
    """

    needed: float
    padding: float = 0.0
    repeated: float = 0.0

    @property
    def done(self) -> float:
        """All of them."""
        return self.needed + self.padding + self.repeated

    @property
    def wasted(self) -> float:
        """Share of what is done that padding takes."""
        return self.padding / self.done

    def times(self, count: int) -> "Work":
        """So many times this."""
        return Work(self.needed * count, self.padding * count, self.repeated * count)


def group_tokens(groups: int, prompt: int, group: int, response: int) -> TokenCounts:
    """Of groups as long as their limits, each prompt taken once."""
    return group_counts(np.full(groups, prompt), np.full((groups, group), response))


def longest_tokens(config: ConfigDict, stage: str) -> TokenCounts:
    """Of the largest batch that a stage gives to an update."""
    batch = largest_batch(config, stage)
    found = group_tokens(batch.count, batch.prompt, batch.group, batch.response)
    every = stage == "sft" and config.sft.prompt_weight
    return dataclasses.replace(found, predicted=found.tokens) if every else found


def update_work(
    shape: ModelShape,
    tokens: TokenCounts,
    batch: Batch,
    *,
    remat: bool,
    lora: Lora | None,
    keeps_frozen: bool = False,
) -> Work:
    """Of an update: a forward and a backward pass.

    Args:
        shape: of the model.
        tokens: that there are.
        batch: that they lie in, with its padding.
        remat: see `Transformer`; the logits of a chunk are always computed again.
        lora: the adapters that are trained; None where the whole model is.
        keeps_frozen: whether it begins behind the frozen layers, whose work is done before.
    """
    again = tokens if remat else TokenCounts(0, tokens.predicted, 0)
    through = dataclasses.replace(shape, depth=lora.depth(shape)) if lora else shape  # what has a backward pass
    needed, repeated = training_flops(shape, tokens, lora, keeps_frozen=keeps_frozen), forward_flops(through, again)
    return _padded(Work(needed, 0.0, repeated), batch, tokens)


def logprobs_work(shape: ModelShape, tokens: TokenCounts, batch: Batch) -> Work:
    """Of log-probabilities: a forward pass."""
    return _padded(Work(forward_flops(shape, tokens)), batch, tokens)


def _padded(work: Work, batch: Batch, tokens: TokenCounts) -> Work:
    """With as much more as the batch has more tokens; what attends is padded as they are."""
    more = batch.size / tokens.tokens - 1
    return dataclasses.replace(work, padding=(work.needed + work.repeated) * more)


def predicted_tokens(batch: Batch) -> int:
    """Places of a batch that a distribution is computed for; prompts that are predicted too are not counted."""
    return batch.response_BGR.size if isinstance(batch, GroupBatch) else batch.target_XM.size


@dataclasses.dataclass(frozen=True)
class Rollout:
    """How the embedded sampler draws a rollout whose prompts and responses are all as long as their limits.

    Attributes:
        prompts: of it.
        group: responses a prompt.
        prompt: tokens of one.
        response: tokens of one.
        slots: of all devices.
        devices: that slots are split over.
        prefill_rows: prompts of all devices that are prefilled at one time.
        room: tokens that a prompt is padded to.
    """

    prompts: int
    group: int
    prompt: int
    response: int
    slots: int
    devices: int
    prefill_rows: int
    room: int

    @property
    def rounds(self) -> int:
        """How often all slots are filled."""
        return math.ceil(self.prompts / self.slots)

    @property
    def steps(self) -> int:
        """Of the decode loop."""
        return self.rounds * self.response

    @property
    def prefills(self) -> int:
        """Runs of the prefill."""
        per_round = math.ceil(min(self.slots, self.prompts) / self.prefill_rows)
        return self.rounds * per_round

    def cache_bytes(self, shape: ModelShape, tensor: int, size: int) -> float:
        """Keys and values of all slots of a device, which heads are cut over where they can be.

        Args:
            shape: of the model.
            tensor: devices along that axis of the mesh.
            size: bytes of a value.
        """
        heads = shape.kv_heads / tensor if shape.kv_heads % tensor == 0 else shape.kv_heads
        tokens = self.slots / self.devices * (self.room + self.group * self.response)
        return tokens * 2 * shape.depth * heads * shape.head_dim * size

    def prefill_work(self, shape: ModelShape) -> Work:
        """Of all prefills; their head is the decode loop's."""
        rows = self.prefills * self.prefill_rows
        real = TokenCounts(self.prompts * self.prompt, 0, self.prompts * triangle(self.prompt))
        padded = TokenCounts(rows * self.room, 0, rows * triangle(self.room))
        needed = forward_flops(shape, real)
        return Work(needed, forward_flops(shape, padded) - needed)

    def decode_work(self, shape: ModelShape) -> Work:
        """Of all steps of the loop, slots without a prompt counted as padding."""
        pairs, drawn = self.response * self.prompt + triangle(self.response), self.group * self.response
        one = forward_flops(shape, TokenCounts(drawn, drawn, self.group * pairs))
        return Work(one * self.prompts, one * (self.rounds * self.slots - self.prompts))
