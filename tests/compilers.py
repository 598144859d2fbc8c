"""Prints the packages that compile for TPUs and NVIDIA GPUs without one, in the versions that fit the jax installed."""

from importlib.metadata import requires, version

tpu = next(r for r in requires("jax") if r.startswith("libtpu") and "extra ==" in r).split(";")[0].strip()
print(tpu, *(f"{name}=={version('jaxlib')}" for name in ("jax-cuda13-plugin", "jax-cuda13-pjrt")), "nvidia-cudnn-cu13")
