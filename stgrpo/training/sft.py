"""Examples as batches of SFT, and the programs of its updates."""

import math

import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from stgrpo.data.examples import Example
from stgrpo.data.padding import pad_rows
from stgrpo.models.shapes import ModelShape
from stgrpo.training.batch import GroupBatch, loss_weights
from stgrpo.training.context import (
    attention_core,
    lora_settings,
    optimiser_settings,
)
from stgrpo.training.optimiser import make_optimiser
from stgrpo.training.step import TrainProgram, build_program


def sft_batch(examples: list[Example], prompt_weight: float = 0.0) -> GroupBatch:
    """Examples as groups of one response, every token of a response weighing the same; `prompt_weight` see config."""
    prompt_BP, prompt_len_B = pad_rows([e.prompt_ids for e in examples], smallest=32)
    response_BR, response_len_B = pad_rows([e.response_ids for e in examples], smallest=16)
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


def sft_program(config: ConfigDict, shape: ModelShape, mesh: Mesh, *, updates: int) -> TrainProgram:
    """The jitted functions of SFT."""
    return build_program(
        shape,
        mesh,
        make_optimiser(optimiser_settings(config.sft, updates)),
        micro_batches=config.sft.micro_batches,
        dtype=jnp.dtype(config.model.dtype),
        remat=config.model.remat,
        lora=lora_settings(config, "sft"),
        core=attention_core(config, shape, mesh),
    )
