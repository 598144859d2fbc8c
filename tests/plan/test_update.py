"""`stgrpo plan`: compiles for a mesh without running, and says in one line what does not fit."""

import pathlib
import re

import jax
import pytest

from stgrpo.cli import main, parse
from stgrpo.console import ProgramLog
from stgrpo.data.examples import Example
from stgrpo.data.records import Step
from stgrpo.errors import UserError
from stgrpo.models.sharding import make_mesh
from stgrpo.plan.update import abstract_batch, plan
from stgrpo.react.reward import RewardWeights
from stgrpo.rl.group_batch import group_batch, score
from stgrpo.sampling.base import Samples
from stgrpo.training.batch_packer import BatchPacker

SMOKE = f"--config={pathlib.Path(__file__).resolve().parents[2] / 'configs' / 'tiny.py'}:smoke"


def test_the_plan_counts_tokens_and_memory_by_itself(capsys):
    main(["plan", SMOKE])
    shown = capsys.readouterr().out
    assert "8 x cpu" in shown and f"{8 * (256 + 4 * 48):,} tokens" in shown
    assert float(re.search(r"arguments ([\d.]+) MiB", shown).group(1)) > 0
    peak, arguments = (float(re.search(rf"{p}([\d.]+) MiB", shown).group(1)) for p in ("a device: ", "arguments "))
    assert peak > arguments


def test_packed_rows_are_planned_for_the_longest_groups():
    text = plan(parse(["plan", SMOKE, "--config.grpo.row_tokens=1024", "--config.grpo.micro_batches=2"]).config)
    # Two groups of 256 + 4 * 48 tokens a row: four rows, a row for each of eight devices, in one part and not in two.
    assert "8 rows of 1024 tokens, 384 of them predicted" in text


def test_fsdp_shrinks_the_arguments():
    def arguments(*overrides: str) -> float:
        text = plan(parse(["plan", SMOKE, *overrides]).config)
        return float(re.search(r"arguments ([\d.]+) MiB", text).group(1))

    assert arguments("--config.mesh.data=1", "--config.mesh.fsdp=8") < 0.5 * arguments()


@pytest.mark.parametrize(("override", "says"), [("mesh.fsdp=3", "mesh data"), ("grpo.prompts=4", "grpo.prompts=4")])
def test_what_does_not_fit_the_mesh_is_said(override, says):
    with pytest.raises(UserError, match=says):
        plan(parse(["plan", SMOKE, f"--config.{override}"]).config)


@pytest.mark.parametrize("rows", [0, 1024])
@pytest.mark.parametrize("passes", [1, 2])
def test_what_is_planned_is_what_a_run_gives_to_its_updates(rows, passes, tmp_path):
    """The same arrays in the same dtypes, the sampler's log-probabilities among them, whatever is done with those."""
    given = [f"--config.grpo.row_tokens={rows}", f"--config.grpo.passes={passes}", "--config.rollout.correction=token"]
    config = parse(["plan", SMOKE, *given]).config
    mesh = make_mesh(1, devices=jax.devices()[:1])
    planned = abstract_batch(config, mesh)
    step = Step("observation", ("go",), "reasoning", "go", ("go",), 1)
    example = Example(tuple(range(1, 101)), (5, 6), step, "task", "layout", 0)
    samples = Samples([[[7, 8, 9]] * 4], [[[-1.0, -2.0, -0.5]] * 4], [["stop", "length"] * 2], 0)
    groups = score([example], samples, [["x"] * 4], target="expert", weights=RewardWeights(0.1, 0.9))
    lay_out = BatchPacker("grpo", config, mesh, ProgramLog("grpo", tmp_path / "programs.log"))
    batch = lay_out(group_batch(groups, aggregation="token_mean", scale_by_std=True, limit=48))
    old_logp = batch.terms.ref_logp if passes > 1 else None
    real = batch.with_logprobs(batch.terms.ref_logp, old_logp)
    assert jax.tree.structure(planned) == jax.tree.structure(real)
    assert [x.dtype for x in jax.tree.leaves(planned)] == [x.dtype for x in jax.tree.leaves(real)]
    assert [x.ndim for x in jax.tree.leaves(planned)] == [x.ndim for x in jax.tree.leaves(real)]
