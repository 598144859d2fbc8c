"""The parts of a step: SFT's update, and what a rollout of GRPO takes; their work, memory traffic and communication."""

import dataclasses

import jax.numpy as jnp
from ml_collections import ConfigDict

from stgrpo.models.flops import TokenCounts
from stgrpo.plan import times
from stgrpo.plan.communication import Collective, Pass, logprobs_traffic, matrix_values, update_traffic
from stgrpo.plan.programs import StagePrograms
from stgrpo.plan.sampling import host_count, longest_rollout
from stgrpo.plan.times import Part, Time, time_of
from stgrpo.plan.work import (
    Rollout,
    logprobs_work,
    longest_tokens,
    predicted_tokens,
    update_work,
)
from stgrpo.rl.critic import has_critic
from stgrpo.rl.update import needs_old_logprobs, updates_a_rollout
from stgrpo.training.context import lora_settings
from stgrpo.training.micro_batches import row_shards


@dataclasses.dataclass(frozen=True)
class Timed:
    """A part of a step, how often it comes in one, and how long each time takes.

    Attributes:
        part: of the step.
        count: times in it.
        time: of one; None where nothing is published of the devices.
    """

    part: Part
    count: int
    time: Time | None

    @property
    def seconds(self) -> float:
        """All times."""
        return self.count * self.time.total if self.time else 0.0


def sft_step(programs: StagePrograms, utilisation: float) -> list[Timed]:
    """SFT's: an update."""
    return [_timed(_update(programs), 1, programs, utilisation)]


def grpo_step(programs: StagePrograms, utilisation: float) -> list[Timed]:
    """GRPO's: sampling where it is embedded, log-probabilities, and updates."""
    config, parts = programs.config, []
    if config.rollout.backend == "jax":
        rollout = longest_rollout(config, programs.mesh)
        parts += [(_prefill(config, programs, rollout), 1), (_decode(config, programs, rollout), 1)]
    old = needs_old_logprobs(config)
    parts.append((_logprobs(programs), config.grpo.minibatches * (2 if old else 1)))
    if has_critic(config):
        parts += [(_values(programs), config.grpo.minibatches), (_critic_update(programs), updates_a_rollout(config))]
    parts.append((_update(programs), updates_a_rollout(config)))
    return [_timed(part, count, programs, utilisation) for part, count in parts]


def _timed(part: Part, count: int, programs: StagePrograms, utilisation: float) -> Timed:
    chip = programs.target.chip
    return Timed(part, count, time_of(part, programs.mesh, chip, utilisation) if chip else None)


def _update(programs: StagePrograms) -> Part:
    config, stage, shape, mesh = programs.config, programs.stage, programs.shape, programs.mesh
    lora, remat = lora_settings(config, stage), config.model.remat
    one, trained, through = pass_of(programs), programs.parts["parameters"] / 4, shape
    if keeps_frozen := stage == "sft" and config.sft.keep_frozen and lora is not None:
        through = dataclasses.replace(shape, depth=lora.depth(shape))
    return Part(
        f"{stage} update",
        update_work(
            shape, longest_tokens(config, stage), programs.batch, remat=remat, lora=lora, keeps_frozen=keeps_frozen
        ),
        times.update_bytes(through, mesh, one, trained, remat=remat),
        update_traffic(through, mesh, one, remat=remat, frozen=lora is not None),
    )


def _critic_update(programs: StagePrograms) -> Part:
    """A policy's without the vocabulary."""
    shape, mesh, remat = programs.shape, programs.mesh, programs.config.model.remat
    one, tokens = _without_head(programs)
    return Part(
        "critic update",
        update_work(shape, tokens, programs.batch, remat=remat, lora=None),
        times.update_bytes(shape, mesh, one, programs.parts["critic"] / 4, remat=remat),
        update_traffic(shape, mesh, one, remat=remat, frozen=False),
    )


def _values(programs: StagePrograms) -> Part:
    shape, mesh = programs.shape, programs.mesh
    one, tokens = _without_head(programs)
    weights = one.size * matrix_values(shape, mesh)
    return Part(
        "values",
        logprobs_work(shape, tokens, programs.batch),
        one.parts * times.pass_bytes(shape, one.tokens, weights, one.size),
        logprobs_traffic(shape, mesh, one),
    )


def _without_head(programs: StagePrograms) -> tuple[Pass, TokenCounts]:
    """What goes through a critic, which has no distribution over the vocabulary."""
    tokens = longest_tokens(programs.config, "grpo")
    return dataclasses.replace(pass_of(programs), predicted=0.0), dataclasses.replace(tokens, predicted=0)


def _logprobs(programs: StagePrograms) -> Part:
    config, shape, mesh = programs.config, programs.shape, programs.mesh
    one = pass_of(programs)
    weights = one.size * matrix_values(shape, mesh)
    return Part(
        "log-probabilities",
        logprobs_work(shape, longest_tokens(config, "grpo"), programs.batch),
        one.parts * times.pass_bytes(shape, one.tokens, weights, one.size),
        logprobs_traffic(shape, mesh, one),
    )


def pass_of(programs: StagePrograms) -> Pass:
    """A part of the largest batch, on each device."""
    share = row_shards(programs.mesh) * programs.micro_batches
    tokens, predicted = programs.batch.size / share, predicted_tokens(programs.batch) / share
    return Pass(tokens, predicted, programs.micro_batches, _size(programs.config))


def _prefill(config: ConfigDict, programs: StagePrograms, rollout: Rollout) -> Part:
    shape, mesh, size = programs.shape, programs.mesh, _size(config)
    tokens = rollout.prefill_rows * rollout.room / rollout.devices
    one = Pass(tokens, 0, rollout.prefills, size)
    memory = rollout.prefills * times.pass_bytes(shape, tokens, size * matrix_values(shape, mesh), size)
    several = host_count(mesh) > 1
    gathered = [Collective("weights", "all-gather", "fsdp", size * matrix_values(shape, mesh), 1)] if several else None
    return Part("prefill", rollout.prefill_work(shape), memory, gathered or logprobs_traffic(shape, mesh, one))


def _decode(config: ConfigDict, programs: StagePrograms, rollout: Rollout) -> Part:
    """A step reads all weights and the keys and values of a device's slots."""
    shape, mesh, size = programs.shape, programs.mesh, _size(config)
    slots, cache = rollout.slots / rollout.devices, rollout.cache_bytes(shape, mesh.shape["tensor"], size)
    activations = size * slots * rollout.group * shape.width
    traffic = [Collective("activations", "all-reduce", "tensor", activations, 2 * shape.depth * rollout.steps)]
    if host_count(mesh) == 1:
        traffic.append(Collective("weights", "all-gather", "fsdp", size * matrix_values(shape, mesh), 1))
    memory = rollout.steps * (size * matrix_values(shape, mesh) + cache)
    return Part("decode", rollout.decode_work(shape), memory, [t for t in traffic if mesh.shape[t.axis] > 1])


def _size(config: ConfigDict) -> int:
    return jnp.dtype(config.model.dtype).itemsize
