"""Examples as batches of SFT."""

import dataclasses
import math
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from stgrpo.data.examples import Example
from stgrpo.data.padding import common_start, least_padding, pad_rows
from stgrpo.models.attention.xla import AttentionCore
from stgrpo.training.batch import GroupBatch, loss_weights


def shared_prefix(config: ConfigDict, examples: Sequence[Example], core: AttentionCore) -> tuple[int, ...]:
    """Tokens that an update takes once for all its examples, at most what all prompts begin with; () for none.

    A prompt keeps its last token, which predicts the response. Where prompts are in the loss each has all of its own,
    and only XLA's attention sees what was read before a row.
    """
    if not config.sft.share_prefix or config.sft.prompt_weight or core.name != "xla":
        return ()
    return common_start([e.prompt_ids[:-1] for e in examples])


MOST_SHAPES = 6
"""That the batches of a stage are padded to: a program is compiled for each."""
_PROMPT_UNIT, _RESPONSE_UNIT = 32, 16  # tokens that lengths are multiples of


@dataclasses.dataclass(frozen=True)
class SftShapes:
    """What prompts and responses of a stage's batches are padded to, any of the ones with any of the others.

    Attributes:
        prompt: lengths in tokens, the shortest first.
        response: likewise.
    """

    prompt: tuple[int, ...]
    response: tuple[int, ...]

    def of(self, prompt: int, response: int) -> tuple[int, int]:
        """The least lengths that so many tokens fit in."""
        return next(n for n in self.prompt if n >= prompt), next(n for n in self.response if n >= response)


def sft_shapes(examples: Sequence[Example], skip: int = 0) -> SftShapes:
    """The shapes that pad all examples of a stage least, each by itself, of what makes at most `MOST_SHAPES`.

    They depend on the examples alone, so a resumed run has the same.

    Args:
        examples: of the stage, at least one.
        skip: tokens of each prompt that batches leave out.
    """
    prompts, responses = [len(e.prompt_ids) - skip for e in examples], [len(e.response_ids) for e in examples]
    ways = []
    for count in range(1, MOST_SHAPES + 1):
        prompt, tokens = least_padding(prompts, count, unit=_PROMPT_UNIT)
        response, more = least_padding(responses, MOST_SHAPES // count, unit=_RESPONSE_UNIT)
        ways.append((tokens + more, SftShapes(prompt, response)))
    return min(ways, key=lambda way: way[0])[1]


def sft_batch(
    examples: list[Example], prompt_weight: float = 0.0, *, skip: int = 0, shapes: SftShapes | None = None
) -> GroupBatch:
    """Examples as groups of one response, every token of a response weighing the same.

    Args:
        examples: of one update.
        prompt_weight: see config.
        skip: tokens of each prompt that the batch leaves out, see `build_program`.
        shapes: of the stage's batches; None where these are all examples there are.
    """
    shapes = shapes or sft_shapes(examples, skip)
    longest = max(len(e.prompt_ids) for e in examples) - skip, max(len(e.response_ids) for e in examples)
    P, R = shapes.of(*longest)
    prompt_BP, prompt_len_B = pad_rows([e.prompt_ids[skip:] for e in examples], length=P)
    response_BR, response_len_B = pad_rows([e.response_ids for e in examples], length=R)
    weight_BR = np.asarray(loss_weights(jnp.asarray(response_len_B), response_BR.shape[1], "token_mean"))
    prompt_weight_BP = loss_weights(jnp.asarray(prompt_len_B), prompt_BP.shape[1], "token_mean")
    zeros_B1R = np.zeros_like(weight_BR)[:, None]
    return GroupBatch(
        prompt_BP=prompt_BP,
        prompt_len_B=prompt_len_B,
        response_BGR=response_BR[:, None],
        weight_BGR=weight_BR[:, None],
        mask_BGR=(weight_BR > 0).astype(np.float32)[:, None],
        adv_BG=zeros_B1R[..., 0],
        ref_logp_BGR=zeros_B1R,
        prompt_weight_BP=prompt_weight * np.asarray(prompt_weight_BP) if prompt_weight else None,
    )


def sft_steps(config: ConfigDict, examples: int) -> int:
    """Updates of the SFT stage."""
    return config.sft.steps or math.ceil(config.sft.epochs * examples / config.sft.batch)
