"""SFT: the model learns the expert's responses, one single-turn problem at a time."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from stgrpo.data.examples import Example, batch_indices, length_grouped_indices
from stgrpo.data.padding import pad_rows
from stgrpo.models.shapes import ModelShape
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
)
from stgrpo.stages.console import Progress, say
from stgrpo.stages.policies import check_base
from stgrpo.stages.start import starting_params, starting_shape
from stgrpo.training.checkpointing import Checkpoints, Record, host_scalars, newest_record
from stgrpo.training.grpo import GroupBatch, loss_weights
from stgrpo.training.optimiser import learning_rate, make_optimiser
from stgrpo.training.step import Steps, TrainState, build_steps
from stgrpo.workdir import LineLog, WorkDir


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


def sft_program(config: ConfigDict, shape: ModelShape, mesh: Mesh, *, updates: int) -> Steps:
    """The jitted functions of SFT."""
    return build_steps(
        shape,
        mesh,
        make_optimiser(optimiser_settings(config.sft, updates)),
        micro_batches=config.sft.micro_batches,
        dtype=jnp.dtype(config.model.dtype),
        remat=config.model.remat,
        lora=lora_settings(config, "sft"),
        core=attention_core(config, shape, mesh),
    )


def run_sft(config: ConfigDict, workdir: WorkDir) -> None:
    """Trains from random, given or resumed parameters; writes checkpoints/sft and metrics."""
    setting = open_setting(config, workdir)
    if not config.sft.row_tokens:
        check_batch(setting.mesh, **{"sft.batch": config.sft.batch // config.sft.micro_batches})
    examples = load_examples(setting, "train")
    total = sft_steps(config, len(examples))
    checkpoints = Checkpoints(workdir.checkpoints("sft"), keep=config.sft.keep)
    if checkpoints.newest() >= total:
        say(f"sft: complete at step {total}, skipped")
        return
    if checkpoints.newest():
        shape = newest_record(checkpoints.folder).shape
    else:
        shape = starting_shape(config, setting.tokenizer.vocab_size)
    steps = sft_program(config, shape, setting.mesh, updates=total)
    with jax.set_mesh(setting.mesh):
        state, record = _start(setting, steps, shape, checkpoints)
        say(
            f"sft: {len(examples)} examples, {total} updates of {config.sft.batch}, "
            f"{shape.parameter_count():,} parameters, attention by {steps.model.core.name}"
        )
        schedule = learning_rate(optimiser_settings(config.sft, total))
        _train(setting, steps, checkpoints, examples, (state, record), schedule, total)
    checkpoints.close()


def _start(setting: Setting, steps: Steps, shape: ModelShape, checkpoints: Checkpoints) -> tuple[TrainState, Record]:
    config, restored = setting.config, checkpoints.restore(steps.abstract)
    if restored is not None and restored[1].lora is None:
        say(f"sft: resumed at step {restored[1].step}")
        return restored
    given = starting_params(config, steps.model, setting.tokenizer)
    if restored is not None:
        (state, record), (base, identity) = restored, given
        check_base(f"{checkpoints.folder}/{record.step}", record, identity)
        say(f"sft: resumed at step {record.step}")
        return dataclasses.replace(state, base=base), record
    if given is None:
        return steps.init(jax.random.key(config.seed)), new_record(setting, "sft", shape)
    say(f"sft: starts from {config.init_from or config.model.path}")
    return steps.start(given[0]), new_record(setting, "sft", shape, base=given[1])


def _train(
    setting: Setting,
    steps: Steps,
    checkpoints: Checkpoints,
    examples: list[Example],
    start: tuple[TrainState, Record],
    schedule: optax.Schedule,
    total: int,
) -> None:
    config, (state, record) = setting.config, start
    metrics, bar = LineLog(setting.workdir.metrics, "sft", record.step), Progress("sft", total, record.step)
    lay_out = Layouts("sft", config, setting.mesh)
    lengths = np.array([len(e.prompt_ids) for e in examples])
    for step in range(record.step, total):
        timer = Timer()
        with timer.part("update"):
            if config.sft.group_by_length:
                rows = length_grouped_indices(lengths, config.sft.batch, step, config.seed)
            else:
                rows = batch_indices(len(examples), config.sft.batch, step, config.seed)
            batch = lay_out(sft_batch([examples[i] for i in rows], config.sft.prompt_weight))
            state, values = steps.update(state, batch)
            values = host_scalars(values) | padding([batch])
        metrics.write(step + 1, values | {"learning_rate": float(schedule(step))} | timer.seconds)
        bar.step(step + 1, {"loss": values["response_loss"]})
        record = dataclasses.replace(record, step=step + 1, total=total, position=(step + 1) * config.sft.batch)
        if (step + 1) % config.sft.checkpoint_every == 0 or step + 1 == total:
            checkpoints.save(state, record)
    bar.close()
    metrics.close()
