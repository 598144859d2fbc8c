"""The memory that a dry run tells, worked out by hand."""

import pathlib

import jax
import pytest

from stgrpo.cli import parse
from stgrpo.errors import UserError
from stgrpo.models.sharding import make_mesh
from stgrpo.plan.dry_run import describe
from stgrpo.plan.sizes import state_parts
from stgrpo.rl.programs import train_program
from stgrpo.training.start import starting_shape

SMOKE = f"--config={pathlib.Path(__file__).resolve().parents[2] / 'configs' / 'tiny.py'}:smoke"
# Vocabulary 1024, width 32, 2 layers of 2 heads and 1 K/V head of size 16, MLP 64; tied.
MATRICES = 1024 * 32 + 2 * (2 * 32 * 32 + 2 * 32 * 16 + 3 * 32 * 64)
VECTORS = 32 + 2 * (2 * 32 + 32 + 2 * 16)
MIB = 2**20
ADAMW = ("--config.sft.optimiser=adamw", "--config.grpo.optimiser=adamw")


def parts(*options, sizes=(1, 1, 1)):
    config = parse(["grpo", SMOKE, "--dry_run", *ADAMW, *options]).config
    mesh = make_mesh(*sizes, devices=jax.devices()[: sizes[0] * sizes[1] * sizes[2]])
    return state_parts(train_program(config, "grpo", starting_shape(config), mesh, updates=1), reference=True)


def test_whole_model():
    every = 4 * (MATRICES + VECTORS)
    wanted = {"parameters": every, "gradient": every, "optimiser": 2 * every + 12, "frozen reference": every}
    assert parts() == wanted
    halved = parts("--config.grpo.moment_dtype=bfloat16")
    assert halved == wanted | {"optimiser": every + 12}


def test_muon_keeps_one_moment_of_the_layers_maps():
    rest = 1024 * 32 + VECTORS
    assert parts("--config.grpo.optimiser=muon")["optimiser"] == 4 * (MATRICES - 1024 * 32) + 2 * 4 * rest + 28


def test_a_critic_is_a_second_model_with_an_optimiser_of_its_own():
    every = 4 * (MATRICES + VECTORS)
    critic = every + 4 * 32  # and the head of its values
    found = parts("--config.grpo.baseline=critic", "--config.grpo.scale_by_std=False")
    assert found == parts() | {"critic": critic, "critic's optimiser": 2 * critic + 12}


def test_a_quarter_a_device_but_for_norms_and_biases():
    cut = parts(sizes=(1, 2, 2))["parameters"]
    assert MATRICES < cut < MATRICES + 4 * VECTORS + 4 * 2 * 2 * 32 * 16  # one K/V head is not cut in two


@pytest.mark.parametrize(("dtype", "size"), [("float32", 4), ("bfloat16", 2)])
def test_adapters(dtype, size):
    found = parts("--config.lora.rank=4", "--config.lora.stages=('grpo',)", f"--config.lora.base_dtype={dtype}")
    adapters = 4 * 2 * 4 * (2 * (32 + 32) + 2 * (32 + 16) + 3 * (32 + 64))
    assert found == {
        "parameters": adapters,
        "gradient": adapters,
        "optimiser": 2 * adapters + 12,
        "frozen base": size * MATRICES + 4 * VECTORS,
    }


def test_a_dry_run_shows_both_stages():
    options = (*ADAMW, "--config.lora.rank=4", "--config.lora.stages=('grpo',)", "--config.mesh.data=8")
    text = describe("run", parse(["run", SMOKE, "--dry_run", *options]).config)
    (sft,), (grpo,) = ([x for x in text.splitlines() if x.startswith(f"state    {s}")] for s in ("sft", "grpo"))
    whole = 4 * (MATRICES + VECTORS) / MIB
    assert f"sft: {4 * whole:.1f} MiB a device" in sft and f"frozen base {whole:.1f} MiB" in grpo


def test_more_layers_with_adapters_than_there_are_is_one_line():
    options = ("--config.lora.rank=4", "--config.lora.stages=('grpo',)", "--config.lora.layers=3")
    with pytest.raises(UserError, match="lora.layers=3 is over the 2 layers of the model: use at most 2, or 0 for all"):
        parts(*options)
