"""Programs compiled for devices that need not be there: the memory they take, or one line on what does not fit."""

import jax
from jax.sharding import Mesh

from stgrpo.errors import UserError
from stgrpo.plan.sizes import size_text
from stgrpo.plan.topologies import Target


def compile_for(lowered: jax.stages.Lowered, target: Target, *, what: str, fix: str) -> jax.stages.Compiled:
    """Compiles a program.

    Args:
        lowered: the program.
        target: that it is for.
        what: it is, for a person.
        fix: that makes it smaller.

    Raises:
        UserError: it does not fit the memory of a device.
    """
    try:
        compiled = lowered.compile(compiler_options=dict(target.options))
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        reason = str(error).splitlines()[0][:300]
        raise UserError(f"{what} does not fit {target.name} ({reason}): {fix}") from error
    peak = compiled.memory_analysis().peak_memory_in_bytes
    if target.memory is not None and peak > target.memory:
        needs = f"it needs {size_text(peak)} a device, which has {size_text(target.memory)}"
        raise UserError(f"{what} does not fit {target.name} ({needs}): {fix}")
    return compiled


def peak_bytes(compiled: jax.stages.Compiled, mesh: Mesh) -> int:
    """At the peak of a program, a device."""
    memory = compiled.memory_analysis()
    if mesh.devices.flat[0].platform == "cpu":  # whose own number leaves the temporary memory out
        new = memory.output_size_in_bytes - memory.alias_size_in_bytes
        return memory.argument_size_in_bytes + memory.temp_size_in_bytes + new
    return memory.peak_memory_in_bytes
