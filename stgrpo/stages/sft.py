"""SFT: the model learns the expert's responses, one single-turn problem at a time."""

import dataclasses
import logging

import jax
import numpy as np
from ml_collections import ConfigDict

from stgrpo.console import ProgramLog, ProgressBar, say
from stgrpo.data.examples import Example, batch_indices, length_grouped_indices
from stgrpo.data.records import read_trajectories
from stgrpo.errors import UserError
from stgrpo.models.random import random_key
from stgrpo.models.shapes import ModelShape
from stgrpo.monitors.machine import open_meter
from stgrpo.monitors.open import open_monitor
from stgrpo.plan.fits import warn_of_memory
from stgrpo.plan.sizes import size_text
from stgrpo.processes import preemption
from stgrpo.rl.programs import train_program
from stgrpo.training.batch import GroupBatch
from stgrpo.training.batch_packer import BatchPacker, padding
from stgrpo.training.checkpointing import CheckpointMetadata, Checkpoints, newest_metadata
from stgrpo.training.context import (
    RunContext,
    attention_core,
    new_metadata,
    open_context,
    rate_of_step,
)
from stgrpo.training.divergence import NotFinite, diverged, finite_metrics
from stgrpo.training.frozen_states import FrozenStates, available_memory
from stgrpo.training.inputs import check_same_data, examples_identity, load_examples
from stgrpo.training.micro_batches import check_batch, said_of_parts
from stgrpo.training.policies import check_base
from stgrpo.training.profile import open_profile
from stgrpo.training.sft import SftShapes, sft_batch, sft_shapes, sft_steps, shared_prefix
from stgrpo.training.start import starting_params, starting_shape
from stgrpo.training.step import TrainProgram, TrainState
from stgrpo.training.step_folders import has_steps
from stgrpo.training.timer import Timer
from stgrpo.workdir import WorkDir

log = logging.getLogger(__name__)


def run_sft(config: ConfigDict, workdir: WorkDir) -> None:
    """Trains from random, given or resumed parameters; writes checkpoints/sft and metrics."""
    setting = open_context(config, workdir)
    check_batch(config, "sft", setting.mesh)
    with Checkpoints(workdir.checkpoints("sft"), keep=config.sft.keep) as checkpoints:
        _run(setting, checkpoints)


def _run(setting: RunContext, checkpoints: Checkpoints) -> None:
    config = setting.config
    examples = load_examples(setting, "train", trajectories=config.sft.trajectories)
    _say_share(config, setting.workdir)
    total, identity = sft_steps(config, len(examples)), examples_identity(examples)
    if has_steps(checkpoints.folder):
        record = newest_metadata(checkpoints.folder)
        check_same_data(checkpoints.folder, record, identity)
        if record.step >= total:
            say(f"sft: complete at step {total}, skipped")
            return
        shape = record.shape
    else:
        shape = starting_shape(config, setting.tokenizer.vocab_size)
    prefix = shared_prefix(config, examples, attention_core(config, shape, setting.mesh))
    steps = train_program(config, "sft", shape, setting.mesh, updates=total, prefix=prefix)
    warn_of_memory(config, "sft", setting.mesh, steps)
    with jax.set_mesh(setting.mesh):
        state, record = _start(setting, steps, shape, checkpoints)
        record = dataclasses.replace(record, total=total, data=identity)
        if not total:
            say("sft: no updates, the policy stays as it starts")
            checkpoints.save(state, record)
            return
        say(
            f"sft: {len(examples)} examples, {total} updates of {config.sft.batch}, "
            f"{shape.parameter_count():,} parameters, attention by {steps.model.core.name}"
        )
        if config.sft.share_prefix:
            say(f"sft: {steps.skip} tokens that all prompts begin with are taken once an update")
        for line in said_of_parts(config, "sft", setting.mesh):
            say(f"sft: {line}")
        _train(setting, steps, checkpoints, examples, (state, record))


def _say_share(config: ConfigDict, workdir: WorkDir) -> None:
    """Says of which trajectories the examples are, where not of all; warns where none is left to GRPO alone."""
    first = config.sft.trajectories
    for task in config.env.tasks if first else ():
        count = len(read_trajectories(workdir.data(task, "train")))
        say(f"sft: the first {min(first, count)} of {count} trajectories of {task}")
        if count <= first:
            log.warning(
                "sft.trajectories=%d leaves no trajectory of %s to GRPO alone: it learns from the same", first, task
            )


def _start(
    setting: RunContext, steps: TrainProgram, shape: ModelShape, checkpoints: Checkpoints
) -> tuple[TrainState, CheckpointMetadata]:
    config, restored = setting.config, checkpoints.restore(steps.abstract)
    if restored is not None and restored[1].lora is None:
        say(f"sft: resumed at step {restored[1].step}")
        return restored
    given = starting_params(config, steps.model, setting.tokenizer)
    if given is None:
        if restored is not None:
            raise UserError(f"{checkpoints.folder} holds adapters: set model.path or init_from to their base")
        return steps.init(random_key(config.seed)), new_metadata(setting, "sft", shape)
    if restored is not None:
        (state, record), (base, identity) = restored, given
        check_base(f"{checkpoints.folder}/{record.step}", record, identity)
        say(f"sft: resumed at step {record.step}")
        return dataclasses.replace(state, base=base), record
    say(f"sft: starts from {config.init_from or config.model.path}")
    return steps.init_from(given[0]), new_metadata(setting, "sft", shape, base=given[1])


def _train(
    setting: RunContext,
    steps: TrainProgram,
    checkpoints: Checkpoints,
    examples: list[Example],
    start: tuple[TrainState, CheckpointMetadata],
) -> None:
    """The loop over updates, from where the record says to the last of its total."""
    config, (state, record) = setting.config, start
    total = record.total
    programs = ProgramLog("sft", setting.workdir.programs)
    lay_out = BatchPacker("sft", config, setting.mesh, programs)
    lengths, shapes = np.array([len(e.prompt_ids) for e in examples]), sft_shapes(examples, steps.skip)
    kept = (
        _frozen_states(setting, steps, start, examples, (lengths, shapes), programs) if config.sft.keep_frozen else None
    )
    rate, bar = rate_of_step(config.sft, total), ProgressBar("sft", total, record.step)
    meter = open_meter(setting, "sft", record.shape)
    with (
        preemption.saved_first(),
        open_monitor(config, setting.workdir, "sft", record.step) as monitor,
        open_profile(config, setting.workdir, "sft", range(record.step + 1, total + 1)) as profile,
    ):
        for step in range(record.step, total):
            with profile.step(step + 1):
                timer = Timer()
                with timer.part("batch"):
                    numbers = _rows(config, lengths, step)
                    chosen = [examples[i] for i in numbers]
                    groups = sft_batch(chosen, config.sft.prompt_weight, skip=steps.skip, shapes=shapes)
                    groups = kept.added_to(groups, numbers) if kept else groups
                    batch = lay_out(groups)
                with timer.part("update"):
                    state, values = steps.update(state, batch)
                    try:
                        values = finite_metrics(values) | padding([batch]) | {"programs": programs.count}
                    except NotFinite as error:
                        facts = {"config": config, "examples": chosen, "checkpoints": checkpoints}
                        raise diverged(error, step + 1, **facts) from error
                machine = meter.updates([groups], timer.seconds["seconds_update"], prefix=steps.skip) | meter.memory()
                monitor.write(step + 1, values | {"learning_rate": rate(step)} | timer.seconds | machine)
                bar.step(step + 1, {"loss": values["response_loss"]})
                record = dataclasses.replace(record, step=step + 1, position=(step + 1) * config.sft.batch)
                leaving = preemption.leaving()
                if (step + 1) % config.sft.checkpoint_every == 0 or step + 1 == total or leaving:
                    with jax.profiler.TraceAnnotation("save"):
                        monitor.sync()
                        checkpoints.start_save(state, record)
                if leaving:
                    checkpoints.wait()
                    say(f"sft: saved at step {step + 1} of {total}")
                    break
    bar.close()


def _frozen_states(
    setting: RunContext,
    steps: TrainProgram,
    start: tuple[TrainState, CheckpointMetadata],
    examples: list[Example],
    laid: tuple[np.ndarray, SftShapes],
    programs: ProgramLog,
) -> FrozenStates:
    """Of the examples that the remaining updates take, which is a pass through the frozen layers for each.

    Args:
        setting: of the stage.
        steps: its programs.
        start: its state, and how far it is.
        examples: all of them.
        laid: lengths of their prompts, and the shapes of their batches.
        programs: those that are compiled are named there.

    Raises:
        UserError: they take more memory than this host has free.
    """
    config, (state, record), (lengths, shapes) = setting.config, start, laid
    kept = FrozenStates(examples, shapes=shapes, skip=steps.skip, batch=config.sft.batch)
    wanted = {int(i) for step in range(record.step, record.total) for i in _rows(config, lengths, step)}
    size, free = kept.size(wanted, record.shape.width, setting.dtype.itemsize), available_memory()
    say(f"sft: what frozen layers give for {len(wanted)} examples is kept, {size_text(size)} in the host's memory")
    if free and size > free:
        fix = "use fewer examples (sft.trajectories) or, in another --workdir, sft.keep_frozen=False"
        raise UserError(f"sft.keep_frozen=True needs {size_text(size)}, this host has {size_text(free)} free: {fix}")

    def below(batch: GroupBatch) -> jax.Array:
        programs.met(f"frozen layers of {batch.shape_text}")
        return steps.below(state, batch)

    bar = ProgressBar("sft frozen layers", len(wanted))
    for done in kept.compute(wanted, below):
        bar.step(done, {})
    bar.close()
    return kept


def _rows(config: ConfigDict, lengths: np.ndarray, step: int) -> np.ndarray:
    """The examples of an update, by number."""
    if config.sft.group_by_length:
        return length_grouped_indices(lengths, config.sft.batch, step, config.seed)
    return batch_indices(len(lengths), config.sft.batch, step, config.seed)
