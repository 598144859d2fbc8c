"""Which implementation of attention a run gets: what its config asks for, or the best that its devices can do."""

import re

import jax
import jax.numpy as jnp

from stgrpo.errors import UserError
from stgrpo.models.attention.xla import CORES, AttentionCore

CHOICES = ("auto", *CORES)

_AMPERE = 8.0  # compute capability from which cuDNN's fused attention runs
_HOPPER = 9.0


def choose_core(wanted: str, *, device: jax.Device, dtype: jnp.dtype, head_dim: int) -> AttentionCore:
    """The implementation for a device: splash on TPU, cuDNN on GPU where it can, else XLA; or the one that is wanted.

    Args:
        wanted: one of `CHOICES`.
        device: one of those that the program is for.
        dtype: what the computation is done in.
        head_dim: size of a head.

    Raises:
        UserError: the device, the dtype or the heads cannot do what is wanted.
    """
    faults = {"xla": "", "splash": _no_splash(device), "cudnn": _no_cudnn(device, dtype, head_dim)}
    if wanted == "auto":
        return AttentionCore(next(name for name in ("splash", "cudnn", "xla") if not faults[name]))
    if faults[wanted]:
        raise UserError(f"model.attention={wanted!r} {faults[wanted]}: use model.attention='auto', the best there is")
    return AttentionCore(wanted)


def _no_splash(device: jax.Device) -> str:
    return "" if device.platform == "tpu" else f"needs a TPU, this is {device.device_kind}"


def _no_cudnn(device: jax.Device, dtype: jnp.dtype, head_dim: int) -> str:
    capability = str(getattr(device, "compute_capability", ""))  # other devices have none, AMD's have a name
    number = float(capability) if re.fullmatch(r"\d+\.\d+", capability) else 0.0
    largest = 256 if number >= _HOPPER else 128
    if device.platform not in ("gpu", "cuda") or number < _AMPERE:
        return f"needs an NVIDIA GPU of compute capability {_AMPERE} or later, this is {device.device_kind}"
    if dtype != jnp.bfloat16:
        return f"needs model.dtype='bfloat16', not {jnp.dtype(dtype).name!r}"
    if head_dim % 8 or head_dim > largest:
        return f"needs a multiple of 8 of at most {largest} as the size of a head, the model's is {head_dim}"
    return ""
