"""GRPO: the model draws groups of responses to single-turn problems and learns from their rewards (Eqs. 4-6)."""

import dataclasses
import functools
from pathlib import Path

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from stgrpo.config.checks import refuse_constraint
from stgrpo.config.training import plays_episodes
from stgrpo.console import ProgramLog, ProgressBar, say
from stgrpo.data.examples import Example
from stgrpo.errors import ServerError, UserError
from stgrpo.evaluation.metrics import summarise
from stgrpo.evaluation.suites import Suite, play_suite, suite_size
from stgrpo.models.transformer import Transformer
from stgrpo.monitors.machine import open_meter
from stgrpo.monitors.open import open_monitor
from stgrpo.plan.fits import warn_of_memory
from stgrpo.processes import preemption
from stgrpo.rl.critic import has_critic, rollouts_alone
from stgrpo.rl.group_batch import Group, group_batch, rollout_metrics
from stgrpo.rl.programs import train_program
from stgrpo.rl.rollouts import Drawing, PipelinedRollouts, Publishing, Rollout, RolloutSchedule, SyncRollouts
from stgrpo.rl.streams import training_stream
from stgrpo.rl.update import grpo_steps, minibatches, update, updates_a_rollout
from stgrpo.sampling.base import Sampler
from stgrpo.sampling.open import open_sampler, retry_on_server_error
from stgrpo.training.batch import GroupBatch
from stgrpo.training.batch_packer import BatchPacker
from stgrpo.training.checkpointing import CheckpointMetadata, Checkpoints, load_metadata, newest_metadata
from stgrpo.training.context import (
    RunContext,
    new_metadata,
    open_context,
    rate_of_step,
)
from stgrpo.training.divergence import NotFinite, diverged
from stgrpo.training.inputs import check_same_data, prompt_style
from stgrpo.training.micro_batches import check_batch, said_of_parts
from stgrpo.training.packing import Batch
from stgrpo.training.policies import read_merged
from stgrpo.training.profile import open_profile
from stgrpo.training.step import TrainProgram, TrainState
from stgrpo.training.step_folders import has_steps, whole_steps
from stgrpo.training.timer import Timer
from stgrpo.workdir import WorkDir


def run_grpo(config: ConfigDict, workdir: WorkDir) -> None:
    """Trains from the SFT policy, which stays frozen as the reference; writes checkpoints/grpo, metrics and samples."""
    refuse_constraint(config, "grpo")
    setting, c = open_context(config, workdir), config.grpo
    check_batch(config, "grpo", setting.mesh)
    with Checkpoints(workdir.checkpoints("grpo"), keep=c.keep, keep_best=c.keep_best) as checkpoints:
        _run(setting, checkpoints)


def _run(setting: RunContext, checkpoints: Checkpoints) -> None:
    config, workdir = setting.config, setting.workdir
    stream = training_stream(setting)
    total = grpo_steps(config, stream.size)
    if not total:
        say("grpo: no rollouts, the policy stays that of SFT")
        return
    if checkpoints.newest():
        record = newest_metadata(checkpoints.folder)
        check_same_data(checkpoints.folder, record, stream.identity)
        if has_steps(workdir.checkpoints("sft")):  # all else needs them, a finished run does not
            check_reference(record, newest_metadata(workdir.checkpoints("sft")).identity)
        if record.step >= total:
            say(f"grpo: complete at step {total}, skipped")
            return
    folder = reference_step(workdir)
    updates = total * updates_a_rollout(config)
    steps = train_program(config, "grpo", load_metadata(folder).shape, setting.mesh, updates=updates)
    warn_of_memory(config, "grpo", setting.mesh, steps)
    with jax.set_mesh(setting.mesh):
        given = read_merged(folder, steps.model)
        state, record = _start(setting, steps, given, checkpoints)
        record = dataclasses.replace(record, data=stream.identity)
        training = _Training(setting, steps, checkpoints, (None if record.lora else given[0], state, record))
        place = workdir.path / "rollout"
        with (
            open_sampler(
                config,
                training.policy,
                setting.tokenizer,
                style=prompt_style(config),
                mesh=setting.mesh,
                place=place,
                largest=largest_calls(config),
                log=training.programs.met,
            ) as sampler,
            preemption.saved_first(),
        ):
            training.run(stream.open(sampler), sampler, total)


def reference_step(workdir: WorkDir) -> Path:
    """The step folder of the frozen reference: the end of SFT in this work directory.

    Raises:
        UserError: SFT has not run, or not to its end.
    """
    step = next(whole_steps(workdir.checkpoints("sft")))
    record = load_metadata(step)
    if record.step < record.total:
        raise UserError(
            f"sft stopped at step {record.step} of {record.total}: run `stgrpo sft` with this work directory again"
        )
    return step


def check_reference(record: CheckpointMetadata, identity: str) -> None:
    """Raises a UserError if a checkpoint was trained against another reference than the one at hand."""
    if record.reference != identity:
        raise UserError(
            f"checkpoints/grpo/{record.step} was trained against reference {record.reference}, "
            f"checkpoints/sft now holds {identity}: use another --workdir"
        )


def _start(
    setting: RunContext, steps: TrainProgram, given: tuple[Transformer, str], checkpoints: Checkpoints
) -> tuple[TrainState, CheckpointMetadata]:
    reference, identity = given
    restored = checkpoints.restore(steps.abstract)
    if restored is None:
        record = new_metadata(setting, "grpo", reference.shape, reference=identity, base=identity)
        return steps.init_from(reference if record.lora else jax.tree.map(jnp.copy, reference)), record
    state, record = restored
    check_reference(record, identity)
    say(f"grpo: resumed at step {record.step}")
    return dataclasses.replace(state, base=reference if record.lora else None), record


class _Training:
    """The loop over rollouts, from where the record says."""

    def __init__(
        self,
        setting: RunContext,
        steps: TrainProgram,
        checkpoints: Checkpoints,
        start: tuple[Transformer | None, TrainState, CheckpointMetadata],
    ):
        self._setting, self._config, self._steps, self._checkpoints = setting, setting.config, steps, checkpoints
        self._reference, self._state, self._record = start
        self._monitor = open_monitor(setting.config, setting.workdir, "grpo", self._record.step)
        self.programs = ProgramLog("grpo", setting.workdir.programs)
        self._lay_out = BatchPacker("grpo", setting.config, setting.mesh, self.programs)
        self._suite = validation_suite(setting.config)
        self._meter = open_meter(setting, "grpo", self._record.shape)

    @property
    def policy(self) -> Transformer:
        """As it is now."""
        return self._state.policy

    def run(self, draws: Drawing, sampler: Sampler, total: int) -> None:
        """Trains to the end."""
        c, start = self._config.grpo, self._record.step
        shown = f"attention by {self._steps.model.core.name}"
        what = "layouts x {} episodes" if plays_episodes(self._config) else "prompts x {} responses"
        say(f"grpo: {total} rollouts of {c.prompts} {what.format(c.group_size)}, {shown}")
        for line in said_of_parts(self._config, "grpo", self._setting.mesh):
            say(f"grpo: {line}")
        bar = ProgressBar("grpo", total, start)
        schedule = RolloutSchedule(start, total, c.checkpoint_every, self._config.rollout.max_staleness)
        source = self._source(draws, sampler, schedule)
        profile = open_profile(self._config, self._setting.workdir, "grpo", range(start + 1, total + 1))
        try:
            with profile:
                for step in range(start, total):
                    with profile.step(step + 1):
                        values = self._step(step, source, sampler, total)
                    bar.step(step + 1, {k: values[k] for k in ("reward", "kl", "validation_sr") if k in values})
                    if preemption.leaving():
                        self._save_now()
                        break
        finally:
            source.close()
            self._monitor.close()
        bar.close()

    def _source(self, draws: Drawing, sampler: Sampler, schedule: RolloutSchedule) -> SyncRollouts | PipelinedRollouts:
        if not schedule.staleness:
            return SyncRollouts(draws, sampler)
        if not isinstance(sampler, Publishing):
            raise UserError(
                "rollout.max_staleness needs servers to draw meanwhile: set rollout.backend='vllm', or it to 0"
            )
        return PipelinedRollouts(draws, sampler, schedule, self._record.position)

    def _step(
        self, step: int, source: SyncRollouts | PipelinedRollouts, sampler: Sampler, total: int
    ) -> dict[str, float]:
        timer, c = Timer(), self._config.grpo
        ask = functools.partial(source.next, step, self.policy, self._record.position)
        wait_s = self._config.rollout.server_wait_s
        with timer.part("wait"):
            rollout = retry_on_server_error(ask, sampler, server_wait_s=wait_s, save=self._save_now)
        self._check_age(rollout, step)
        with timer.part("batch"):
            batch = self._batch(rollout)
            groups = list(minibatches(self._config, batch))
            parts = [self._lay_out(part) for part in groups]
        values = self._update(step, rollout, parts, timer)
        values |= rollout_metrics(rollout.drawn, batch) | rollout.figures | rollout.seconds
        values |= self._machine(rollout, groups, timer)
        values["staleness"] = step - min(g.version for g in rollout.groups)
        done = {"step": step + 1, "position": rollout.position, "total": total, "validation_sr": None}
        self._record = dataclasses.replace(self._record, **done)
        last = step + 1 == total
        try:
            if c.validate_every and ((step + 1) % c.validate_every == 0 or last):
                with timer.part("validation"):
                    values |= self._validate(source, sampler)
                self._record = dataclasses.replace(self._record, validation_sr=values.get("validation_sr"))
        except (UserError, ServerError):
            self._write(values, timer, rollout)
            self._save_now()
            raise
        self._write(values, timer, rollout)
        if (step + 1) % c.checkpoint_every == 0 or last:
            with jax.profiler.TraceAnnotation("save"):
                self._monitor.sync()
                self._checkpoints.start_save(self._state, self._record)
        return values

    def _update(self, step: int, rollout: Rollout, parts: list[Batch], timer: Timer) -> dict[str, float]:
        try:
            self._state, values = update(self._config, self._steps, self._state, self._reference, parts, timer)
        except NotFinite as error:
            groups = rollout.groups[error.update % len(parts) :: len(parts)]
            facts = {"examples": [g.example for g in groups], "checkpoints": self._checkpoints}
            raise diverged(error, step + 1, config=self._config, **facts) from error
        return values

    def _machine(self, rollout: Rollout, groups: list[GroupBatch], timer: Timer) -> dict[str, float]:
        """What the devices did; of servers nobody knows which those are."""
        is_alone = self._record.step < rollouts_alone(self._config)  # the critic is, and the policy had no update
        seconds, passes = timer.seconds["seconds_update"], self._config.grpo.passes
        found = {} if is_alone else self._meter.updates(groups, seconds, passes=passes)
        if self._config.rollout.backend == "jax":
            drawn = sum(len(tokens) for group in rollout.drawn for tokens in group.tokens)
            found |= self._meter.sampling(drawn, rollout.seconds["seconds_sample"])
        return found | self._meter.memory()

    def _batch(self, rollout: Rollout) -> GroupBatch:
        return group_batch(
            rollout.groups,
            aggregation=self._config.grpo.aggregation,
            baseline=self._config.grpo.baseline,
            scale_by_std=self._config.grpo.scale_by_std,
            limit=self._config.limits.response,
        )

    def _check_age(self, rollout: Rollout, step: int) -> None:
        oldest, limit = min(g.version for g in rollout.groups), self._config.rollout.max_staleness
        if not 0 <= step - oldest <= limit:
            self._save_now()
            raise ServerError(f"a rollout for step {step} was drawn by version {oldest}: rollout.max_staleness={limit}")

    def _validate(self, source: SyncRollouts | PipelinedRollouts, sampler: Sampler) -> dict[str, float]:
        work = functools.partial(validate, self._setting, self._suite, sampler)
        ask = functools.partial(source.between, self._record.step, self.policy, work)
        return retry_on_server_error(ask, sampler, server_wait_s=self._config.rollout.server_wait_s, save=lambda: None)

    def _write(self, values: dict[str, float], timer: Timer, rollout: Rollout) -> None:
        step, alone, each = self._record.step, rollouts_alone(self._config), updates_a_rollout(self._config)
        rate = rate_of_step(self._config.grpo, self._record.total - alone, each)
        self._monitor.table(step, "samples", sample_facts(rollout.groups[0]))
        rates = {"learning_rate": rate(step - 1 - alone) if step > alone else 0.0}
        if has_critic(self._config):
            critic_rate = rate_of_step(self._config.critic, self._record.total, each)
            rates["critic_learning_rate"] = critic_rate(step - 1)
        facts = rates | {"programs": self.programs.count}
        self._monitor.write(step, values | facts | timer.seconds)

    def _save_now(self) -> None:
        """A checkpoint out of turn, unless there is nothing new to keep; returns when it is on disk."""
        if self._record.step > self._checkpoints.newest():
            self._monitor.sync()
            self._checkpoints.save(self._state, self._record)
            say(f"grpo: saved at step {self._record.step}")


def validation_suite(config: ConfigDict) -> Suite:
    """The layouts watched during training: never trained on, never tested on."""
    return Suite("validation", config.env.family, "validation", config.grpo.validation_layouts, tuple(config.env.tasks))


def largest_calls(config: ConfigDict) -> dict[int, int]:
    """Prompts of a rollout and of a validation, by their group sizes; every turn of an episode is asked by itself."""
    single, c = suite_size(config, validation_suite(config)), config.grpo
    if plays_episodes(config):
        return {1: max(single, c.prompts * c.group_size)}
    return {1: single, c.group_size: c.prompts}


def validate(setting: RunContext, suite: Suite, sampler: Sampler) -> dict[str, float]:
    """Success rate and mean steps of whole episodes in the validation layouts."""
    summary = summarise(play_suite(setting.config, suite, sampler, setting.tokenizer))
    found = {"validation_sr": summary["sr"], "validation_asat": summary["asat"]}
    return {name: value for name, value in found.items() if value is not None}


def sample_facts(group: Group) -> dict[str, object]:
    """One group for people to read."""
    return {
        "task": group.example.task,
        "layout": group.example.layout,
        "index": group.example.index,
        **({"expert": group.example.step.action} if isinstance(group.example, Example) else {}),
        "responses": list(group.texts),
        "rewards": [r.total for r in group.rewards],
        **({"advantages": list(group.advantages)} if group.advantages is not None else {}),
    }
