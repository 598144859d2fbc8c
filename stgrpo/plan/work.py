"""Arithmetic of a stage's parts, by formula: what its tokens need, and what padding and rematerialisation add.

Two operations a parameter and token in the layers, two a row of the head and predicted token, and for each pair of
tokens that attend to each other four a query head and its size, in every layer. A backward pass takes twice a forward
one; where the layers are frozen (adapters), products with their weights take it once.
"""

import dataclasses
import math

from ml_collections import ConfigDict

from stgrpo.models.shapes import LINEAR, ModelShape, layer_specs
from stgrpo.training.batch import GroupBatch
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


@dataclasses.dataclass(frozen=True)
class Tokens:
    """What goes through the model.

    Attributes:
        layers: tokens.
        head: tokens that a distribution is computed for.
        pairs: of a token with one that it attends to.
    """

    layers: int
    head: int
    pairs: int


def group_tokens(groups: int, prompt: int, group: int, response: int) -> Tokens:
    """Of groups as long as their limits, each prompt taken once."""
    own = group * (response * prompt + response * (response + 1) // 2)
    head = groups * group * response
    return Tokens(groups * (prompt + group * response), head, groups * (prompt * (prompt + 1) // 2 + own))


def longest_tokens(config: ConfigDict, stage: str) -> Tokens:
    """Of the largest batch that a stage gives to an update."""
    P, R = config.limits.prompt, config.limits.response
    if stage == "sft":
        found = group_tokens(config.sft.batch, P, 1, R)
        return dataclasses.replace(found, head=found.layers) if config.sft.prompt_weight else found
    return group_tokens(config.grpo.prompts // config.grpo.minibatches, P, config.grpo.group_size, R)


def linear_parameters(shape: ModelShape) -> int:
    """Of all layers, those in matrices."""
    specs = layer_specs(shape)
    return sum(specs[name].size for name in LINEAR)


def forward(shape: ModelShape, tokens: Tokens, *, layers: int = 2, pairs: int = 4, head: int = 2) -> float:
    """Operations of a forward pass, or of another with so many a parameter and token.

    Args:
        shape: of the model.
        tokens: that go through it.
        layers: operations a parameter of a layer and token.
        pairs: operations a value of a query and pair.
        head: operations a value of the head and predicted token.
    """
    attention = pairs * shape.depth * shape.heads * shape.head_dim * tokens.pairs
    return (
        layers * linear_parameters(shape) * tokens.layers
        + attention
        + head * shape.vocab_size * shape.width * tokens.head
    )


def update_work(shape: ModelShape, tokens: Tokens, batch: Batch, *, remat: bool, frozen: bool) -> Work:
    """Of an update: a forward and a backward pass.

    Args:
        shape: of the model.
        tokens: that there are.
        batch: that they lie in, with its padding.
        remat: see `Transformer`; the logits of a chunk are always computed again.
        frozen: whether only adapters are trained.
    """
    needed = forward(shape, tokens, layers=4 if frozen else 6, pairs=12, head=6)
    again = forward(shape, tokens, layers=2 * remat, pairs=4 * remat, head=2)
    return _padded(Work(needed, 0.0, again), batch, tokens)


def logprobs_work(shape: ModelShape, tokens: Tokens, batch: Batch) -> Work:
    """Of log-probabilities: a forward pass."""
    return _padded(Work(forward(shape, tokens)), batch, tokens)


def _padded(work: Work, batch: Batch, tokens: Tokens) -> Work:
    """With as much more as the batch has more tokens; what attends is padded as they are."""
    more = batch.size / tokens.layers - 1
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

    def prefill_work(self, shape: ModelShape) -> Work:
        """Of all prefills; their head is the decode loop's."""
        needed = forward(shape, Tokens(self.prompts * self.prompt, 0, self.prompts * _triangle(self.prompt)))
        rows = self.prefills * self.prefill_rows
        return Work(needed, forward(shape, Tokens(rows * self.room, 0, rows * _triangle(self.room))) - needed)

    def decode_work(self, shape: ModelShape) -> Work:
        """Of all steps of the loop, slots without a prompt counted as padding."""
        pairs = self.response * self.prompt + _triangle(self.response)
        one = forward(shape, Tokens(self.group * self.response, self.group * self.response, self.group * pairs))
        return Work(one * self.prompts, one * (self.rounds * self.slots - self.prompts))


def _triangle(length: int) -> int:
    return length * (length + 1) // 2
