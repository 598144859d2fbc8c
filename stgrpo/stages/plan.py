"""Plan: compiles the GRPO update for a topology, without running it or having it, and prints memory, time and work."""

import time

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from ml_collections import ConfigDict

from stgrpo.data.padding import bucket
from stgrpo.errors import UserError
from stgrpo.models.sharding import batch_sharding, make_mesh
from stgrpo.stages.common import lora_settings
from stgrpo.stages.grpo import check_prompts, grpo_program
from stgrpo.stages.sizes import size_text, state_parts
from stgrpo.stages.start import starting_shape
from stgrpo.training.grpo import GroupBatch, LossTerms
from stgrpo.training.packing import Batch, PackedBatch, row_count, target_count


def plan(config: ConfigDict, topology: str = "") -> str:
    """Lines for a person.

    Args:
      config: the experiment; its limits give the largest batch that can occur.
      topology: a TPU topology such as "v5e:4x4" (needs the package libtpu, no TPU); empty for this machine's devices.

    Raises:
      UserError: the topology is unknown, the mesh does not fit it, or the update does not fit its memory.
    """
    mesh = make_mesh(config.mesh.data, config.mesh.fsdp, config.mesh.tensor, _devices(topology))
    check_prompts(config, mesh)
    shape = starting_shape(config)
    steps = grpo_program(config, shape, mesh, updates=100)  # of the schedule, which costs nothing
    batch = abstract_batch(config, mesh)
    start = time.perf_counter()
    with jax.set_mesh(mesh):
        memory = _compile(steps.update.lower(steps.abstract, batch), topology).memory_analysis()
    seconds = time.perf_counter() - start
    tokens, factor = batch.size, 4 if lora_settings(config, "grpo") else 6
    parts = state_parts(steps, reference=True)
    arguments, temporary = memory.argument_size_in_bytes, memory.temp_size_in_bytes
    return "\n".join(
        [
            f"topology   {topology or 'this machine'}: {mesh.size} x {mesh.devices.flat[0].device_kind}, "
            f"mesh {dict(mesh.shape)}",
            f"model      {shape.parameter_count():,} parameters, {config.model.dtype}",
            f"update     {batch.form}: {tokens:,} tokens, in {config.grpo.micro_batches} micro-batches",
            f"memory     a device: {size_text(memory.peak_memory_in_bytes)} at the peak of the update "
            f"(arguments {size_text(arguments)}, temporary {size_text(temporary)}), "
            f"and {size_text(parts.get('frozen reference', 0))} for the frozen reference",
            "state      of it: " + ", ".join(f"{name} {size_text(size)}" for name, size in parts.items()),
            f"work       {factor * 1e-12 * shape.parameter_count() * tokens:,.4g} TFLOP an update in matrix products "
            f"({factor} x parameters x tokens; attention and recomputation not counted)",
            f"compiling  {seconds:.1f} s",
        ]
    )


def abstract_batch(config: ConfigDict, mesh: Mesh) -> Batch:
    """The largest minibatch of a config, every prompt and response as long as its limit, as shapes with shardings."""
    B, G = config.grpo.prompts // config.grpo.minibatches, config.grpo.group_size
    P, R = config.limits.prompt, config.limits.response
    split, several = batch_sharding(mesh), config.grpo.minibatches * config.grpo.passes > 1

    def array(*sizes: int, dtype: jnp.dtype = jnp.float32) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(sizes, dtype, sharding=split)

    if config.grpo.row_tokens:
        unit = mesh.shape["data"] * mesh.shape["fsdp"] * config.grpo.micro_batches
        a_row = max(1, config.grpo.row_tokens // (P + G * R))
        rows = row_count(-(-B // a_row), unit), bucket(P + G * R, smallest=config.grpo.row_tokens)
        targets = rows[0], target_count(a_row * G * R, rows[1])
        terms = LossTerms(*(array(*targets),) * 4, array(*targets) if several else None)
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
    )


def _devices(topology: str) -> list[jax.Device]:
    if not topology:
        return jax.devices()
    from jax.experimental import topologies

    try:
        return list(topologies.get_topology_desc(platform="tpu", topology_name=topology).devices)
    except Exception as error:  # of several kinds: no libtpu, or its own words on an unknown name
        reason = (str(error).splitlines() or [type(error).__name__])[0][:160]
        fix = "use a name such as v5e:4x4 with `pip install libtpu`, or none for this machine"
        raise UserError(f"--topology={topology} cannot be had ({reason}): {fix}") from error


def _compile(lowered: jax.stages.Lowered, topology: str) -> jax.stages.Compiled:
    try:
        return lowered.compile()
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        reason = str(error).splitlines()[0][:300]
        fix = "raise grpo.micro_batches or mesh.fsdp, or lower limits.prompt"
        raise UserError(f"the update does not fit {topology or 'this machine'} ({reason}): {fix}") from error
