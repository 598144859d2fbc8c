"""Shared by all tests: eight fake CPU devices, a compilation cache, and the recorded traces of the benchmark."""

import os
import pathlib

os.environ.setdefault("JAX_PLATFORMS", "cpu")
if "xla_force_host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
    os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"

import pytest  # noqa: E402

REPOSITORY = pathlib.Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def traces_dir() -> pathlib.Path:
    """Recorded runs of the real engine; they live beside the project, not in it."""
    path = REPOSITORY.parent / "shared" / "traces"
    if not path.is_dir():
        pytest.skip("the recorded traces are not at hand (../shared/traces)")
    return path
