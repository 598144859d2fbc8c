"""What devices send each other, by formula: collectives along the axes of a mesh, within hosts and between them.

In a ring of n devices each sends (n - 1) / n of what is gathered or scattered, twice that of what is reduced to all.
tests/plan/test_communication.py holds the formulas to the collectives of compiled programs.
"""

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np
from jax.sharding import Mesh

from stgrpo.models.flops import linear_parameters
from stgrpo.models.shapes import ModelShape, layer_specs
from stgrpo.models.sharding import MESH_AXES
from stgrpo.plan.hardware import Chip

_ROUNDS = {"all-gather": 1, "reduce-scatter": 1, "all-to-all": 1, "all-reduce": 2}


@dataclasses.dataclass(frozen=True)
class Collective:
    """The same exchange, so many times.

    Attributes:
        what: is sent, for people.
        kind: of HLO's names.
        axis: of the mesh, whose devices take part.
        size: bytes of the whole that is gathered or scattered, or that each device has of what is reduced or exchanged.
        count: times.
    """

    what: str
    kind: str
    axis: str
    size: float
    count: int

    def sent(self, mesh: Mesh) -> float:
        """Bytes that a device sends, all times."""
        n = mesh.shape[self.axis]
        return self.count * _ROUNDS[self.kind] * self.size * (n - 1) / n

    def leaving(self, mesh: Mesh) -> float:
        """Bytes that leave a host, the one that most leave, all times."""
        return self.sent(mesh) * most_leaving(mesh, self.axis)


def most_leaving(mesh: Mesh, axis: str) -> int:
    """Of the devices of a host those whose next one along an axis is on another: the most of any host."""
    host = np.vectorize(lambda device: device.process_index)(mesh.devices)
    away = host != np.roll(host, -1, MESH_AXES.index(axis))
    return int(max(away[host == h].sum() for h in np.unique(host)))


def sent(traffic: Sequence[Collective], mesh: Mesh) -> float:
    """Bytes that a device sends."""
    return sum(one.sent(mesh) for one in traffic)


def leaving(traffic: Sequence[Collective], mesh: Mesh) -> float:
    """Bytes that leave a host."""
    return sum(one.leaving(mesh) for one in traffic)


def seconds(traffic: Sequence[Collective], mesh: Mesh, chip: Chip) -> float:
    """At the published rates; what leaves a host goes through its own network where it has one."""
    return sum(
        max(one.sent(mesh) / chip.ring, one.leaving(mesh) / chip.host_link if chip.host_link else 0.0)
        for one in traffic
    )


@dataclasses.dataclass(frozen=True)
class Pass:
    """What goes through the model at one time on each device, and how often in a step.

    Attributes:
        tokens: of a device.
        predicted: those of them whose gradients come from a distribution.
        parts: times.
        size: bytes a value, of the computation.
    """

    tokens: float
    predicted: float
    parts: int
    size: int


def update_traffic(shape: ModelShape, mesh: Mesh, one: Pass, *, remat: bool, frozen: bool) -> list[Collective]:
    """Of an update, for each of its parts.

    A layer's weights are gathered in the forward pass, for the gradients of its inputs, and where it is computed again
    all but `down`, whose output is not needed then; the head once. Gradients are given away in float32.
    """
    layers = 2 + (1 - _down(shape)) * remat
    traffic = [*_weights(shape, mesh, one, layers=layers), *_embedded(shape, one, passes=2)]
    traffic += _activations(shape, one, sums=5 if remat else 4)
    hidden = one.size * one.predicted * shape.width
    traffic.append(Collective("gradients of hidden states", "all-reduce", "tensor", hidden, one.parts))
    if not frozen:
        traffic += _gradients(shape, mesh, one)
    return [t for t in traffic if mesh.shape[t.axis] > 1]


def logprobs_traffic(shape: ModelShape, mesh: Mesh, one: Pass) -> list[Collective]:
    """Of log-probabilities: a forward pass."""
    traffic = [*_weights(shape, mesh, one, layers=1), *_embedded(shape, one, passes=1)]
    traffic += _activations(shape, one, sums=2)
    return [t for t in traffic if mesh.shape[t.axis] > 1]


def _down(shape: ModelShape) -> float:
    """Share of the last matrix of a layer in all."""
    return layer_specs(shape)["down"].size / linear_parameters(shape)


def _weights(shape: ModelShape, mesh: Mesh, one: Pass, *, layers: float) -> Iterator[Collective]:
    found = matrices(shape, mesh)
    yield Collective("layers", "all-gather", "fsdp", one.size * found["layers"] * layers, one.parts)
    yield Collective("head", "all-gather", "fsdp", one.size * found["head"], one.parts)


def _gradients(shape: ModelShape, mesh: Mesh, one: Pass) -> Iterator[Collective]:
    for what, values in matrices(shape, mesh).items():
        yield Collective(f"gradients of {what}", "reduce-scatter", "fsdp", 4 * values, one.parts)
        yield Collective(f"gradients of {what}", "all-reduce", "data", 4 * values / mesh.shape["fsdp"], one.parts)
    table = 4 * shape.vocab_size * shape.width / mesh.shape["tensor"] / mesh.shape["fsdp"]
    yield Collective("gradients of the embedding", "all-reduce", "data", table, one.parts)


def matrices(shape: ModelShape, mesh: Mesh) -> dict[str, float]:
    """Values of a device's part over `tensor`, whole along `fsdp`."""
    T = mesh.shape["tensor"]
    return {"layers": linear_parameters(shape) / T, "head": shape.vocab_size * shape.width / T}


def matrix_values(shape: ModelShape, mesh: Mesh) -> float:
    """The same, of layers and one table of the vocabulary together."""
    return sum(matrices(shape, mesh).values())


def _embedded(shape: ModelShape, one: Pass, *, passes: int) -> Iterator[Collective]:
    yield Collective("looked up", "all-to-all", "fsdp", one.size * one.tokens * shape.width, passes * one.parts)


def _activations(shape: ModelShape, one: Pass, *, sums: int) -> Iterator[Collective]:
    values = one.tokens * shape.width
    yield Collective("looked up", "all-reduce", "tensor", 4 * values, one.parts)
    yield Collective("activations", "all-reduce", "tensor", one.size * values, sums * shape.depth * one.parts)
