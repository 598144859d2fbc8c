"""What the training stages share: the mesh, the tokenizer, examples, and where a model starts."""

import dataclasses
from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from stgrpo.data.tokenizer import Tokenizer
from stgrpo.errors import UserError
from stgrpo.files import from_json
from stgrpo.models.attention.choose import choose_core
from stgrpo.models.attention.xla import AttentionCore
from stgrpo.models.lora import Lora
from stgrpo.models.shapes import ModelShape
from stgrpo.models.sharding import make_mesh
from stgrpo.processes.exchange import meet
from stgrpo.sampling.base import mix_seed
from stgrpo.training.checkpointing import CheckpointMetadata
from stgrpo.training.optimiser import OptimiserSettings, learning_rate
from stgrpo.workdir import WorkDir


@dataclasses.dataclass(frozen=True)
class RunContext:
    """What a training stage runs in."""

    config: ConfigDict
    workdir: WorkDir
    tokenizer: Tokenizer
    mesh: Mesh

    @property
    def dtype(self) -> jnp.dtype:
        """Of the computation."""
        return jnp.dtype(self.config.model.dtype)


def open_context(config: ConfigDict, workdir: WorkDir) -> RunContext:
    """The tokenizer of the work directory and a mesh over all devices.

    Raises:
        UserError: nothing was collected yet, or the mesh does not fit the devices.
    """
    if not workdir.tokenizer.is_dir():
        raise UserError(f"{workdir.tokenizer} does not exist: run `stgrpo collect` with this work directory first")
    mesh = make_mesh(config.mesh.data, config.mesh.fsdp, config.mesh.tensor)
    meet(mesh)
    return RunContext(config, workdir, Tokenizer.load(workdir.tokenizer), mesh)


def optimiser_settings(section: ConfigDict, updates: int) -> OptimiserSettings:
    """The optimiser of a stage that does `updates` updates."""
    return OptimiserSettings(
        learning_rate=section.learning_rate,
        warmup_steps=round(section.warmup * updates),
        total_steps=updates,
        schedule=section.schedule,
        weight_decay=section.weight_decay,
        clip_norm=section.clip_norm,
        name=section.optimiser,
        moment_dtype=section.moment_dtype,
    )


def rate_of_step(section: ConfigDict, total: int, updates: int = 1) -> Callable[[int], float]:
    """The learning rate as a function of the step's number, from 0: that of the last of its updates.

    Args:
        section: the stage's part of the config.
        total: number of steps of the stage.
        updates: number of updates in each step.
    """
    schedule = learning_rate(optimiser_settings(section, total * updates))
    return lambda step: np.asarray(schedule((step + 1) * updates - 1)).item()


def attention_core(config: ConfigDict, shape: ModelShape, mesh: Mesh) -> AttentionCore:
    """The implementation of attention for the devices of a mesh.

    Raises:
        UserError: they cannot do what the config asks for.
    """
    return choose_core(
        config.model.attention,
        device=mesh.devices.flat[0],
        dtype=jnp.dtype(config.model.dtype),
        head_dim=shape.head_dim,
    )


def lora_settings(config: ConfigDict, stage: str) -> Lora | None:
    """The adapters that a stage trains; None where it trains the whole model."""
    c = config.lora
    if not c.rank or stage not in c.stages:
        return None
    seed = mix_seed(config.seed, ("sft", "grpo").index(stage))
    return Lora(c.rank, c.alpha, tuple(c.targets), c.base_dtype, seed, c.layers)


def new_metadata(
    setting: RunContext, stage: str, shape: ModelShape, *, reference: str = "", base: str = ""
) -> CheckpointMetadata:
    """The record of a stage at its start; the loop moves step and position on.

    Args:
        setting: what the stage runs in.
        stage: name of the stage.
        shape: sizes of the model.
        reference: identity of the frozen reference.
        base: identity of what the stage starts from; kept if it trains adapters.
    """
    lora = lora_settings(setting.config, stage)
    return CheckpointMetadata(
        stage=stage,
        step=0,
        total=0,
        shape=shape,
        config=from_json(setting.config.to_json()),
        tokenizer=setting.tokenizer.files(),
        reference=reference,
        lora=lora,
        base=base if lora else "",
    )
