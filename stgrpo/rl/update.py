"""The updates that one rollout gives, and the programs they run."""

import dataclasses
import logging
import math
from collections.abc import Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from stgrpo.models.shapes import ModelShape
from stgrpo.models.transformer import Transformer
from stgrpo.rl.mismatch import correction_metrics, importance_weights, mismatch_metrics
from stgrpo.training.batch import GroupBatch, loss_weights
from stgrpo.training.batch_packer import padding
from stgrpo.training.checkpointing import host_scalars
from stgrpo.training.context import (
    attention_core,
    check_batch,
    lora_settings,
    optimiser_settings,
)
from stgrpo.training.loss import GrpoLoss
from stgrpo.training.optimiser import make_optimiser
from stgrpo.training.packing import Batch
from stgrpo.training.step import TrainProgram, TrainState, build_program
from stgrpo.training.timer import Timer

log = logging.getLogger(__name__)


def grpo_steps(config: ConfigDict, examples: int) -> int:
    """Rollouts of the GRPO stage."""
    return config.grpo.steps or math.ceil(config.grpo.epochs * examples / config.grpo.prompts)


def grpo_loss(config: ConfigDict) -> GrpoLoss:
    """The coefficients of the loss; a clip of 0 is none."""
    return GrpoLoss(
        kl_coef=config.grpo.kl_coef,
        kl_estimator=config.grpo.kl_estimator,
        clip_low=config.grpo.clip_low or None,
        clip_high=config.grpo.clip_high or None,
        temperature=config.grpo.temperature,
    )


def check_prompts(config: ConfigDict, mesh: Mesh) -> None:
    """Raises a UserError if the smallest part of a rollout cannot be split over the devices; packed rows always can."""
    if config.grpo.row_tokens:
        return
    parts = config.grpo.minibatches * config.grpo.micro_batches
    check_batch(mesh, **{"grpo.prompts": config.grpo.prompts // parts})


def grpo_program(config: ConfigDict, shape: ModelShape, mesh: Mesh, *, updates: int) -> TrainProgram:
    """The jitted functions of GRPO; `stgrpo plan` compiles the same ones."""
    return build_program(
        shape,
        mesh,
        make_optimiser(optimiser_settings(config.grpo, updates)),
        loss=grpo_loss(config),
        micro_batches=config.grpo.micro_batches,
        dtype=jnp.dtype(config.model.dtype),
        remat=config.model.remat,
        lora=lora_settings(config, "grpo"),
        core=attention_core(config, shape, mesh),
    )


def update(
    config: ConfigDict,
    steps: TrainProgram,
    state: TrainState,
    reference: Transformer | None,
    batches: Sequence[Batch],
    timer: Timer,
) -> tuple[TrainState, dict[str, float]]:
    """All updates of one rollout, and their mean metrics. Old log-probabilities are taken before the first.

    Without a reference it is the base of the adapters.
    """
    frozen = state.base if reference is None else reference
    with timer.part("reference"):
        batches, compared = with_logprobs(config, steps, state.policy, frozen, batches)
    metrics: list[dict[str, float]] = []
    with timer.part("update"):
        for batch in [*batches] * config.grpo.passes:
            state, values = steps.update(state, batch)
            metrics.append(host_scalars(values))
    means = {name: float(np.mean([m[name] for m in metrics])) for name in metrics[0]}
    return state, means | compared | padding(batches) | {"ratio_first": metrics[0]["ratio"]}


def with_logprobs(
    config: ConfigDict, steps: TrainProgram, params: Transformer, reference: Transformer, batches: Sequence[Batch]
) -> tuple[list[Batch], dict[str, float]]:
    """The batches with all that an update needs, and how far the sampler was from the trainer.

    Args:
      config: of the run.
      steps: its programs.
      params: the policy before the updates.
      reference: the frozen one.
      batches: with the sampler's log-probabilities as old ones, or without any where the sampler is the trainer itself.
    """
    r, several = config.rollout, len(batches) * config.grpo.passes > 1
    done, seen = [], []
    for batch in batches:
        mask, sampler_logp = batch.terms.mask, batch.terms.old_logp
        bare = batch.with_terms(batch.terms.ref_logp, None)
        ref_logp, old_logp, correction = np.asarray(steps.logprobs(reference, bare)), None, None
        if several or sampler_logp is not None:
            old_logp = np.asarray(steps.logprobs(params, bare))
        if sampler_logp is not None:
            log_ratio = old_logp - sampler_logp
            if r.correction != "none":
                correction = importance_weights(
                    log_ratio, mask, bare.responses, kind=r.correction, cap=r.correction_cap
                )
            seen.append((old_logp, sampler_logp, mask, mask if correction is None else correction))
        if r.old_logprobs == "sampler" and sampler_logp is not None:
            old_logp = sampler_logp
        elif not several:
            old_logp = None  # the policy itself: taken in the update, so that the ratio is 1 to the last bit
        done.append(batch.with_terms(ref_logp, old_logp, correction))
    return done, compare(config, seen)


def compare(config: ConfigDict, seen: Sequence[tuple[np.ndarray, ...]]) -> dict[str, float]:
    """Mismatch over minibatches, of each the trainer's and the sampler's log-probabilities, mask and correction."""
    if not seen:
        return {}
    old_logp, sampler_logp, mask, correction = (
        np.concatenate([x.reshape(-1) for x in part]) for part in zip(*seen, strict=True)
    )
    values, r = mismatch_metrics(old_logp, sampler_logp, mask), config.rollout
    if r.correction != "none":
        values |= correction_metrics(correction, mask, cap=r.correction_cap)
    alarm = bool(r.mismatch_alarm) and values["mismatch_mean"] > r.mismatch_alarm
    if alarm:
        log.warning(
            "log-probabilities of sampler and trainer differ by %.3g on average, rollout.mismatch_alarm is %g",
            values["mismatch_mean"],
            r.mismatch_alarm,
        )
    return values | {"mismatch_alarm": float(alarm)}


def minibatches(config: ConfigDict, batch: GroupBatch) -> Iterator[GroupBatch]:
    """The parts of a rollout that an update is made for, each."""
    c = config.grpo
    for part in range(c.minibatches):
        yield minibatch(batch, part, c.minibatches, aggregation=c.aggregation, limit=config.limits.response)


def minibatch(batch: GroupBatch, part: int, parts: int, *, aggregation: str, limit: int) -> GroupBatch:
    """Every `parts`-th group, its loss weights taken anew so that they are shares of the minibatch."""
    if parts == 1:
        return batch
    taken = jax.tree.map(lambda x: x[part::parts], batch)
    length_BG, R = jnp.asarray(taken.mask_BGR.sum(-1)), taken.mask_BGR.shape[-1]
    weight_BGR = np.asarray(loss_weights(length_BG, R, aggregation, limit=limit))  # the host's, for jit to split
    return dataclasses.replace(taken, weight_BGR=weight_BGR)
