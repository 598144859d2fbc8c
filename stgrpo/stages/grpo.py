"""GRPO: the model draws groups of responses to single-turn problems and learns from their rewards (Eqs. 4-6)."""

import dataclasses
import functools
import itertools
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from stgrpo.data.examples import Example, stream_indices
from stgrpo.errors import UserError
from stgrpo.evaluation.metrics import summarise
from stgrpo.models.shapes import ModelShape
from stgrpo.models.transformer import Transformer
from stgrpo.react.reward import RewardWeights
from stgrpo.rollout.base import Sampler, SamplingParams, mix_seed
from stgrpo.stages.backend import open_sampler, persist
from stgrpo.stages.common import (
    Layouts,
    Setting,
    Timer,
    check_batch,
    load_examples,
    lora_settings,
    new_record,
    open_setting,
    optimiser_settings,
    padding,
    refuse_constraint,
)
from stgrpo.stages.console import Progress, say
from stgrpo.stages.evaluate import Suite, play_suite
from stgrpo.stages.policies import read_merged
from stgrpo.training.checkpointing import Checkpoints, Record, host_scalars, newest, newest_record
from stgrpo.training.grpo import GroupBatch, GrpoLoss, loss_weights
from stgrpo.training.optimiser import make_optimiser
from stgrpo.training.packing import Batch
from stgrpo.training.rollout import Group, group_batch, rollout_metrics, score
from stgrpo.training.step import Steps, TrainState, build_steps
from stgrpo.workdir import LineLog, WorkDir


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


def grpo_program(config: ConfigDict, shape: ModelShape, mesh: Mesh, *, updates: int) -> Steps:
    """The jitted functions of GRPO; `stgrpo plan` compiles the same ones."""
    return build_steps(
        shape,
        mesh,
        make_optimiser(optimiser_settings(config.grpo, updates)),
        loss=grpo_loss(config),
        micro_batches=config.grpo.micro_batches,
        dtype=jnp.dtype(config.model.dtype),
        remat=config.model.remat,
        lora=lora_settings(config, "grpo"),
    )


class Rollouts:
    """Draws and rewards groups from the stream of examples: a function of policy, seed and position alone."""

    def __init__(self, setting: Setting, examples: list[Example], sampler: Sampler):
        c = setting.config
        self._setting, self._examples, self._sampler = setting, examples, sampler
        self._params = SamplingParams(c.limits.response, c.grpo.temperature, c.grpo.top_p, c.grpo.top_k)
        self._weights = RewardWeights(c.reward.format, c.reward.action)

    def draw(self, position: int, timer: Timer) -> tuple[list[Group], list[Group], int]:
        """The groups to train on, all groups drawn, and the position after them.

        With `grpo.resample` groups without signal are replaced by the next prompts, that many times; what is then
        still missing is filled with groups without signal.
        """
        c, kept, drawn = self._setting.config.grpo, [], []
        for _ in range(c.resample + 1):
            fresh = self._score(position, c.prompts - len(kept), timer)
            position += len(fresh)
            drawn += fresh
            kept += [g for g in fresh if g.has_signal or not c.resample]
            if len(kept) == c.prompts:
                break
        idle = (g for g in drawn if not g.has_signal)
        kept += itertools.islice(idle, c.prompts - len(kept))
        return kept, drawn, position

    def _score(self, position: int, count: int, timer: Timer) -> list[Group]:
        c, tokenizer = self._setting.config, self._setting.tokenizer
        rows = stream_indices(len(self._examples), position, count, c.seed + 1)
        examples = [self._examples[i] for i in rows]
        seeds = [mix_seed(c.seed, position + i) for i in range(count)]
        with timer.part("sample"):
            samples = self._sampler.generate([e.prompt_ids for e in examples], c.grpo.group_size, self._params, seeds)
        with timer.part("reward"):
            texts = [[tokenizer.decode(ids) for ids in group] for group in samples.tokens]
            return score(examples, samples, texts, target=c.reward.target, weights=self._weights)


def update(
    config: ConfigDict,
    steps: Steps,
    state: TrainState,
    reference: Transformer | None,
    batches: Sequence[Batch],
    timer: Timer,
) -> tuple[TrainState, dict[str, float]]:
    """All updates of one rollout, and their mean metrics. Old log-probabilities are taken before the first.

    Without a reference it is the base of the adapters.
    """
    several = len(batches) * config.grpo.passes > 1
    frozen = state.base if reference is None else reference

    def with_logprobs(batch: Batch) -> Batch:
        old_logp = np.asarray(steps.logprobs(state.policy, batch)) if several else None
        return batch.with_logprobs(np.asarray(steps.logprobs(frozen, batch)), old_logp)

    with timer.part("reference"):
        batches = [with_logprobs(batch) for batch in batches]
    metrics: list[dict[str, float]] = []
    with timer.part("update"):
        for batch in [*batches] * config.grpo.passes:
            state, values = steps.update(state, batch)
            metrics.append(host_scalars(values))
    means = {name: float(np.mean([m[name] for m in metrics])) for name in metrics[0]}
    return state, means | padding(batches) | {"ratio_first": metrics[0]["ratio"]}


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


def run_grpo(config: ConfigDict, workdir: WorkDir) -> None:
    """Trains from the SFT policy, which stays frozen as the reference; writes checkpoints/grpo, metrics and samples."""
    refuse_constraint(config, "grpo")
    setting = open_setting(config, workdir)
    check_prompts(config, setting.mesh)
    examples = load_examples(setting, "train")
    total = grpo_steps(config, len(examples))
    checkpoints = Checkpoints(workdir.checkpoints("grpo"), keep=config.grpo.keep)
    if checkpoints.newest() >= total:
        say(f"grpo: complete at step {total}, skipped")
        return
    folder = reference_folder(config, workdir)
    updates = total * config.grpo.minibatches * config.grpo.passes
    steps = grpo_program(config, newest_record(folder).shape, setting.mesh, updates=updates)
    with jax.set_mesh(setting.mesh):
        given = newest(folder, lambda step: read_merged(step, steps.model))
        state, record = _start(setting, steps, given, checkpoints)
        start = (None if record.lora else given[0], state, record)
        place = workdir.path / "rollout"
        with open_sampler(config, state.policy, setting.tokenizer, mesh=setting.mesh, place=place) as sampler:
            _train(setting, steps, checkpoints, examples, start, sampler, total)
    checkpoints.close()


def reference_folder(config: ConfigDict, workdir: WorkDir) -> Path:
    """Where the frozen reference is: the SFT checkpoints of this work directory.

    Raises:
      UserError: SFT has not run, or not to its end.
    """
    folder = workdir.checkpoints("sft")
    record = newest_record(folder)
    total = record.total
    if record.step < total:
        raise UserError(
            f"sft stopped at step {record.step} of {total}: run `stgrpo sft` with this work directory again"
        )
    return folder


def _start(
    setting: Setting, steps: Steps, given: tuple[Transformer, str], checkpoints: Checkpoints
) -> tuple[TrainState, Record]:
    reference, identity = given
    restored = checkpoints.restore(steps.abstract)
    if restored is None:
        record = new_record(setting, "grpo", reference.shape, reference=identity, base=identity)
        return steps.start(reference if record.lora else jax.tree.map(jnp.copy, reference)), record
    state, record = restored
    if record.reference != identity:
        raise UserError(
            f"checkpoints/grpo/{record.step} was trained against reference {record.reference}, "
            f"checkpoints/sft now holds {identity}: use another --workdir"
        )
    say(f"grpo: resumed at step {record.step}")
    return dataclasses.replace(state, base=reference if record.lora else None), record


def _train(
    setting: Setting,
    steps: Steps,
    checkpoints: Checkpoints,
    examples: list[Example],
    start: tuple[Transformer | None, TrainState, Record],
    sampler: Sampler,
    total: int,
) -> None:
    config, workdir = setting.config, setting.workdir
    reference, state, record = start
    rollouts = Rollouts(setting, examples, sampler)
    validation = validation_suite(config)
    metrics = LineLog(workdir.metrics, "grpo", record.step)
    samples = LineLog(workdir.samples, "grpo", record.step)
    say(f"grpo: {total} rollouts of {config.grpo.prompts} prompts x {config.grpo.group_size} responses")
    bar, lay_out = Progress("grpo", total, record.step), Layouts("grpo", config, setting.mesh)
    for step in range(record.step, total):
        timer = Timer()

        def draw(step=step, timer=timer, params=state.policy, position=record.position):
            sampler.update_weights(params, step)
            return rollouts.draw(position, timer)

        save = functools.partial(_save_now, checkpoints, state, record)
        groups, drawn, position = persist(draw, sampler, patience=config.rollout.patience, save=save)
        batch = group_batch(
            groups,
            aggregation=config.grpo.aggregation,
            scale_by_std=config.grpo.scale_by_std,
            limit=config.limits.response,
        )
        parts = [lay_out(part) for part in minibatches(config, batch)]
        state, values = update(config, steps, state, reference, parts, timer)
        values |= rollout_metrics(drawn, batch)
        if config.grpo.validate_every and ((step + 1) % config.grpo.validate_every == 0 or step + 1 == total):
            sampler.update_weights(state.policy, step + 1)
            with timer.part("validation"):
                values |= validate(setting, validation, sampler)
        record = dataclasses.replace(record, step=step + 1, position=position, total=total)
        metrics.write(step + 1, values | timer.seconds)
        samples.write(step + 1, sample_facts(groups[0]))
        bar.step(step + 1, {k: values[k] for k in ("reward", "kl", "validation_sr") if k in values})
        if (step + 1) % config.grpo.checkpoint_every == 0 or step + 1 == total:
            checkpoints.save(state, record)
    bar.close()
    metrics.close()
    samples.close()


def _save_now(checkpoints: Checkpoints, state: TrainState, record: Record) -> None:
    """A checkpoint out of turn, unless there is nothing new to keep."""
    if record.step > checkpoints.newest():
        checkpoints.save(state, record)
        say(f"grpo: saved at step {record.step}")


def validation_suite(config: ConfigDict) -> Suite:
    """The kitchens watched during training: never trained on, never tested on."""
    return Suite("validation", config.env.family, "validation", config.grpo.validation_layouts, tuple(config.env.tasks))


def validate(setting: Setting, suite: Suite, sampler: Sampler) -> dict[str, float]:
    """Success rate and mean steps of whole episodes in the validation kitchens."""
    summary = summarise(play_suite(setting.config, suite, sampler, setting.tokenizer))
    return {"validation_sr": summary["sr"], "validation_asat": summary["asat"]}


def sample_facts(group: Group) -> dict[str, object]:
    """One group for people to read."""
    return {
        "task": group.example.task,
        "layout": group.example.layout,
        "index": group.example.index,
        "expert": group.example.step.action,
        "responses": list(group.texts),
        "rewards": [r.total for r in group.rewards],
    }
