"""Devices that are not there: their names, what a plan for them says, and what does not fit them."""

import importlib.util
import pathlib
import re

import pytest

from stgrpo.cli import parse
from stgrpo.errors import UserError
from stgrpo.models.sharding import make_mesh
from stgrpo.plan.hardware import CHIPS, SLICES
from stgrpo.plan.report import plan
from stgrpo.plan.topologies import GPUS, one_host, target

SMOKE = f"--config={pathlib.Path(__file__).resolve().parents[2] / 'configs' / 'tiny.py'}:smoke"
TPU = pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="needs the compiler for TPUs")
GPU = pytest.mark.skipif(importlib.util.find_spec("jax_cuda13_plugin") is None, reason="needs the compiler for GPUs")


@pytest.mark.parametrize("name", ["h100", "h100:", "h100:0", "h100:8x", "h101:8", "v5e", "nothing:2x2", "h100:0x8"])
def test_an_unknown_name_is_answered_with_good_ones(name, monkeypatch):
    monkeypatch.setenv("TPU_SKIP_MDS_QUERY", "1")
    with pytest.raises(UserError, match=re.escape(f"--topology={name} cannot be had")) as caught:
        target(name)
    assert "v5e:4x4" in str(caught.value) and "h100:8" in str(caught.value) and "\n" not in str(caught.value)


@GPU
@pytest.mark.slow
@pytest.mark.compilers
@pytest.mark.parametrize("name", GPUS)
def test_gpus_are_described_as_they_are(name):
    there = target(f"{name}:2x4")
    assert len(there.devices) == 8 and {d.process_index for d in there.devices} == {0, 1}
    device = there.devices[0]
    assert (device.platform, device.device_kind, device.core_count) == ("gpu", GPUS[name].name, GPUS[name].cores)
    assert device.compute_capability == f"{GPUS[name].major}.0"


@GPU
@pytest.mark.slow
@pytest.mark.compilers
def test_a_plan_for_gpus_counts_and_refuses():
    options = ("--config.mesh.data=4", "--config.model.dtype=bfloat16")
    text = plan(parse(["plan", SMOKE, *options]).config, "h100:4")
    assert "topology   h100:4: 4 x NVIDIA H100 80GB HBM3" in text and "attention by cudnn" in text
    assert re.search(r"^  grpo update +[\d.]+ MiB +[\d.]+ MiB", text, re.MULTILINE)
    assert re.search(r"^whole +6 updates of sft and 6 rollouts of grpo: ", text, re.MULTILINE)
    large = ("--config.model.width=8192", "--config.model.mlp_width=65536", "--config.model.depth=64")
    with pytest.raises(
        UserError, match=r"the update does not fit h100:4 \(it needs [\d,.]+ GiB a device, which has 79"
    ):
        plan(parse(["plan", SMOKE, *options, *large]).config, "h100:4")


@TPU
@GPU
@pytest.mark.slow
@pytest.mark.compilers
@pytest.mark.parametrize("name", [*SLICES, "v5e:1x1", "tpu7x:2x2x1", "h100:4", "h200:2x8", "a100:32x8"])
def test_every_named_topology_makes_a_mesh_or_gives_one_line(name, monkeypatch):
    monkeypatch.setenv("TPU_SKIP_MDS_QUERY", "1")
    monkeypatch.setenv("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")
    there = target(name)
    assert there.chip is CHIPS[re.split("[:-]", name)[0]] and there.memory == there.chip.memory
    count, made = len(there.devices), 0
    for data, fsdp, tensor in (
        (1, -1, 1),
        (-1, 1, 1),
        (2, -1, 1),
        (-1, 4, 1),
        (4, -1, 1),
        (1, -1, 4),
        (2, -1, 2),
        (-1, 64, 1),
    ):
        try:
            mesh = make_mesh(data, fsdp, tensor, there.devices)
        except UserError as error:
            assert "\n" not in str(error) and ("does not fit" in str(error) or "cannot be laid" in str(error))
        else:
            assert mesh.size == count
            made += 1
    assert made >= min(count, 4)
    if there.hosts > 1:
        assert one_host(there).hosts == 1 and len(one_host(there).devices) * there.hosts == count


@TPU
@pytest.mark.slow
@pytest.mark.compilers
def test_a_topology_that_no_mesh_can_be_laid_over_is_one_line(monkeypatch):
    """The v4 that a compiler describes has a device a core, which is no v4 that JAX would run on."""
    monkeypatch.setenv("TPU_SKIP_MDS_QUERY", "1")
    monkeypatch.setenv("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")
    with pytest.raises(UserError, match="cannot be laid over these devices") as caught:
        make_mesh(1, -1, 1, target("v4:2x2x2").devices)
    assert "\n" not in str(caught.value)
