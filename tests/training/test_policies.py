"""Adapters through the stages: SFT on a checkpoint, GRPO on that; resumed, exported, played, and their base missed."""

import json
import pathlib
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from commands import call

from stgrpo.errors import UserError
from stgrpo.models.huggingface.config import read_shape
from stgrpo.models.huggingface.weights import load_folder
from stgrpo.models.lora import merged
from stgrpo.models.shapes import LINEAR
from stgrpo.models.sharding import make_mesh
from stgrpo.monitors.base import repeatable
from stgrpo.training.checkpointing import load_metadata
from stgrpo.training.policies import check_base, read_merged, read_policy
from stgrpo.training.start import abstract_model

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
SMOKE = f"--config={REPOSITORY / 'configs' / 'tiny.py'}:smoke"
LORA = (
    "--config.lora.rank=4",
    "--config.lora.base_dtype=bfloat16",
    "--config.sft.steps=4",
    "--config.sft.learning_rate=0.02",
    "--config.grpo.steps=1",
    "--config.grpo.validate_every=0",
    "--config.evaluation.layouts=1",
)


def abstract(folder):
    return abstract_model(load_metadata(folder).shape, make_mesh(1, 1, 1, jax.devices()[:1]))


def metrics(workdir, stage):
    rows = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return [repeatable(row) for row in rows if row["stage"] == stage]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A step folder of SFT that trained all parameters."""
    workdir = tmp_path_factory.mktemp("whole") / "w"
    options = (SMOKE, f"--workdir={workdir}", "--config.sft.steps=2")
    assert call("collect", *options) == 0 and call("sft", *options) == 0
    return workdir / "checkpoints" / "sft" / "2"


@pytest.fixture(scope="module")
def run(whole, tmp_path_factory):
    """A work directory with adapters of SFT on that folder, and of GRPO on top; and the options of its commands."""
    workdir = tmp_path_factory.mktemp("adapters") / "w"
    options = (SMOKE, f"--config.init_from={whole}", *LORA)
    for stage in ("collect", "sft", "grpo"):
        assert call(stage, *options, f"--workdir={workdir}") == 0
    return workdir, options


def test_what_is_exported_is_the_base_with_its_adapters_added(run, whole, tmp_path):
    step = run[0] / "checkpoints" / "sft" / "4"
    assert call("export", f"--checkpoint={step}", f"--workdir={tmp_path / 'model'}") == 0
    mesh = make_mesh(1, 1, 1, jax.devices()[:1])
    exported = load_folder(tmp_path / "model", abstract_model(read_shape(tmp_path / "model"), mesh))
    base, adapters = read_merged(whole, abstract(whole))[0], read_policy(step, abstract(step)).layers.adapters
    for name in LINEAR:
        a, b = (np.asarray(getattr(adapters, name + part)[...]) for part in ("_a", "_b"))
        rounded = np.asarray(getattr(base.layers, name)[...].astype(jnp.bfloat16).astype(jnp.float32))
        change = np.stack([np.tensordot(x, y, 1) for x, y in zip(a, b, strict=True)]) * 32.0 / 4
        assert np.abs(change).max() > 1e-3
        np.testing.assert_allclose(getattr(exported.layers, name)[...], rounded + change, atol=1e-6)
    np.testing.assert_array_equal(exported.layers.mlp_norm[...], base.layers.mlp_norm[...])


def test_sft_of_adapters_goes_on_as_if_it_had_not_been_killed(run, tmp_path, capsys):
    (done, options), workdir = run, tmp_path / "w"
    shutil.copytree(done, workdir, ignore=lambda folder, names: ["4", "grpo"] if folder.endswith("sft") else [])
    assert call("sft", *options, f"--workdir={workdir}") == 0
    assert "resumed at step 2" in capsys.readouterr().out
    rows = metrics(workdir, "sft")
    assert rows == metrics(done, "sft") and rows[-1]["response_loss"] < rows[0]["response_loss"]
    fingerprints = [load_metadata(w / "checkpoints" / "sft" / "4").fingerprint for w in (done, workdir)]
    assert fingerprints[0] == fingerprints[1]


def test_the_reference_of_grpo_is_the_merged_sft_policy(run):
    sft, grpo = (run[0] / "checkpoints" / stage / step for stage, step in (("sft", "4"), ("grpo", "1")))
    record = load_metadata(grpo)
    assert record.reference == record.base == load_metadata(sft).identity
    (row,) = metrics(run[0], "grpo")
    assert row["ratio_first"] == pytest.approx(1.0, abs=1e-6) and row["kl"] == pytest.approx(0.0, abs=1e-6)
    wanted = merged(read_policy(sft, abstract(sft)))
    for mine, other in zip(jax.tree.leaves(read_merged(grpo, abstract(grpo))[0]), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(mine, other, rtol=2**-8, atol=1e-6)  # the base of GRPO is rounded to bfloat16


def test_a_checkpoint_of_adapters_plays(run, tmp_path):
    step = run[0] / "checkpoints" / "grpo" / "1"
    assert call("evaluate", f"--checkpoint={step}", f"--workdir={tmp_path / 'out'}") == 0
    assert (tmp_path / "out" / "evaluation" / "grpo_unseen.json").is_file()


def test_adapters_without_their_base_are_refused(run, whole, tmp_path, capsys):
    shutil.copytree(run[0] / "checkpoints" / "grpo" / "1", tmp_path / "checkpoints" / "grpo" / "1")
    alone = tmp_path / "checkpoints" / "grpo" / "1"
    assert call("export", f"--checkpoint={alone}", f"--workdir={tmp_path / 'model'}") == 2
    error = capsys.readouterr().err
    assert "their base is not in" in error and error.count("\n") == 1
    shutil.copytree(whole.parent, tmp_path / "checkpoints" / "sft")  # there is one now, but another
    with pytest.raises(UserError, match="were trained on base"):
        read_policy(alone, abstract(alone))
    check_base("", load_metadata(whole), "anything")  # a whole model has none
