"""Plan: compiles the GRPO update and the sampler for a topology, without running them or having it: memory and work."""

import dataclasses
import time
from collections.abc import Mapping

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jax.typing import DTypeLike
from ml_collections import ConfigDict

from stgrpo.data.padding import bucket
from stgrpo.models.shapes import ModelShape
from stgrpo.models.sharding import batch_sharding, make_mesh
from stgrpo.models.transformer import Transformer
from stgrpo.plan.compiling import compile_for, memory_of, peak_bytes
from stgrpo.plan.sampling import sampling_memory
from stgrpo.plan.sizes import size_text, state_parts
from stgrpo.plan.topologies import Target, target
from stgrpo.rl.programs import train_program
from stgrpo.rl.update import has_several_updates
from stgrpo.training.batch import GroupBatch, LossTerms
from stgrpo.training.context import lora_settings
from stgrpo.training.micro_batches import check_batch, micro_batch_count, row_shards
from stgrpo.training.packing import Batch, PackedBatch, row_count, target_count
from stgrpo.training.start import starting_shape


@dataclasses.dataclass(frozen=True)
class Compiled:
    """What compiling an update tells of it; memory in bytes a device.

    Attributes:
        target: what it was compiled for.
        mesh: devices the parameters are sharded over.
        shape: sizes of the model.
        attention: name of the implementation of attention.
        batch: the largest that can occur.
        parts: of the state, by name; see `state_parts`.
        peak: of the update, the frozen reference of a whole model not included.
        arguments: the state and the batch.
        temporary: beside them.
        seconds: that compiling took.
        policy: the model as shapes with shardings, its adapters in place.
    """

    target: Target
    mesh: Mesh
    shape: ModelShape
    attention: str
    batch: Batch
    parts: Mapping[str, int]
    peak: int
    arguments: int
    temporary: int
    seconds: float
    policy: Transformer


def compile_update(config: ConfigDict, topology: str = "") -> Compiled:
    """Compiles the GRPO update of an experiment; see `plan`."""
    there = target(topology)
    mesh = make_mesh(config.mesh.data, config.mesh.fsdp, config.mesh.tensor, there.devices)
    check_batch(config, "grpo", mesh)
    shape = starting_shape(config)
    steps = train_program(config, "grpo", shape, mesh, updates=100)  # of the schedule, which costs nothing
    batch = abstract_batch(config, mesh)
    start = time.perf_counter()
    with jax.set_mesh(mesh):
        fix = "raise grpo.micro_batches or mesh.fsdp, or lower limits.prompt"
        compiled = compile_for(steps.update.lower(steps.abstract, batch), there, what="the update", fix=fix)
    memory = memory_of(compiled)
    return Compiled(
        target=there,
        mesh=mesh,
        shape=shape,
        attention=steps.model.core.name,
        batch=batch,
        parts=state_parts(steps, reference=True),
        peak=peak_bytes(compiled, mesh),
        arguments=memory.argument_size_in_bytes,
        temporary=memory.temp_size_in_bytes,
        seconds=time.perf_counter() - start,
        policy=steps.abstract.policy,
    )


def plan(config: ConfigDict, topology: str = "") -> str:
    """Lines for a person.

    Args:
        config: the experiment; its limits give the largest batch that can occur.
        topology: of `topologies.target`: "v5e:4x4", "h100:8"; empty for this machine's devices.

    Raises:
        UserError: the topology is unknown, the mesh does not fit it, or the update or the sampler does not fit
            its memory.
    """
    c = compile_update(config, topology)
    start = time.perf_counter()
    sampling = _sampling(config, c)
    seconds = c.seconds + time.perf_counter() - start
    tokens, parameters = c.batch.size, c.shape.parameter_count()
    factor = 4 if lora_settings(config, "grpo") else 6  # the frozen weights need no gradient
    return "\n".join(
        [
            f"topology   {c.target.name}: {c.mesh.size} x {c.mesh.devices.flat[0].device_kind}, "
            f"mesh {dict(c.mesh.shape)}",
            f"model      {parameters:,} parameters, {config.model.dtype}, attention by {c.attention}",
            f"update     {c.batch.shape_text}: {tokens:,} tokens, in {config.grpo.micro_batches} micro-batches",
            f"memory     a device: {size_text(c.peak)} at the peak of the update (arguments {size_text(c.arguments)}, "
            f"temporary {size_text(c.temporary)}), and {size_text(c.parts.get('frozen reference', 0))} for the frozen "
            "reference",
            "state      a device: " + ", ".join(f"{name} {size_text(size)}" for name, size in c.parts.items()),
            f"sampling   {sampling}",
            f"work       {factor * 1e-12 * parameters * tokens:,.4g} TFLOP an update in matrix products "
            f"({factor} x parameters x tokens; attention and recomputation not counted)",
            f"compiling  {seconds:.1f} s",
        ]
    )


def _sampling(config: ConfigDict, c: Compiled) -> str:
    if config.rollout.backend != "jax":
        return f"by rollout.backend={config.rollout.backend!r}, which is not counted here"
    s = sampling_memory(config, c.policy, c.mesh, c.target)
    state = sum(size for name, size in c.parts.items() if name != "gradient")
    return (
        f"a device: {size_text(state + s.peak)} at the peak of a rollout: state without gradient {size_text(state)}, "
        f"weights for decoding {size_text(s.weights)}, keys and values of {s.responses} responses at a time "
        f"{size_text(s.slots)}, temporary {size_text(s.temporary)}"
    )


def abstract_batch(config: ConfigDict, mesh: Mesh) -> Batch:
    """The largest minibatch of a config, every prompt and response as long as its limit, as shapes with shardings."""
    B, G = config.grpo.prompts // config.grpo.minibatches, config.grpo.group_size
    P, R = config.limits.prompt, config.limits.response
    split, several = batch_sharding(mesh), has_several_updates(config)

    def array(*sizes: int, dtype: DTypeLike = jnp.float32) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(sizes, dtype, sharding=split)

    if config.grpo.row_tokens:
        unit = row_shards(mesh) * micro_batch_count(config, "grpo", mesh)
        a_row = max(1, config.grpo.row_tokens // (P + G * R))
        rows = row_count(-(-B // a_row), unit), bucket(P + G * R, smallest=config.grpo.row_tokens)
        targets = rows[0], target_count(a_row * G * R, rows[1])
        terms = LossTerms(
            *(array(*targets),) * 4,
            response_id=array(*targets, dtype=jnp.int32),
            length=array(*targets),
            finished=array(*targets),
            old_logp=array(*targets) if several else None,
            sampler_logp=array(*targets),
        )
        return PackedBatch(*(array(*rows, dtype=jnp.int32),) * 4, *(array(*targets, dtype=jnp.int32),) * 2, terms=terms)
    return GroupBatch(
        prompt_BP=array(B, P, dtype=jnp.int32),
        prompt_len_B=array(B, dtype=jnp.int32),
        response_BGR=array(B, G, R, dtype=jnp.int32),
        weight_BGR=array(B, G, R),
        mask_BGR=array(B, G, R),
        adv_BG=array(B, G),
        ref_logp_BGR=array(B, G, R),
        old_logp_BGR=array(B, G, R) if several else None,
        sampler_logp_BGR=array(B, G, R),
        finished_BG=array(B, G),
    )
