"""`stgrpo plan`: what a config takes on devices that need not be there, on one screen: memory, work, time and cost."""

import dataclasses
import math
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from ml_collections import ConfigDict

from stgrpo.errors import UserError
from stgrpo.plan import communication
from stgrpo.plan.compiling import check_fits, noise_to
from stgrpo.plan.programs import (
    Compiled,
    StagePrograms,
    compile_critic,
    compile_reference,
    compile_update,
    stage_programs,
)
from stgrpo.plan.sampling import SamplingMemory, host_count, host_sizes, sampling_memory
from stgrpo.plan.schedule import schedule_of
from stgrpo.plan.sizes import size_text
from stgrpo.plan.step import Timed, grpo_step, sft_step
from stgrpo.plan.times import BANDWIDTHS
from stgrpo.plan.topologies import Target, target
from stgrpo.plan.work import longest_tokens
from stgrpo.training.micro_batches import said_of_parts


@dataclasses.dataclass(frozen=True)
class Assumptions:
    """What a plan is told.

    Attributes:
        utilisation: share of the peak that arithmetic reaches.
        price: of a device and hour, in any currency; 0 for none.
        workdir: of a run, for the number of its examples; empty for none.
    """

    utilisation: float = 0.4
    price: float = 0.0
    workdir: str = ""

    def check(self) -> None:
        """Raises a UserError for what cannot be."""
        if not 0 < self.utilisation <= 1:
            raise UserError(f"--utilisation={self.utilisation:g} is no share of the peak: use one from above 0 to 1")
        if not 0 <= self.price < float("inf"):
            raise UserError(f"--price={self.price:g} is no price of a device and hour: use one of at least 0")


@dataclasses.dataclass(frozen=True)
class Plan:
    """What is known of a config on some devices.

    Attributes:
        sft: its programs.
        grpo: its programs.
        compiled: memory by the name of a program.
        sampling: memory; None where the sampler is not embedded.
        seconds: that compiling took.
    """

    sft: StagePrograms
    grpo: StagePrograms
    compiled: dict[str, Compiled]
    sampling: SamplingMemory | None
    seconds: float


def plan(config: ConfigDict, topology: str = "", assumptions: Assumptions | None = None) -> str:
    """Lines for a person; what compilers say goes to a file, which the last line names.

    Args:
        config: the experiment; its limits give the largest batch that can occur.
        topology: of `topologies.target`: "v5e:4x4", "h100:8"; empty for this machine's devices.
        assumptions: beside the config.

    Raises:
        UserError: the topology is unknown, the mesh does not fit it, or a program does not fit its memory.
    """
    given = assumptions or Assumptions()
    given.check()
    handle, name = tempfile.mkstemp(prefix="stgrpo-plan-", suffix=".log")
    os.close(handle)
    try:
        with noise_to(Path(name)):
            lines = [*describe(compile_all(config, target(topology)), given)]
    finally:
        said = bool(Path(name).stat().st_size)
        if not said:
            Path(name).unlink()
    return "\n".join([*lines, f"           what the compilers said: {name}"] if said else lines)


def compile_all(config: ConfigDict, there: Target) -> Plan:
    """Compiles what the stages run.

    Raises:
        UserError: something does not fit.
    """
    start = time.perf_counter()
    sft, grpo = (stage_programs(config, stage, there) for stage in ("sft", "grpo"))
    compiled = {"grpo": compile_update(grpo), "reference": compile_reference(grpo), "sft": compile_update(sft)}
    compiled |= compile_critic(grpo)
    sampling = None
    if config.rollout.backend == "jax":
        sampling = sampling_memory(config, grpo.policy, grpo.mesh, there)
        fix = "lower rollout.batch or limits.prompt, or raise mesh.fsdp or mesh.tensor"
        check_fits("a rollout", grpo.state + sampling.peak, there, fix)
    return Plan(sft, grpo, compiled, sampling, time.perf_counter() - start)


def describe(found: Plan, given: Assumptions) -> Iterator[str]:
    """The screen."""
    config, mesh, there = found.grpo.config, found.grpo.mesh, found.grpo.target
    sft, grpo = sft_step(found.sft, given.utilisation), grpo_step(found.grpo, given.utilisation)
    yield from _devices(found.grpo)
    for programs in (found.sft, found.grpo):
        yield _batch(programs)
        yield from (f"           {line}" for line in said_of_parts(config, programs.stage, mesh))
        yield from (f"           {line}" for line in _uncounted(programs))
    if found.sampling:
        yield from (f"           {line}" for line in host_sizes(config, mesh).said(config.grpo.group_size))
    yield from _memory(found)
    yield _row("work", "TFLOP needed", "padding", "repeated", "GB of memory", "GB sent", "off a host", "bound", "s")
    for timed in (*sft, *grpo):
        yield _part(timed, found.grpo)
    yield from _whole(found, sft, grpo, given)
    assumed = f"{given.utilisation:.0%} of the peak arithmetic, {BANDWIDTHS:.0%} of the bandwidths"
    source = f"as published ({there.chip.source})" if there.chip else "of which nothing is published here"
    yield f"assumed    {assumed}, {source}; all as long as their limits"
    yield f"compiling  {found.seconds:.0f} s"


def _devices(programs: StagePrograms) -> Iterator[str]:
    config, mesh, there = programs.config, programs.mesh, programs.target
    hosts, kind = host_count(mesh), mesh.devices.flat[0].device_kind
    axes = ", ".join(f"{name}={size}" for name, size in mesh.shape.items())
    processes = f"{hosts} hosts of {mesh.size // hosts}, a process each" if hosts > 1 else "one host and process"
    yield f"topology   {there.name}: {mesh.size} x {kind}, {processes}; mesh {axes}"
    yield (
        f"model      {programs.shape.parameter_count():,} parameters, {config.model.dtype}, "
        f"attention by {programs.program.model.core.name}"
    )
    width, fsdp = programs.shape.width, mesh.shape["fsdp"]
    if width % fsdp:
        yield (
            f"           its width {width} is no multiple of mesh.fsdp={fsdp}, so parameters are whole on each device: "
            f"use mesh.fsdp={math.gcd(width, fsdp)}, and mesh.data for the rest"
        )


def _batch(programs: StagePrograms) -> str:
    size, tokens = programs.batch.size, longest_tokens(programs.config, programs.stage).tokens
    share = f", {1 - tokens / size:.0%} of them padding" if size > tokens else ""
    parts = f" in {programs.micro_batches} parts" if programs.micro_batches > 1 else ""
    return f"{programs.stage:10} {programs.batch.shape_text}{parts}: {size:,} tokens{share}"


def _uncounted(programs: StagePrograms) -> Iterator[str]:
    """What the formulas leave out."""
    if programs.config[programs.stage].optimiser == "muon" and programs.mesh.size > 1:
        yield "what devices send for muon's products of momenta is in no figure below: docs/plan.md"


def _memory(found: Plan) -> Iterator[str]:
    """A peak is the compiler's; where it is below arguments + temporary, it counts on parts that take turns."""
    limit, grpo = found.grpo.target.memory, found.grpo
    yield _row(
        f"memory{f' of {size_text(limit)}' if limit else ''}", "needed", "peak", "arguments", "temporary", "beside"
    )
    beside = {
        "sft update": ("sft", 0),
        "grpo update": ("grpo", grpo.reference),
        "critic update": ("critic", grpo.beside_critic),
        "log-probabilities": ("reference", grpo.beside_reference),
    }
    for label, (name, more) in beside.items():
        if name not in found.compiled:
            continue
        c = found.compiled[name]
        yield _row(f"  {label}", *map(size_text, (c.peak + more, c.peak, c.arguments, c.temporary, more)))
    yield f"  {'sampling':19}{_sampling(found)}"
    yield f"  {'state':19}" + ", ".join(f"{name} {size_text(size)}" for name, size in grpo.parts.items())


def _sampling(found: Plan) -> str:
    if found.sampling is None:
        return f"by rollout.backend={found.grpo.config.rollout.backend!r}, which is not counted here"
    s, state = found.sampling, found.grpo.state
    parts = {
        "state without gradient": state,
        "weights whole on each host": s.copy,
        "weights for decoding": s.weights,
        f"keys and values of {s.responses} responses": s.slots,
        "shared beginning": s.prefix,
        "temporary": s.temporary,
    }
    said = ", ".join(f"{name} {size_text(size)}" for name, size in parts.items() if size)
    return f"{size_text(state + s.peak):>13}: {said}"


def _part(timed: Timed, programs: StagePrograms) -> str:
    """One time; operations are those of all devices, bytes those of a device, or of a host that they leave."""
    part, mesh, work = timed.part, programs.mesh, timed.part.work
    operations = (work.needed, work.padding, work.repeated)
    moved = (part.memory, communication.sent(part.traffic, mesh), communication.leaving(part.traffic, mesh))
    numbers = [*(1e-12 * x for x in operations), *(1e-9 * x for x in moved)]
    took = (timed.time.bound, f"{timed.time.total:.3g}") if timed.time else ("", "")
    times = f" x {timed.count}" if timed.count > 1 else ""
    return _row(f"  {part.name}{times}", *(f"{number:,.4g}" for number in numbers), *took)


def _row(name: str, *cells: str) -> str:
    return f"{name:21}" + "".join(f"{cell:>13}" for cell in cells)


def _whole(found: Plan, sft: Sequence[Timed], grpo: Sequence[Timed], given: Assumptions) -> Iterator[str]:
    config, devices = found.grpo.config, found.grpo.mesh.size
    if not found.grpo.target.chip:
        return
    updates, rollout = (sum(timed.seconds for timed in parts) for parts in (sft, grpo))
    tokens = config.grpo.minibatches * longest_tokens(config, "grpo").tokens
    sft_tokens = longest_tokens(config, "sft").tokens
    yield (
        f"time       {updates:.3g} s an update of sft, {sft_tokens / updates:,.0f} tokens/s; "
        f"{rollout:.3g} s a rollout of grpo, {tokens / rollout:,.0f} tokens/s"
    )
    steps = schedule_of(config, given.workdir)
    if steps is None:
        yield "whole      depends on the number of examples: set sft.steps and grpo.steps"
        return
    hours = (steps.sft * updates + steps.grpo * rollout) / 3600
    cost = f", {given.price * hours * devices:,.0f} at {given.price:g} a device and hour" if given.price else ""
    source = f" ({steps.source})" if steps.source else ""
    kept = ", nor the pass through frozen layers" if config.sft.keep_frozen else ""
    yield (
        f"whole      {steps.sft:,} updates of sft and {steps.grpo:,} rollouts of grpo{source}: {hours:,.3g} h, "
        f"{hours * devices:,.3g} device-hours{cost}; validation and evaluation not counted{kept}"
    )
