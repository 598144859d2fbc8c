"""The most that a device can compute, as its maker says; of a device that is not here nothing is known."""

from collections.abc import Mapping

PEAK_FLOPS: Mapping[str, float] = {
    "NVIDIA A100-SXM4-40GB": 312e12,
    "NVIDIA A100-SXM4-80GB": 312e12,
    "NVIDIA H100 80GB HBM3": 989.5e12,
    "NVIDIA H200": 989.5e12,
    "TPU v4": 275e12,
    "TPU v5 lite": 197e12,
    "TPU v5": 459e12,
    "TPU v5p": 459e12,
    "TPU v6 lite": 918e12,
}
"""Operations a second in products of bfloat16 matrices that are dense, by `jax.Device.device_kind`."""


def peak_flops(kind: str, dtype: str) -> float | None:
    """Of a device, operations a second; None where its maker's figure for the dtype is not known here.

    Args:
        kind: of `jax.Device.device_kind`.
        dtype: of the computation.
    """
    return PEAK_FLOPS.get(kind) if dtype == "bfloat16" else None
