"""Programs compiled for devices that need not be there: the memory they take, or one line on what does not fit."""

import contextlib
import os
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Protocol

import jax
from jax.sharding import Mesh

from stgrpo.errors import RunError, UserError
from stgrpo.plan.sizes import size_text
from stgrpo.plan.topologies import Target


def compile_for(lowered: jax.stages.Lowered, target: Target, *, what: str, fix: str) -> jax.stages.Compiled:
    """Compiles a program.

    Args:
        lowered: the program, traced for the shapes of its arguments.
        target: the devices it is compiled for.
        what: what the program is, as the error calls it.
        fix: what makes it smaller, as the error advises.

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
    check_fits(what, memory_of(compiled).peak_memory_in_bytes, target, fix)
    return compiled


def check_fits(what: str, needed: float, target: Target, fix: str) -> None:
    """Raises a UserError if a device of the target has less memory than is needed."""
    if target.memory and needed > target.memory:
        needs = f"it needs {size_text(needed)} a device, which has {size_text(target.memory)}"
        raise UserError(f"{what} does not fit {target.name} ({needs}): {fix}")


@contextlib.contextmanager
def noise_to(file: Path) -> Generator[None]:
    """What compilers write to standard error goes to a file."""
    sys.stderr.flush()
    held, noise = os.dup(2), os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(noise, 2)
    try:
        yield
    finally:
        sys.stderr.flush()
        os.dup2(held, 2)
        os.close(held)
        os.close(noise)


class Memory(Protocol):
    """What a compiler says a program takes, bytes a device."""

    argument_size_in_bytes: int
    output_size_in_bytes: int
    alias_size_in_bytes: int
    temp_size_in_bytes: int
    peak_memory_in_bytes: int


def memory_of(compiled: jax.stages.Compiled) -> Memory:
    """The memory of a program.

    Raises:
        RunError: this compiler says nothing.
    """
    memory = compiled.memory_analysis()
    if memory is None:
        raise RunError("the compiler does not say how much memory a program takes: plan for another topology")
    return memory


def peak_bytes(compiled: jax.stages.Compiled, mesh: Mesh) -> int:
    """At the peak of a program, a device."""
    memory = memory_of(compiled)
    if mesh.devices.flat[0].platform == "cpu":  # whose own number leaves the temporary memory out
        new = memory.output_size_in_bytes - memory.alias_size_in_bytes
        return memory.argument_size_in_bytes + memory.temp_size_in_bytes + new
    return memory.peak_memory_in_bytes
