"""The jitted programs of the training stages, by config: what SFT and GRPO run and `stgrpo plan` compiles."""

from collections.abc import Sequence

import jax.numpy as jnp
from jax.sharding import Mesh
from ml_collections import ConfigDict

from stgrpo.errors import UserError
from stgrpo.models.lora import Lora
from stgrpo.models.shapes import ModelShape
from stgrpo.rl.critic import critic_settings, kl_in_reward, rollouts_alone
from stgrpo.rl.losses import Coefficients, loss_options, make_loss
from stgrpo.rl.mismatch import Mismatch
from stgrpo.rl.update import updates_a_rollout
from stgrpo.training.context import attention_core, lora_settings, optimiser_settings
from stgrpo.training.frozen_states import ONE_PROCESS
from stgrpo.training.loss import Loss
from stgrpo.training.micro_batches import micro_batch_count
from stgrpo.training.optimiser import make_optimiser
from stgrpo.training.step import TrainProgram, build_program


def sft_loss_of(config: ConfigDict) -> Loss:
    """The loss of the SFT stage."""
    return make_loss(config.sft.loss)


def grpo_loss_of(config: ConfigDict) -> Loss:
    """The loss of the GRPO stage; a clip of 0 is none."""
    g, r = config.grpo, config.rollout
    coefficients = Coefficients(
        kl_coef=0.0 if kl_in_reward(config) else g.kl_coef,
        kl_estimator=g.kl_estimator,
        clip_low=g.clip_low or None,
        clip_high=g.clip_high or None,
        options=loss_options(g.loss_options),
    )
    mismatch = Mismatch(r.correction, r.correction_cap, r.old_logprobs)
    return make_loss(g.loss, coefficients, temperature=g.temperature, mismatch=mismatch)


_LOSS_OF = {"sft": sft_loss_of, "grpo": grpo_loss_of}


def train_program(
    config: ConfigDict, stage: str, shape: ModelShape, mesh: Mesh, *, updates: int, prefix: Sequence[int] = ()
) -> TrainProgram:
    """The jitted functions of a training stage.

    Args:
        config: of the run.
        stage: "sft" or "grpo".
        shape: of the model.
        mesh: devices that parameters and batches are split over.
        updates: that the stage does, for the schedule of the learning rate.
        prefix: see `build_program`.

    Raises:
        UserError: more layers are to have adapters than the model has, or what frozen layers give cannot be kept.
    """
    lora = lora_settings(config, stage)
    if lora and lora.layers > shape.depth:
        fix = f"use at most {shape.depth}, or 0 for all"
        raise UserError(f"lora.layers={lora.layers} is over the {shape.depth} layers of the model: {fix}")
    if stage == "sft" and config.sft.keep_frozen:
        _check_kept(lora, shape, mesh)
    is_rl = stage == "grpo"
    alone = rollouts_alone(config) * updates_a_rollout(config) if is_rl else 0
    return build_program(
        shape,
        mesh,
        make_optimiser(optimiser_settings(config[stage], max(updates - alone, 1))),
        loss=_LOSS_OF[stage](config),
        micro_batches=micro_batch_count(config, stage, mesh),
        dtype=jnp.dtype(config.model.dtype),
        remat=config.model.remat,
        lora=lora,
        core=attention_core(config, shape, mesh),
        critic=critic_settings(config, updates) if is_rl else None,
        prefix=prefix,
    )


def _check_kept(lora: Lora | None, shape: ModelShape, mesh: Mesh) -> None:
    if lora is None or lora.depth(shape) == shape.depth:
        fix = f"use lora.layers below {shape.depth}, or sft.keep_frozen=False"
        raise UserError(
            f"sft.keep_frozen=True keeps what frozen layers give, and all {shape.depth} have adapters: {fix}"
        )
    if mesh.is_multi_process:
        raise UserError(ONE_PROCESS)
