"""Examples as batches of SFT."""

import math
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from stgrpo.data.examples import Example
from stgrpo.data.padding import bucket, common_start, pad_rows
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


def sft_batch(examples: list[Example], prompt_weight: float = 0.0, *, skip: int = 0) -> GroupBatch:
    """Examples as groups of one response, every token of a response weighing the same.

    Args:
        examples: of one update.
        prompt_weight: see config.
        skip: tokens of each prompt that the batch leaves out, see `build_program`.
    """
    prompt_BP, prompt_len_B = pad_rows([e.prompt_ids[skip:] for e in examples], smallest=32)
    R = bucket(max(len(e.response_ids) for e in examples), smallest=16, sizes=2)
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
