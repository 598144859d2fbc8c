"""The batches that `stgrpo plan` compiles for: those that a run gives to its updates."""

import pathlib

import jax
import jax.numpy as jnp
import pytest

from stgrpo.cli import parse
from stgrpo.console import ProgramLog
from stgrpo.data.examples import Example
from stgrpo.data.records import Step
from stgrpo.errors import UserError
from stgrpo.models.sharding import make_mesh
from stgrpo.plan.batches import abstract_batch
from stgrpo.plan.programs import stage_programs
from stgrpo.plan.step import sft_step
from stgrpo.plan.topologies import target
from stgrpo.react.reward import RewardWeights
from stgrpo.rl.group_batch import group_batch, score
from stgrpo.sampling.base import Samples
from stgrpo.training.batch_packer import BatchPacker
from stgrpo.training.frozen_states import FrozenStates
from stgrpo.training.sft import sft_batch, sft_shapes

SMOKE = f"--config={pathlib.Path(__file__).resolve().parents[2] / 'configs' / 'tiny.py'}:smoke"
STEP = Step("observation", ("go",), "reasoning", "go", ("go",), 1)


def test_packed_rows_are_planned_for_the_longest_groups():
    config = parse(["plan", SMOKE, "--config.grpo.row_tokens=1024", "--config.grpo.micro_batches=2"]).config
    found = stage_programs(config, "grpo", target(""))
    # Two groups of 256 + 4 * 48 tokens a row: four rows, a row for each of eight devices, in one part and not in two.
    assert found.batch.shape_text == "8 rows of 1024 tokens, 384 of them predicted" and found.micro_batches == 1


@pytest.mark.parametrize(("override", "says"), [("mesh.fsdp=3", "mesh data"), ("grpo.prompts=4", "grpo.prompts=4")])
def test_what_does_not_fit_the_mesh_is_said(override, says):
    with pytest.raises(UserError, match=says):
        stage_programs(parse(["plan", SMOKE, f"--config.{override}"]).config, "grpo", target(""))


def same_arrays(planned, real):
    assert jax.tree.structure(planned) == jax.tree.structure(real)
    assert [x.dtype for x in jax.tree.leaves(planned)] == [x.dtype for x in jax.tree.leaves(real)]
    assert [x.ndim for x in jax.tree.leaves(planned)] == [x.ndim for x in jax.tree.leaves(real)]


@pytest.mark.parametrize("rows", [0, 1024])
@pytest.mark.parametrize("prompt_weight", [0.0, 1.0])
def test_what_is_planned_is_what_sft_gives_to_its_updates(rows, prompt_weight, tmp_path):
    given = [f"--config.sft.row_tokens={rows}", f"--config.sft.prompt_weight={prompt_weight}"]
    config, mesh = parse(["plan", SMOKE, *given]).config, make_mesh(1, devices=jax.devices()[:1])
    lay_out = BatchPacker("sft", config, mesh, ProgramLog("sft", tmp_path / "programs.log"))
    longest = Example((1,) * 256, (2,) * 48, STEP, "task", "layout", 0)
    real = lay_out(sft_batch([longest] * config.sft.batch, prompt_weight))
    planned = abstract_batch(config, mesh, "sft")
    same_arrays(planned, real)
    assert planned.shape_text == real.shape_text


def test_what_is_planned_behind_frozen_layers_is_what_sft_gives_to_its_updates():
    given = ["--config.sft.keep_frozen=True", "--config.lora.rank=4", "--config.lora.layers=1"]
    config, mesh = parse(["plan", SMOKE, *given]).config, make_mesh(1, devices=jax.devices()[:1])
    found = stage_programs(config, "sft", target(""))
    examples = [Example((1,) * 256, (2,) * 48, STEP, "task", "layout", 0)] * config.sft.batch
    shapes, width = sft_shapes(examples), found.shape.width
    kept = FrozenStates(examples, shapes=shapes, skip=0, batch=4)
    list(kept.compute(range(len(examples)), lambda batch: jnp.zeros((len(batch.prompt_BP), 256 + 48, width))))
    same_arrays(found.batch, kept.added_to(sft_batch(examples, config.sft.prompt_weight), range(len(examples))))
    spared = sft_step(found, 0.5)[0].part.work.needed
    config.sft.keep_frozen = False
    assert abstract_batch(config, mesh, "sft", width=width).below_BSD is None
    assert spared < sft_step(stage_programs(config, "sft", target("")), 0.5)[0].part.work.needed


@pytest.mark.parametrize("rows", [0, 1024])
@pytest.mark.parametrize("passes", [1, 2])
def test_what_is_planned_is_what_a_run_gives_to_its_updates(rows, passes, tmp_path):
    """The same arrays in the same dtypes, the sampler's log-probabilities among them, whatever is done with those."""
    given = [f"--config.grpo.row_tokens={rows}", f"--config.grpo.passes={passes}", "--config.rollout.correction=token"]
    config = parse(["plan", SMOKE, *given]).config
    mesh = make_mesh(1, devices=jax.devices()[:1])
    planned = abstract_batch(config, mesh)
    example = Example(tuple(range(1, 101)), (5, 6), STEP, "task", "layout", 0)
    samples = Samples([[[7, 8, 9]] * 4], [[[-1.0, -2.0, -0.5]] * 4], [["stop", "length"] * 2], 0)
    groups = score([example], samples, [["x"] * 4], target="expert", weights=RewardWeights(0.1, 0.9))
    lay_out = BatchPacker("grpo", config, mesh, ProgramLog("grpo", tmp_path / "programs.log"))
    batch = lay_out(group_batch(groups, aggregation="token_mean", scale_by_std=True, limit=48))
    old_logp = batch.terms.ref_logp if passes > 1 else None
    real = batch.with_logprobs(batch.terms.ref_logp, old_logp)
    same_arrays(planned, real)
