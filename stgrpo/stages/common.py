"""What the training stages share: the mesh, the tokenizer, examples, and where a model starts."""

import dataclasses
import json
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import jax.numpy as jnp
from jax.sharding import Mesh
from ml_collections import ConfigDict

from stgrpo import envs
from stgrpo.data.examples import Example, build_examples
from stgrpo.data.records import read_trajectories
from stgrpo.data.tokenizer import Tokenizer
from stgrpo.envs.base import Environment, instructions_of
from stgrpo.envs.stochastic import FlakyEnvironment
from stgrpo.errors import UserError
from stgrpo.models.attention import AttentionCore
from stgrpo.models.attention_choice import choose_core
from stgrpo.models.lora import Lora
from stgrpo.models.shapes import ModelShape
from stgrpo.models.sharding import make_mesh
from stgrpo.react.prompt import PromptStyle
from stgrpo.rollout.base import mix_seed
from stgrpo.stages.console import say
from stgrpo.training.checkpointing import Record, load_record
from stgrpo.training.grpo import GroupBatch
from stgrpo.training.optimiser import OptimiserSettings
from stgrpo.training.packing import Batch, pack
from stgrpo.workdir import WorkDir


@dataclasses.dataclass(frozen=True)
class Setting:
    """What a training stage runs in."""

    config: ConfigDict
    workdir: WorkDir
    tokenizer: Tokenizer
    mesh: Mesh

    @property
    def dtype(self) -> jnp.dtype:
        return jnp.dtype(self.config.model.dtype)


def open_setting(config: ConfigDict, workdir: WorkDir) -> Setting:
    """The tokenizer of the work directory and a mesh over all devices.

    Raises:
      UserError: nothing was collected yet, or the mesh does not fit the devices.
    """
    if not workdir.tokenizer.is_dir():
        raise UserError(f"{workdir.tokenizer} does not exist: run `stgrpo collect` with this work directory first")
    mesh = make_mesh(config.mesh.data, config.mesh.fsdp, config.mesh.tensor)
    return Setting(config, workdir, Tokenizer.load(workdir.tokenizer), mesh)


def playing_environment(config: ConfigDict) -> Environment:
    """The environment in which episodes are played: on the engine of the config, with its failures."""
    environment = envs.get(config.env.name, engine=config.env.engine)
    return FlakyEnvironment(environment, config.env.failure, config.seed) if config.env.failure else environment


def given_tokenizer(config: ConfigDict) -> Tokenizer | None:
    """The tokenizer that the config names or the model brings; None where one is to be trained on the data."""
    given = config.tokenizer.path or config.init_from or config.model.path
    if given and given == config.init_from:
        return Tokenizer.from_files(load_record(Path(given)).tokenizer)
    return Tokenizer.load(given) if given else None


def prompt_style(config: ConfigDict) -> PromptStyle:
    """How a state becomes a prompt in this run."""
    about = instructions_of(envs.get(config.env.name))
    return PromptStyle(instructions=config.prompt.instructions, history=config.prompt.history, about=about)


def refuse_constraint(config: ConfigDict, stage: str) -> None:
    """Raises a UserError if the answers that a stage learns from would be held to the valid actions."""
    if config.evaluation.constrain_action:
        raise UserError(
            f"evaluation.constrain_action=True is for `stgrpo evaluate` alone: {stage} makes what is learned from, and "
            "a model that is held to the valid actions does not say what it would have said; leave it out"
        )


def load_examples(setting: Setting, split: str) -> list[Example]:
    """All single-turn examples of one split, over all tasks of the config."""
    config, examples = setting.config, []
    for task in config.env.tasks:
        trajectories = read_trajectories(setting.workdir.data(task, split))
        examples += build_examples(
            trajectories,
            setting.tokenizer,
            prompt_style(config),
            max_prompt_len=config.limits.prompt,
            max_response_len=config.limits.response,
        )
    return examples


def check_batch(mesh: Mesh, **sizes: int) -> None:
    """Raises a UserError if a batch cannot be split over the devices."""
    shards = mesh.shape["data"] * mesh.shape["fsdp"]
    for name, size in sizes.items():
        if size % shards:
            fix = f"use {name}={-(-size // shards) * shards} or other mesh sizes"
            raise UserError(f"{name}={size} is not a multiple of the mesh's data × fsdp = {shards}: {fix}")


class Layouts:
    """Lays batches out as a config asks, groups or packed rows, and says which programs that needs compiled."""

    def __init__(self, stage: str, config: ConfigDict, mesh: Mesh):
        section = config[stage]
        self._stage, self._row = stage, section.row_tokens
        self._unit = mesh.shape["data"] * mesh.shape["fsdp"] * section.micro_batches
        self._forms: set[str] = set()

    def __call__(self, batch: GroupBatch) -> Batch:
        """The batch as the update takes it; a form that was not met before is named."""
        laid: Batch = pack(batch, self._row, unit=self._unit) if self._row else batch
        if laid.form not in self._forms:
            self._forms.add(laid.form)
            say(f"{self._stage}: program {len(self._forms)}, {laid.form}")
        return laid


def padding(batches: Iterable[Batch]) -> dict[str, float]:
    """Tokens that the model computes, and the share of them that is none."""
    size, tokens = map(sum, zip(*((b.size, b.tokens) for b in batches), strict=True))
    return {"tokens_processed": size, "padding": 1.0 - tokens / size}


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
    return Lora(c.rank, c.alpha, tuple(c.targets), c.base_dtype, seed)


class Timer:
    """Adds up the wall time of named parts of a step, in seconds."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds[f"seconds_{name}"] = self.seconds.get(f"seconds_{name}", 0.0) + time.perf_counter() - start


def new_record(setting: Setting, stage: str, shape: ModelShape, *, reference: str = "", base: str = "") -> Record:
    """The record of a stage at its start; the loop moves step and position on.

    Args:
      setting: of the stage.
      stage: its name.
      shape: of the model.
      reference: identity of the frozen reference.
      base: identity of what the stage starts from; kept if it trains adapters.
    """
    lora = lora_settings(setting.config, stage)
    return Record(
        stage=stage,
        step=0,
        total=0,
        shape=shape,
        config=json.loads(setting.config.to_json()),
        tokenizer=setting.tokenizer.files(),
        reference=reference,
        lora=lora,
        base=base if lora else "",
    )
