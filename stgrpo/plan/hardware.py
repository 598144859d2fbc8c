"""What chips can do, as their makers have published it; each row names the document. Nothing here was measured."""

import dataclasses
import re
from collections.abc import Mapping

from stgrpo.models.peaks import PEAK_FLOPS

GIB, TERA, GIGA = 2**30, 10**12, 10**9


@dataclasses.dataclass(frozen=True)
class Chip:
    """A device as JAX sees it.

    Attributes:
        flops: dense bfloat16 operations a second, at most.
        memory: bytes.
        bandwidth: of its memory, bytes a second.
        link: bytes a second that it sends to others, over all of its ports.
        ports: that these go through, of which a ring over one axis of a torus has two; 0 for a switch, all of it.
        host_link: bytes a second that a host sends to others; 0 where chips of all hosts are joined by `link`.
        source: the maker's document.
    """

    flops: float
    memory: float
    bandwidth: float
    link: float
    ports: int
    host_link: float
    source: str

    @property
    def ring(self) -> float:
        """Bytes a second that it sends in a ring with others."""
        return self.link * 2 / self.ports if self.ports else self.link


_TPU = "cloud.google.com/tpu/docs/"
_NVIDIA = "NVIDIA's data sheets of {0} SXM and of DGX {0}"
_A100, _H100, _H200 = (PEAK_FLOPS[f"NVIDIA {name}"] for name in ("A100-SXM4-80GB", "H100 80GB HBM3", "H200"))
# "Bidirectional" interconnect figures are halved: what a chip sends. A tpu7x chip is two devices to JAX.
CHIPS: Mapping[str, Chip] = {
    "v5e": Chip(PEAK_FLOPS["TPU v5 lite"], 16 * GIB, 819 * GIGA, 200 * GIGA, 4, 0, f"{_TPU}v5e"),
    "v5p": Chip(PEAK_FLOPS["TPU v5p"], 95 * GIB, 2_765 * GIGA, 600 * GIGA, 6, 0, f"{_TPU}v5p"),
    "v6e": Chip(PEAK_FLOPS["TPU v6 lite"], 32 * GIB, 1_638 * GIGA, 400 * GIGA, 4, 0, f"{_TPU}v6e"),
    "tpu7x": Chip(1_153.5 * TERA, 96 * GIB, 3_690 * GIGA, 300 * GIGA, 6, 0, f"{_TPU}tpu7x, half a chip"),
    "a100": Chip(_A100, 79.1 * GIB, 2_039 * GIGA, 300 * GIGA, 0, 200 * GIGA, _NVIDIA.format("A100")),
    "h100": Chip(_H100, 79.1 * GIB, 3_352 * GIGA, 450 * GIGA, 0, 400 * GIGA, _NVIDIA.format("H100")),
    "h200": Chip(_H200, 139.8 * GIB, 4_800 * GIGA, 450 * GIGA, 0, 400 * GIGA, _NVIDIA.format("H200")),
}

# Sizes as clouds sell them, and the topologies that they are. Of v5p the number is that of cores, two a chip; GPUs
# come in hosts of at most eight.
_2D = {4: "2x2", 8: "2x4", 16: "4x4", 32: "4x8", 64: "8x8", 128: "8x16", 256: "16x16"}
_3D = {8: "2x2x1", 16: "2x2x2", 64: "2x4x4", 128: "4x4x4", 256: "4x4x8", 512: "4x8x8"}
_EIGHT = {n: f"{n}" if n <= 8 else f"{n // 8}x8" for n in (1, 2, 4, 8, 16, 32, 64)}
SLICES: Mapping[str, str] = {
    f"{chip}-{size}": f"{chip}:{form}"
    for chips, forms in ((("v5e", "v6e"), _2D), (("v5p",), _3D), (("a100", "h100", "h200"), _EIGHT))
    for chip in chips
    for size, form in forms.items()
}


def chip_of(topology: str) -> Chip | None:
    """The chip that a topology's name begins with; None for this machine's devices and for chips without a row."""
    return CHIPS.get(re.split("[:-]", topology)[0])
