"""How long parts of a step take, and what holds them up: arithmetic, memory or network, at shares of the peak."""

import dataclasses
from collections.abc import Sequence

from jax.sharding import Mesh

from stgrpo.models.shapes import LINEAR, ModelShape, layer_specs
from stgrpo.plan import communication
from stgrpo.plan.communication import Collective
from stgrpo.plan.hardware import Chip
from stgrpo.plan.work import Work

BANDWIDTHS = 0.8
"""Share of the published bandwidths, of memory and network, that is counted on."""


@dataclasses.dataclass(frozen=True)
class Part:
    """A part of a step, such as an update.

    Attributes:
        name: for people.
        work: operations of all devices.
        memory: bytes that a device reads and writes.
        traffic: what it sends.
    """

    name: str
    work: Work
    memory: float
    traffic: Sequence[Collective]


@dataclasses.dataclass(frozen=True)
class Time:
    """Seconds of a part, had it nothing else to do; the longest is what it takes if the others hide behind it."""

    arithmetic: float
    memory: float
    network: float

    @property
    def bound(self) -> str:
        """What takes longest."""
        return max(("arithmetic", "memory", "network"), key=lambda name: getattr(self, name))

    @property
    def total(self) -> float:
        """The longest."""
        return max(self.arithmetic, self.memory, self.network)


def time_of(part: Part, mesh: Mesh, chip: Chip, utilisation: float) -> Time:
    """The time of a part on the devices of a mesh, with arithmetic at a share of its peak."""
    return Time(
        part.work.done / mesh.size / (chip.flops * utilisation),
        part.memory / (chip.bandwidth * BANDWIDTHS),
        communication.seconds(part.traffic, mesh, chip) / BANDWIDTHS,
    )


def pass_bytes(shape: ModelShape, tokens: float, weights: float, size: int) -> float:
    """That a device reads and writes in a pass over the layers, at least: weights, and what goes in and out of each.

    Args:
        shape: of the model.
        tokens: of the device.
        weights: bytes of a device's part over `tensor`, whole along `fsdp`.
        size: bytes of a value.
    """
    specs = layer_specs(shape)
    both = [specs[name].fan_in + specs[name].size // shape.depth // specs[name].fan_in for name in LINEAR]
    return weights + tokens * shape.depth * size * sum(both)


def update_bytes(shape: ModelShape, mesh: Mesh, one: communication.Pass, trained: float, *, remat: bool) -> float:
    """Of an update: three or four passes a part, its gradients added up, and the optimiser, once.

    Args:
        shape: of the model.
        mesh: devices.
        one: a part of the batch.
        trained: parameters that a device trains.
        remat: see `Transformer`.
    """
    weights = one.size * communication.matrix_values(shape, mesh)
    passes = (4 if remat else 3) * pass_bytes(shape, one.tokens, weights, one.size)
    return one.parts * (passes + 3 * 4 * trained) + 7 * 4 * trained
