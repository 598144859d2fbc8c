"""Whether a training stage fits this machine, by formula, before anything of it is compiled or allocated."""

import logging
import os

import jax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from stgrpo.plan.batches import abstract_batch
from stgrpo.plan.estimate import update_memory
from stgrpo.plan.programs import StagePrograms
from stgrpo.plan.sizes import size_text, state_parts
from stgrpo.plan.topologies import target
from stgrpo.training.step import TrainProgram

log = logging.getLogger(__name__)


def doubts_of_memory(programs: StagePrograms) -> list[str]:
    """A line with the fix where an update takes more than its device has; else none."""
    needed, there = update_memory(programs), memory_a_device(programs.mesh.devices.flat[0])
    if not there or needed <= there:
        return []
    what = f"an update of {programs.stage} takes about {size_text(needed)} a device at its longest"
    return [f"{what}, which has {size_text(there)}: {programs.fix()}"]


def warn_of_memory(config: ConfigDict, stage: str, mesh: Mesh, program: TrainProgram) -> None:
    """Logs the doubts of a stage that is about to run."""
    parts = state_parts(program, reference=stage == "grpo")
    batch = abstract_batch(config, mesh, stage, width=program.model.shape.width)
    for line in doubts_of_memory(StagePrograms(stage, config, target(""), mesh, program, batch, parts)):
        log.warning("%s", line)


def memory_a_device(device: jax.Device) -> float:
    """Bytes that a device may use; CPU devices share what this machine has. 0 where nobody says."""
    if device.platform == "cpu":
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / jax.local_device_count()
    return float((device.memory_stats() or {}).get("bytes_limit", 0))
