"""Operations that a model needs, from its shape and from the real tokens it is given: padding needs none.

An operation is a multiplication or an addition of a matrix product. Norms, rotations and softmax are not counted, nor
what is computed a second time to save memory, nor what a program computes and throws away.
"""

import dataclasses
from typing import TypeVar

import numpy as np

from stgrpo.models.lora import Lora
from stgrpo.models.shapes import LINEAR, ModelShape, adapter_specs, layer_specs

Lengths = TypeVar("Lengths", int, np.ndarray)


@dataclasses.dataclass(frozen=True)
class TokenCounts:
    """What a model is run on.

    Attributes:
        tokens: that go through the layers, each prompt counted once.
        predicted: tokens whose probability is asked for, by the head.
        pairs: of a token and one that it sees, itself too.
    """

    tokens: int
    predicted: int
    pairs: int

    def behind(self, prefix: int) -> "TokenCounts":
        """The same with a text of so many tokens before all of them, which is run once."""
        return TokenCounts(self.tokens + prefix, self.predicted, self.pairs + self.tokens * prefix + triangle(prefix))

    def __add__(self, other: "TokenCounts") -> "TokenCounts":
        return TokenCounts(self.tokens + other.tokens, self.predicted + other.predicted, self.pairs + other.pairs)


def group_counts(prompt_B: np.ndarray, length_BG: np.ndarray) -> TokenCounts:
    """Of prompts, each taken once, and of the responses to each; of these every token is predicted.

    Args:
        prompt_B: tokens of each prompt.
        length_BG: tokens of each response.
    """
    prompt_B, length_BG = prompt_B.astype(np.int64), length_BG.astype(np.int64)
    behind_BG = length_BG * prompt_B[:, None] + triangle(length_BG)
    tokens, pairs = prompt_B.sum() + length_BG.sum(), triangle(prompt_B).sum() + behind_BG.sum()
    return TokenCounts(int(tokens), int(length_BG.sum()), int(pairs))


def triangle(length: Lengths) -> Lengths:
    """Pairs of a token and one that it sees, in a text of so many."""
    return length * (length + 1) // 2


def linear_parameters(shape: ModelShape) -> int:
    """Of all layers, those in matrices."""
    specs = layer_specs(shape)
    return sum(specs[name].size for name in LINEAR)


def forward_flops(shape: ModelShape, counts: TokenCounts) -> int:
    """Of one pass from tokens to probabilities."""
    return _linear(shape, counts) + _attention(shape, counts)


def training_flops(
    shape: ModelShape, counts: TokenCounts, lora: Lora | None = None, *, keeps_frozen: bool = False
) -> int:
    """Of one update: the pass, and a product for the gradient of each input and of each matrix that is trained.

    Args:
        shape: of the model.
        counts: of what it is updated with.
        lora: the adapters that are trained while the matrices are frozen; None where these are trained.
        keeps_frozen: whether the update begins with what the layers below all adapters gave (`sft.keep_frozen`).
    """
    if lora is None:
        return 3 * forward_flops(shape, counts)
    changed = dataclasses.replace(shape, depth=lora.depth(shape))  # no gradient goes further down
    adapters = sum(spec.size for spec in adapter_specs(changed, lora.rank, lora.targets).values())
    backward = _linear(changed, counts) + 2 * _attention(changed, counts)
    forward = forward_flops(changed if keeps_frozen else shape, counts)
    return forward + backward + 6 * adapters * counts.tokens


def _linear(shape: ModelShape, counts: TokenCounts) -> int:
    return 2 * (linear_parameters(shape) * counts.tokens + shape.vocab_size * shape.width * counts.predicted)


def _attention(shape: ModelShape, counts: TokenCounts) -> int:
    """Each pair in each head of each layer: a product of query and key, and one of its weight and a value."""
    return 4 * shape.depth * shape.heads * shape.head_dim * counts.pairs
