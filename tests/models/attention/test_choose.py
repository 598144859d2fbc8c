"""Which implementation of attention which device gets, and what is said where it cannot do what is wanted."""

import pathlib
import types

import jax.numpy as jnp
import pytest

from stgrpo.cli import parse
from stgrpo.config import base
from stgrpo.errors import UserError
from stgrpo.models.attention.choose import choose_core
from stgrpo.plan.checks import validate
from stgrpo.plan.dry_run import describe

SMOKE = f"--config={pathlib.Path(__file__).resolve().parents[3] / 'configs' / 'tiny.py'}:smoke"

CPU = types.SimpleNamespace(platform="cpu", device_kind="cpu")
TPU = types.SimpleNamespace(platform="tpu", device_kind="TPU v5 lite")
H100 = types.SimpleNamespace(platform="gpu", device_kind="NVIDIA H100", compute_capability="9.0")
A100 = types.SimpleNamespace(platform="gpu", device_kind="NVIDIA A100", compute_capability="8.0")
V100 = types.SimpleNamespace(platform="gpu", device_kind="NVIDIA V100", compute_capability="7.0")
MI300 = types.SimpleNamespace(platform="gpu", device_kind="AMD MI300X", compute_capability="gfx942")


@pytest.mark.parametrize(
    ("device", "dtype", "head_dim", "name"),
    [
        (CPU, "bfloat16", 128, "xla"),
        (TPU, "bfloat16", 128, "splash"),
        (TPU, "float32", 64, "splash"),
        (H100, "bfloat16", 128, "cudnn"),
        (H100, "bfloat16", 256, "cudnn"),
        (H100, "float32", 128, "xla"),
        (H100, "bfloat16", 60, "xla"),
        (A100, "bfloat16", 128, "cudnn"),
        (A100, "bfloat16", 256, "xla"),
        (V100, "bfloat16", 128, "xla"),
        (MI300, "bfloat16", 128, "xla"),
    ],
)
def test_the_best_that_a_device_can_do(device, dtype, head_dim, name):
    core = choose_core("auto", device=device, dtype=jnp.dtype(dtype), head_dim=head_dim)
    assert (core.name, core.emulated) == (name, False)
    assert choose_core(name, device=device, dtype=jnp.dtype(dtype), head_dim=head_dim) == core


@pytest.mark.parametrize(
    ("wanted", "device", "dtype", "head_dim", "says"),
    [
        ("splash", CPU, "float32", 64, "needs a TPU, this is cpu: use model.attention='auto'"),
        ("splash", H100, "bfloat16", 64, "needs a TPU, this is NVIDIA H100"),
        ("cudnn", TPU, "bfloat16", 64, "needs an NVIDIA GPU of compute capability 8.0 or later, this is TPU v5 lite"),
        ("cudnn", MI300, "bfloat16", 64, "this is AMD MI300X"),
        ("cudnn", H100, "float32", 64, "needs model.dtype='bfloat16', not 'float32'"),
        ("cudnn", A100, "bfloat16", 256, "of at most 128 as the size of a head, the model's is 256"),
    ],
)
def test_what_a_device_cannot_do_is_said(wanted, device, dtype, head_dim, says):
    with pytest.raises(UserError, match=says):
        choose_core(wanted, device=device, dtype=jnp.dtype(dtype), head_dim=head_dim)


def test_the_config_knows_the_names_and_the_dtype():
    config = base()
    config.model.attention = "cudnn"
    assert any("model.attention='cudnn' cannot do model.dtype='float32'" in error for error in validate(config))
    config.model.dtype = "bfloat16"
    assert validate(config) == []
    config.model.attention = "splsh"
    assert any("did you mean 'splash'?" in error for error in validate(config))


def test_a_dry_run_shows_the_choice_or_refuses_it():
    assert "attention by xla" in describe("grpo", parse(["grpo", SMOKE, "--dry_run"]).config)
    with pytest.raises(UserError, match="model.attention='splash' needs a TPU, this is cpu"):
        describe("grpo", parse(["grpo", SMOKE, "--dry_run", "--config.model.attention=splash"]).config)
