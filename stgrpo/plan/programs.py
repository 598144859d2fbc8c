"""What the training stages run on given devices: their programs before they are compiled, and what compiling tells."""

import dataclasses
import time
from collections.abc import Mapping

import jax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from stgrpo.models.shapes import ModelShape
from stgrpo.models.sharding import make_mesh
from stgrpo.models.transformer import Transformer
from stgrpo.plan.batches import abstract_batch
from stgrpo.plan.compiling import check_fits, compile_for, memory_of, peak_bytes
from stgrpo.plan.sizes import size_text, state_parts
from stgrpo.plan.topologies import Target
from stgrpo.rl.programs import train_program
from stgrpo.training.micro_batches import check_batch, micro_batch_count, most_rows, row_shards
from stgrpo.training.packing import Batch
from stgrpo.training.start import starting_shape
from stgrpo.training.step import TrainProgram


@dataclasses.dataclass(frozen=True)
class StagePrograms:
    """A training stage on the devices of a target; memory in bytes a device.

    Attributes:
        stage: "sft" or "grpo".
        config: the experiment.
        target: the devices.
        mesh: that the parameters are sharded over.
        program: the jitted functions.
        batch: the largest that can occur.
        parts: of the state, by name; see `state_parts`.
    """

    stage: str
    config: ConfigDict
    target: Target
    mesh: Mesh
    program: TrainProgram
    batch: Batch
    parts: Mapping[str, int]

    @property
    def shape(self) -> ModelShape:
        """Sizes of the model."""
        return self.program.model.shape

    @property
    def policy(self) -> Transformer:
        """The model as shapes with shardings, its adapters in place."""
        return self.program.abstract.policy

    @property
    def micro_batches(self) -> int:
        """Parts that the batch is taken in."""
        return micro_batch_count(self.config, self.stage, self.mesh)

    @property
    def state(self) -> int:
        """What stays allocated between updates: all but the gradient."""
        return sum(size for name, size in self.parts.items() if name != "gradient")

    @property
    def reference(self) -> int:
        """The frozen reference of a whole model."""
        return self.parts.get("frozen reference", 0)

    @property
    def beside_critic(self) -> int:
        """What lies there beside the critic's state while that is updated."""
        return self.state - sum(self.parts.get(name, 0) for name in ("critic", "critic's optimiser"))

    @property
    def beside_reference(self) -> int:
        """What lies there beside the reference while that runs: neither it nor the base under adapters."""
        return self.state - self.reference - self.parts.get("frozen base", 0)

    def fix(self) -> str:
        """What makes the stage smaller, as an error advises: the state where it is that, else the activations."""
        rows = -(-most_rows(self.config, self.stage) // row_shards(self.mesh))
        memory = self.target.memory
        if memory and self.state + self.parts["gradient"] > 0.9 * memory:
            return (
                f"the state alone is {size_text(self.state)}: raise mesh.fsdp or the number of devices, or use "
                f"{self.stage}.moment_dtype='bfloat16', {self.stage}.optimiser='adafactor' or lora.rank=16"
            )
        if self.micro_batches < rows:
            return (
                f"raise {self.stage}.micro_batches to {rows}, which leaves a row a device at one time, or mesh.tensor, "
                "or lower limits.prompt"
            )
        return f"raise mesh.fsdp or mesh.tensor, or lower {self.stage}.row_tokens or limits.prompt"


def stage_programs(config: ConfigDict, stage: str, there: Target) -> StagePrograms:
    """What a stage runs; compiles nothing.

    Raises:
        UserError: the mesh does not fit the devices, or the batch the mesh.
    """
    mesh = make_mesh(config.mesh.data, config.mesh.fsdp, config.mesh.tensor, there.devices)
    check_batch(config, stage, mesh)
    shape = starting_shape(config)
    program = train_program(config, stage, shape, mesh, updates=100)  # a schedule costs nothing
    parts = state_parts(program, reference=stage == "grpo")
    batch = abstract_batch(config, mesh, stage, width=shape.width)
    return StagePrograms(stage, config, there, mesh, program, batch, parts)


@dataclasses.dataclass(frozen=True)
class Compiled:
    """What compiling a program tells of it, in bytes a device.

    Attributes:
        programs: of the stage.
        peak: the compiler's own figure.
        arguments: what the program is given.
        temporary: beside that.
        seconds: that compiling took.
    """

    programs: StagePrograms
    peak: int
    arguments: int
    temporary: int
    seconds: float


def compile_update(programs: StagePrograms) -> Compiled:
    """Compiles the update of a stage; the frozen reference of a whole model is no argument of it.

    Raises:
        UserError: it does not fit the memory.
    """
    steps = programs.program
    with jax.set_mesh(programs.mesh):
        lowered = steps.update.lower(steps.abstract, programs.batch)
    what = {"sft": "the update of sft", "grpo": "the update"}[programs.stage]
    return _compiled(programs, lowered, what, beside=programs.reference)


def compile_reference(programs: StagePrograms) -> Compiled:
    """Compiles the log-probabilities of the reference, which is the model; the rest of the state is no argument of it.

    Raises:
        UserError: it does not fit the memory.
    """
    with jax.set_mesh(programs.mesh):
        lowered = programs.program.logprobs.lower(programs.program.model, programs.batch)
    return _compiled(programs, lowered, "the log-probabilities of the reference", beside=programs.beside_reference)


def compile_critic(programs: StagePrograms) -> dict[str, Compiled]:
    """Compiles the update of the critic, where there is one; the rest of the state is no argument of it.

    Raises:
        UserError: it does not fit the memory.
    """
    critic, state = programs.program.critic, programs.program.abstract.critic
    if critic is None or state is None:
        return {}
    with jax.set_mesh(programs.mesh):
        lowered = critic.update.lower(state, programs.batch)
    return {"critic": _compiled(programs, lowered, "the update of the critic", beside=programs.beside_critic)}


def _compiled(programs: StagePrograms, lowered: jax.stages.Lowered, what: str, *, beside: int) -> Compiled:
    """Compiled, and held to the memory of a device with what lies there beside it."""
    there, start = programs.target, time.perf_counter()
    with jax.set_mesh(programs.mesh):
        compiled = compile_for(lowered, there, what=what, fix=programs.fix())
    memory, peak = memory_of(compiled), peak_bytes(compiled, programs.mesh)
    check_fits(what, peak + beside, there, programs.fix())
    seconds = time.perf_counter() - start
    return Compiled(programs, peak, memory.argument_size_in_bytes, memory.temp_size_in_bytes, seconds)
