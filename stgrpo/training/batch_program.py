"""Jitted functions of something and a batch, wherever the batch's parts have to lie."""

import dataclasses
from typing import Generic, TypeVar

import jax
from jax.sharding import Mesh

from stgrpo.models.sharding import batch_sharding
from stgrpo.processes.exchange import placed as on_all_hosts
from stgrpo.training.packing import Batch

First = TypeVar("First")
Result = TypeVar("Result")


@dataclasses.dataclass(frozen=True)
class BatchProgram(Generic[First, Result]):
    """A jitted function of something and a batch; of several processes each places its devices' part of the batch."""

    jitted: jax.stages.Wrapped
    mesh: Mesh

    def __call__(self, first: First, batch: Batch) -> Result:
        """Runs it."""
        if self.mesh.is_multi_process:
            batch = on_all_hosts(batch, batch_sharding(self.mesh))
        return self.jitted(first, batch)

    def lower(self, first: First, batch: Batch) -> jax.stages.Lowered:
        """The program for arguments of these shapes and shardings, of whole batches."""
        return self.jitted.lower(first, batch)
