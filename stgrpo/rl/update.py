"""The updates that one rollout gives: minibatches, their log-probabilities, and the loss of each."""

import dataclasses
import logging
import math
from collections.abc import Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from stgrpo.models.transformer import Transformer
from stgrpo.rl.critic import critic_updates, kl_in_reward, rollouts_alone
from stgrpo.rl.mismatch import mismatch_metrics
from stgrpo.training.batch import GroupBatch, loss_weights
from stgrpo.training.batch_packer import padding
from stgrpo.training.divergence import finite_metrics
from stgrpo.training.packing import Batch
from stgrpo.training.step import TrainProgram, TrainState
from stgrpo.training.timer import Timer

log = logging.getLogger(__name__)


def grpo_steps(config: ConfigDict, examples: int) -> int:
    """Rollouts of the GRPO stage."""
    return config.grpo.steps or math.ceil(config.grpo.epochs * examples / config.grpo.prompts)


def updates_a_rollout(config: ConfigDict) -> int:
    """Updates that a rollout gives."""
    return config.grpo.minibatches * config.grpo.passes


def has_several_updates(config: ConfigDict) -> bool:
    """Whether a rollout gives more than one update, so that the policy moves away from the one that drew it."""
    return updates_a_rollout(config) > 1


def needs_old_logprobs(config: ConfigDict) -> bool:
    """Whether the policy's log-probabilities are taken before the first update, and not within it."""
    return has_several_updates(config) or kl_in_reward(config)


def update(
    config: ConfigDict,
    program: TrainProgram,
    state: TrainState,
    reference: Transformer | None,
    batches: Sequence[Batch],
    timer: Timer,
) -> tuple[TrainState, dict[str, float]]:
    """All updates of one rollout, and their mean metrics. Old log-probabilities are taken before the first.

    A critic learns before the policy does, from values that are as old as these; at first it may be alone in that.

    Args:
        config: of the run.
        program: its jitted functions.
        state: before the updates; it is donated.
        reference: the frozen policy; None where it is the base of the adapters.
        batches: the minibatches, in the layout of the config.
        timer: counts the parts.

    Raises:
        NotFinite: an update made numbers that are none.
        ValueError: a whole model comes without its reference.
    """
    frozen = state.base if reference is None else reference
    if frozen is None:
        raise ValueError("a model that is trained whole needs a reference of its own")
    with timer.part("reference"):
        old = needs_old_logprobs(config)
        batches = [with_logprobs(program, state.policy, frozen, batch, several=old) for batch in batches]
        jax.block_until_ready(batches)  # for the timer: the numbers stay where they are
    figures, is_alone = {}, False
    if program.critic is not None and state.critic is not None:
        is_alone = int(state.critic.step) < rollouts_alone(config) * updates_a_rollout(config)
        with timer.part("critic"):
            critic, batches, figures = critic_updates(config, program.critic, state.critic, batches)
            state = dataclasses.replace(state, critic=critic)
    metrics: list[dict[str, float]] = []
    with timer.part("update"):
        for number, batch in enumerate([] if is_alone else [*batches] * config.grpo.passes):
            state, values = program.update(state, batch)
            metrics.append(finite_metrics(values, number))
    figures |= padding(batches)
    if is_alone:
        return state, figures
    means = {name: (max if name.endswith("_max") else np.mean)([m[name] for m in metrics]) for name in metrics[0]}
    values = mismatch_metrics({name: float(value) for name, value in means.items()})
    return state, values | alarm(config, values) | figures | _first(metrics[0])


def _first(metrics: dict[str, float]) -> dict[str, float]:
    """The ratio of the first update, where the loss has one: 1, if old log-probabilities are the policy's."""
    return {"ratio_first": metrics["ratio"]} if "ratio" in metrics else {}


def with_logprobs(
    program: TrainProgram, policy: Transformer, reference: Transformer, batch: Batch, *, several: bool
) -> Batch:
    """A minibatch with the log-probabilities of the reference, and of the policy if there are `several` updates.

    With one update the policy's own are taken inside it, so that the ratio is 1 to the last bit. The numbers stay on
    the devices, split like the batch.
    """
    old_logp = program.logprobs(policy, batch) if several else None
    return batch.with_logprobs(program.logprobs(reference, batch), old_logp)


def alarm(config: ConfigDict, values: dict[str, float]) -> dict[str, float]:
    """Warns, and says in a metric, where sampler and trainer differ by more than the config allows."""
    if "mismatch_mean" not in values:
        return {}
    limit, mean = config.rollout.mismatch_alarm, values["mismatch_mean"]
    ringing = bool(limit) and mean > limit
    if ringing:
        said = "log-probabilities of sampler and trainer differ by %.3g on average, rollout.mismatch_alarm is %g"
        log.warning(said, mean, limit)
    return {"mismatch_alarm": float(ringing)}


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
