"""What devices send each other: the formulas by hand, and held to the collectives of compiled programs."""

import importlib.util
import pathlib

import jax
import numpy as np
import pytest
from collectives import totals

from stgrpo.cli import parse
from stgrpo.models.shapes import ModelShape
from stgrpo.plan.communication import Collective, Pass, leaving, seconds, sent, update_traffic
from stgrpo.plan.hardware import CHIPS
from stgrpo.plan.programs import stage_programs
from stgrpo.plan.step import grpo_step
from stgrpo.plan.topologies import target

CONFIG = f"--config={pathlib.Path(__file__).resolve().parents[2] / 'configs' / 'tiny.py'}:smoke"
GPU = pytest.mark.skipif(importlib.util.find_spec("jax_cuda13_plugin") is None, reason="needs the compiler for GPUs")
# 2 layers of width 8: 4 query heads of size 2, one for keys and values, an MLP of 16; 32 tokens.
SHAPE = ModelShape(32, 8, 2, heads=4, kv_heads=1, head_dim=2, mlp_width=16)
DOWN, LINEAR, TABLE = 2 * 8 * 16, 2 * (2 * 8 * 8 + 2 * 8 * 2 + 3 * 8 * 16), 32 * 8
SMALL = (  # large enough that matrices outweigh norms and biases
    "--config.grpo.optimiser=adamw",  # the formulas know of no products between the parts of a matrix, as Muon's are
    *("--config.model.dtype=bfloat16", "--config.model.attention=xla", "--config.model.remat=true"),
    *("--config.model.width=256", "--config.model.heads=4", "--config.model.kv_heads=4", "--config.model.head_dim=64"),
    *("--config.model.mlp_width=512", "--config.tokenizer.vocab_size=4096", "--config.limits.prompt=768"),
    *("--config.grpo.prompts=16", "--config.grpo.micro_batches=2", "--config.grpo.row_tokens=1024"),
)


class Devices:
    """A mesh of devices on hosts, as far as formulas ask."""

    def __init__(self, data, fsdp, tensor, each):
        device = lambda number: type("Device", (), {"process_index": number // each})()  # noqa: E731
        self.devices = np.array([device(n) for n in range(data * fsdp * tensor)]).reshape(data, fsdp, tensor)
        self.shape, self.size = {"data": data, "fsdp": fsdp, "tensor": tensor}, self.devices.size


def by_kind(traffic):
    found = {}
    for one in traffic:
        found[one.kind, one.axis] = found.get((one.kind, one.axis), 0) + one.size * one.count
    return found


def test_an_update_by_hand():
    mesh = Devices(2, 4, 2, each=8)
    found = by_kind(update_traffic(SHAPE, mesh, Pass(10, predicted=4, parts=3, size=2), remat=True, frozen=False))
    assert found == pytest.approx(
        {
            ("all-gather", "fsdp"): 3 * 2 * (3 * LINEAR - DOWN + TABLE) / 2,
            ("reduce-scatter", "fsdp"): 3 * 4 * (LINEAR + TABLE) / 2,
            ("all-reduce", "data"): 3 * 4 * (LINEAR + 2 * TABLE) / 2 / 4,
            ("all-to-all", "fsdp"): 3 * 2 * 2 * 10 * 8,
            ("all-reduce", "tensor"): 3 * (5 * 2 * 10 * 8 * 2 + 4 * 10 * 8 + 2 * 4 * 8),
        }
    )


def test_what_is_sent_in_a_ring_and_what_of_it_leaves_a_host():
    mesh = Devices(2, 4, 1, each=4)
    gathered, reduced = Collective("", "all-gather", "fsdp", 80, 3), Collective("", "all-reduce", "data", 10, 1)
    assert gathered.sent(mesh) == 3 * 60 and reduced.sent(mesh) == 10
    assert gathered.leaving(mesh) == 0 and reduced.leaving(mesh) == 4 * 10  # a host is a row; each device has one away
    apart = Devices(1, 8, 1, each=4)
    assert gathered.leaving(apart) == 3 * 70  # the ring goes out of each host once
    assert (sent([gathered, reduced], mesh), leaving([gathered, reduced], mesh)) == (190, 40)


def test_the_slower_of_both_networks_counts():
    chip, mesh = CHIPS["h100"], Devices(2, 4, 1, each=4)
    within, between = Collective("", "all-gather", "fsdp", 6e11, 1), Collective("", "all-reduce", "data", 1e11, 1)
    assert seconds([within], mesh, chip) == pytest.approx(4.5e11 / 4.5e11)
    assert seconds([between], mesh, chip) == pytest.approx(4 * 1e11 / 4e11)


def test_one_device_sends_nothing():
    assert update_traffic(SHAPE, Devices(1, 1, 1, 1), Pass(10, 4, 3, 2), remat=True, frozen=False) == []


@GPU
@pytest.mark.slow
@pytest.mark.compilers
@pytest.mark.parametrize("sizes", [(1, 8, 1), (2, 4, 1), (2, 1, 4)])
def test_an_update_sends_what_the_formulas_say(sizes):
    mesh = [f"--config.mesh.{axis}={size}" for axis, size in zip(("data", "fsdp", "tensor"), sizes, strict=True)]
    config = parse(["plan", CONFIG, *SMALL, *mesh]).config
    programs = stage_programs(config, "grpo", target("h100:2x4"))
    steps = programs.program
    with jax.set_mesh(programs.mesh):
        lowered = steps.update.lower(steps.abstract, programs.batch)
        text = lowered.compile(compiler_options=dict(programs.target.options)).as_text()
    found = totals(text, least=15_000)  # norms, biases and numbers aside
    wanted = by_kind(grpo_step(programs, 0.4)[-1].part.traffic)
    wanted = {(kind, programs.mesh.shape[axis]): size for (kind, axis), size in wanted.items()}
    assert found.keys() == wanted.keys()
    for key, size in wanted.items():
        assert found[key] == pytest.approx(size, rel=0.02), key
