"""Devices to compile for that need not be there: TPU slices by libtpu's names, NVIDIA GPUs by a description."""

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

import jax

from stgrpo.errors import UserError
from stgrpo.models.sharding import all_devices
from stgrpo.plan.hardware import CHIPS, SLICES, Chip, chip_of


@dataclasses.dataclass(frozen=True)
class Gpu:
    """What XLA asks of a GPU to compile for it.

    Attributes:
        name: as CUDA gives it.
        major: of its compute capability.
        cores: streaming multiprocessors.
        lanes: float32 units of a core.
        clock: GHz.
        l2: bytes of its second-level cache.
        shared: bytes of shared memory a core; a block may have all but 1 KiB.
    """

    name: str
    major: int
    cores: int
    lanes: int
    clock: float
    l2: int
    shared: int

    def text(self, chip: Chip) -> str:
        """XLA's `GpuTargetConfigProto` as text."""
        device = {
            "threads_per_block_limit": 1024,
            "threads_per_warp": 32,
            "threads_per_core_limit": 2048,
            "shared_memory_per_block": 48 << 10,
            "shared_memory_per_core": self.shared,
            "shared_memory_per_block_optin": self.shared - 1024,
            "core_count": self.cores,
            "fpus_per_core": self.lanes,
            "block_dim_limit_x": 2**31 - 1,
            "block_dim_limit_y": 65_535,
            "block_dim_limit_z": 65_535,
            "memory_bandwidth": int(chip.bandwidth),
            "l2_cache_size": self.l2,
            "clock_rate_ghz": self.clock,
            "device_memory_size": int(chip.memory),
            "registers_per_core_limit": 65_536,
            "registers_per_block_limit": 65_536,
        }
        fields = " ".join(f"{name}: {value}" for name, value in device.items())
        return (
            f"gpu_device_info {{ {fields} cuda_compute_capability {{ major: {self.major} }} }} "
            f'platform_name: "CUDA" runtime_version {{ major: 12 minor: 8 }} dnn_version_info {{ major: 9 minor: 7 }} '
            f'device_description_str: "{self.name}"'
        )


# Sizes of the chips are NVIDIA's own figures, not read off devices; the rest is in `hardware.CHIPS`.
GPUS: Mapping[str, Gpu] = {
    "a100": Gpu("NVIDIA A100-SXM4-80GB", 8, 108, 64, 1.41, 40 << 20, 164 << 10),
    "h100": Gpu("NVIDIA H100 80GB HBM3", 9, 132, 128, 1.98, 50 << 20, 228 << 10),
    "h200": Gpu("NVIDIA H200", 9, 132, 128, 1.98, 50 << 20, 228 << 10),
}

# Choosing kernels by running them needs the GPU; without that XLA takes cuBLAS for products.
_WITHOUT_GPU = {"xla_gpu_autotune_level": "0", "xla_gpu_enable_triton_gemm": False}


@dataclasses.dataclass(frozen=True)
class Target:
    """Devices and how to compile for them.

    Attributes:
        name: for a person.
        devices: all of them.
        options: of the compiler.
        chip: what is published of a device; None where it is in no table.
    """

    name: str
    devices: list[jax.Device]
    options: Mapping[str, str | bool] = dataclasses.field(default_factory=dict)
    chip: Chip | None = None

    @property
    def memory(self) -> float:
        """Bytes a device; 0 where it is not known."""
        return self.chip.memory if self.chip else 0.0

    @property
    def hosts(self) -> int:
        """That the devices are on, a process each."""
        return len({device.process_index for device in self.devices})


def target(topology: str) -> Target:
    """The devices of a topology.

    Args:
        topology: of TPUs, as "v5e:4x4", or as clouds sell them, "v5e-16"; of GPUs, their number, as "h100:8", or hosts
            and GPUs of a host, as "h100:2x8" or "h100-16"; empty for this machine's devices.

    Raises:
        UserError: the name is unknown or the compiler for it is not installed.
    """
    if not topology:
        return Target("this machine", all_devices())
    form = SLICES.get(topology, topology)
    gpus = re.fullmatch(r"([a-z]+\d+):(?:([1-9]\d*)x)?([1-9]\d*)", form)
    if gpus and gpus[1] in GPUS:
        gpu, chip = GPUS[gpus[1]], CHIPS[gpus[1]]
        layout = f"1x{gpus[2] or 1}x{gpus[3]}"
        devices = _describe(topology, "cuda", target_config=gpu.text(chip), topology=layout)
        return Target(topology, devices, _WITHOUT_GPU, chip)
    alone = {"chips_per_host_bounds": (1, 1, 1)} if form.endswith(":1x1") else {}  # a host has 2x2 if nothing is said
    return Target(topology, _describe(topology, "tpu", topology_name=form, **alone), chip=chip_of(form))


# A host of so many devices as a topology of its own.
_HOSTS = {
    **{(chip, n): form for chip in ("v5e", "v6e") for n, form in ((1, "1x1"), (4, "2x2"), (8, "2x4"))},
    ("v5p", 4): "2x2x1",
    ("tpu7x", 8): "2x2x1",
}


def one_host(there: Target) -> Target:
    """The devices of one host of several, as a topology.

    Raises:
        UserError: it has no name.
    """
    kind, each = re.split("[:-]", there.name)[0], len(there.devices) // there.hosts
    if kind in GPUS:
        return target(f"{kind}:{each}")
    if (kind, each) not in _HOSTS:
        raise UserError(f"--topology={there.name} has hosts of {each} devices, which are not known: use another")
    return target(f"{kind}:{_HOSTS[kind, each]}")


def _describe(asked: str, platform: str, **description: Any) -> list[jax.Device]:
    from jax.experimental import topologies

    try:
        return list(topologies.get_topology_desc(platform=platform, **description).devices)
    except Exception as error:  # of several kinds: no compiler, or its own words on an unknown name
        reason = (str(error).splitlines() or [type(error).__name__])[0][:160]
        fix = (
            f"use a name such as v5e:4x4 with `pip install libtpu`, {', '.join(f'{name}:8' for name in GPUS)} with "
            "`pip install jax[cuda13]`, or none for this machine"
        )
        raise UserError(f"--topology={asked} cannot be had ({reason}): {fix}") from error
