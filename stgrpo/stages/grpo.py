"""GRPO: the model draws groups of responses to single-turn problems and learns from their rewards (Eqs. 4-6)."""

import dataclasses
import functools
import logging
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from stgrpo.data.examples import Example
from stgrpo.errors import ServerError, UserError
from stgrpo.evaluation.metrics import summarise
from stgrpo.models.shapes import ModelShape
from stgrpo.models.transformer import Transformer
from stgrpo.rollout.base import Sampler
from stgrpo.stages.backend import open_sampler, persist
from stgrpo.stages.common import (
    Layouts,
    Setting,
    Timer,
    attention_core,
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
from stgrpo.stages.rollouts import Ahead, InTime, Rollout, Rollouts, Schedule
from stgrpo.training.checkpointing import Checkpoints, Record, host_scalars, newest, newest_record
from stgrpo.training.grpo import GroupBatch, GrpoLoss, loss_weights
from stgrpo.training.mismatch import correction_metrics, importance_weights, mismatch_metrics
from stgrpo.training.optimiser import make_optimiser
from stgrpo.training.packing import Batch
from stgrpo.training.rollout import Group, group_batch, rollout_metrics, sampler_logprobs
from stgrpo.training.step import Steps, TrainState, build_steps
from stgrpo.workdir import LineLog, WorkDir

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
        core=attention_core(config, shape, mesh),
    )


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
    config: ConfigDict, steps: Steps, params: Transformer, reference: Transformer, batches: Sequence[Batch]
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
        training = _Training(setting, steps, checkpoints, (None if record.lora else given[0], state, record))
        place = workdir.path / "rollout"
        with open_sampler(config, training.policy, setting.tokenizer, mesh=setting.mesh, place=place) as sampler:
            training.run(examples, sampler, total)
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


class _Training:
    """The loop over rollouts, from where the record says."""

    def __init__(
        self,
        setting: Setting,
        steps: Steps,
        checkpoints: Checkpoints,
        start: tuple[Transformer | None, TrainState, Record],
    ):
        self._setting, self._config, self._steps, self._checkpoints = setting, setting.config, steps, checkpoints
        self._reference, self._state, self._record = start
        self._metrics = LineLog(setting.workdir.metrics, "grpo", self._record.step)
        self._samples = LineLog(setting.workdir.samples, "grpo", self._record.step)
        self._lay_out = Layouts("grpo", setting.config, setting.mesh)
        self._suite = validation_suite(setting.config)

    @property
    def policy(self) -> Transformer:
        """As it is now."""
        return self._state.policy

    def run(self, examples: list[Example], sampler: Sampler, total: int) -> None:
        """Trains to the end."""
        c, start = self._config.grpo, self._record.step
        shown = f"attention by {self._steps.model.core.name}"
        say(f"grpo: {total} rollouts of {c.prompts} prompts x {c.group_size} responses, {shown}")
        bar = Progress("grpo", total, start)
        schedule = Schedule(start, total, c.checkpoint_every, self._config.rollout.max_staleness)
        draws = Rollouts(self._setting, examples, sampler)
        source = (
            Ahead(draws, sampler, schedule, self._record.position) if schedule.staleness else InTime(draws, sampler)
        )
        try:
            for step in range(start, total):
                values = self._step(step, source, sampler, total)
                bar.step(step + 1, {k: values[k] for k in ("reward", "kl", "validation_sr") if k in values})
        finally:
            source.close()
            self._metrics.close()
            self._samples.close()
        bar.close()

    def _step(self, step: int, source: InTime | Ahead, sampler: Sampler, total: int) -> dict[str, float]:
        timer, c = Timer(), self._config.grpo
        ask = functools.partial(source.next, step, self.policy, self._record.position)
        patience = self._config.rollout.patience
        with timer.part("wait"):
            rollout = persist(ask, sampler, patience=patience, save=self._save_now)
        self._check_age(rollout, step)
        batch = self._batch(rollout)
        parts = [self._lay_out(part) for part in minibatches(self._config, batch)]
        self._state, values = update(self._config, self._steps, self._state, self._reference, parts, timer)
        values |= rollout_metrics(rollout.drawn, batch) | rollout.seconds
        values["staleness"] = step - min(g.version for g in rollout.groups)
        self._record = dataclasses.replace(self._record, step=step + 1, position=rollout.position, total=total)
        last = step + 1 == total
        try:
            if c.validate_every and ((step + 1) % c.validate_every == 0 or last):
                with timer.part("validation"):
                    values |= self._validate(source, sampler)
        except (UserError, ServerError):
            self._write(values, timer, rollout)
            self._save_now()
            raise
        self._write(values, timer, rollout)
        if (step + 1) % c.checkpoint_every == 0 or last:
            self._checkpoints.save(self._state, self._record)
        return values

    def _batch(self, rollout: Rollout) -> GroupBatch:
        batch = group_batch(
            rollout.groups,
            aggregation=self._config.grpo.aggregation,
            scale_by_std=self._config.grpo.scale_by_std,
            limit=self._config.limits.response,
        )
        if self._config.rollout.backend == "jax":
            return batch
        logp_BGR = sampler_logprobs(rollout.groups, batch.response_BGR.shape[-1])
        return dataclasses.replace(batch, old_logp_BGR=logp_BGR)

    def _check_age(self, rollout: Rollout, step: int) -> None:
        oldest, limit = min(g.version for g in rollout.groups), self._config.rollout.max_staleness
        if not 0 <= step - oldest <= limit:
            self._save_now()
            raise ServerError(f"a rollout for step {step} was drawn by version {oldest}: rollout.max_staleness={limit}")

    def _validate(self, source: InTime | Ahead, sampler: Sampler) -> dict[str, float]:
        work = functools.partial(validate, self._setting, self._suite, sampler)
        ask = functools.partial(source.between, self._record.step, self.policy, work)
        return persist(ask, sampler, patience=self._config.rollout.patience, save=lambda: None)

    def _write(self, values: dict[str, float], timer: Timer, rollout: Rollout) -> None:
        self._metrics.write(self._record.step, values | timer.seconds)
        self._samples.write(self._record.step, sample_facts(rollout.groups[0]))

    def _save_now(self) -> None:
        """A checkpoint out of turn, unless there is nothing new to keep."""
        if self._record.step > self._checkpoints.newest():
            self._checkpoints.save(self._state, self._record)
            say(f"grpo: saved at step {self._record.step}")


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
