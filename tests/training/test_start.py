"""Where a run starts, and what becomes of a checkpoint: through the command line, in one process."""

import json
import pathlib

import jax
import numpy as np
import pytest
from commands import call
from transformers import AutoTokenizer

from stgrpo.data.tokenizer import Tokenizer
from stgrpo.models.huggingface.config import read_shape
from stgrpo.models.huggingface.weights import load_folder
from stgrpo.models.sharding import make_mesh
from stgrpo.training.checkpointing import load_metadata, load_params
from stgrpo.training.start import abstract_model

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
SMOKE = f"--config={REPOSITORY / 'configs' / 'tiny.py'}:smoke"
STILL = ("--config.sft.steps=1", "--config.sft.learning_rate=1e-12")  # what it ends with is what it started with


def read(folder):
    abstract = abstract_model(load_metadata(folder).shape, make_mesh(1, 1, 1, jax.devices()[:1]))
    return load_params(folder, abstract)


def assert_equal(a, b, atol=0.0):
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_allclose(np.asarray(x), np.asarray(y), rtol=0, atol=atol)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A step folder of SFT."""
    workdir = tmp_path_factory.mktemp("first") / "w"
    options = (SMOKE, f"--workdir={workdir}", "--config.sft.steps=2")
    assert call("collect", *options) == 0 and call("sft", *options) == 0
    return workdir / "checkpoints" / "sft" / "2"


@pytest.fixture(scope="module")
def exported(checkpoint, tmp_path_factory):
    folder = tmp_path_factory.mktemp("exported") / "model"
    assert call("export", f"--checkpoint={checkpoint}", f"--workdir={folder}") == 0
    return folder


def test_export_holds_the_same_parameters_and_tokenizer(checkpoint, exported):
    assert read_shape(exported) == load_metadata(checkpoint).shape
    mesh = make_mesh(1, 1, 1, jax.devices()[:1])
    assert_equal(load_folder(exported, abstract_model(read_shape(exported), mesh)), read(checkpoint))
    carried = Tokenizer.from_files(load_metadata(checkpoint).tokenizer)
    text = "table1 holds patty2, and the robot is at stove13"
    assert Tokenizer.load(exported).encode_response(text) == carried.encode_response(text)
    assert len(carried.encode_response(text)) < 20


def test_auto_tokenizer_reads_an_exported_tokenizer_as_it_is(checkpoint, tmp_path, caplog):
    assert call("export", f"--checkpoint={checkpoint}", f"--workdir={tmp_path / 'm'}", "--dtype=bfloat16") == 0
    assert "AutoTokenizer" not in caplog.text
    text, mine = "2 patties  at stove1\n\nand 13 more", Tokenizer.from_files(load_metadata(checkpoint).tokenizer)
    assert AutoTokenizer.from_pretrained(str(tmp_path / "m")).encode(text) == mine.base.encode(text)


def test_export_says_so_where_auto_tokenizer_reads_another_one(checkpoint, tmp_path, caplog, monkeypatch):
    monkeypatch.setattr("stgrpo.stages.export.auto_reads_alike", lambda folder, tokenizer: False)
    assert call("export", f"--checkpoint={checkpoint}", f"--workdir={tmp_path / 'm'}", "--dtype=bfloat16") == 0
    assert "PreTrainedTokenizerFast" in caplog.text


@pytest.mark.parametrize("source", ["init_from", "model.path"])
def test_a_run_starts_from_what_it_is_given(checkpoint, exported, tmp_path, source):
    given = checkpoint if source == "init_from" else exported
    options = (SMOKE, f"--workdir={tmp_path / 'w'}", f"--config.{source}={given}", *STILL)
    assert call("collect", *options) == 0 and call("sft", *options) == 0
    started = tmp_path / "w" / "checkpoints" / "sft" / "1"
    assert_equal(read(started), read(checkpoint), atol=1e-9)
    mine, theirs = (json.loads(load_metadata(f).tokenizer["tokenizer.json"]) for f in (started, checkpoint))
    assert mine == theirs


def test_another_model_or_tokenizer_is_refused(checkpoint, exported, tmp_path, capsys):
    options = (SMOKE, f"--workdir={tmp_path / 'w'}", f"--config.init_from={checkpoint}", "--config.model.mlp_width=96")
    assert call("collect", *options) == 0 and call("sft", *options) == 2
    assert "mlp_width=64 there, 96 here" in capsys.readouterr().err
    options = (SMOKE, f"--workdir={tmp_path / 'v'}", f"--config.model.path={exported}", "--config.limits.prompt=9000")
    assert call("collect", *options) == 0 and call("sft", *options) == 2
    assert "lower them" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["export", "--workdir=out", SMOKE], "--checkpoint is missing"),
        (["export", "--checkpoint={checkpoint}"], "--workdir is missing"),
        (["export", "--checkpoint=nowhere", "--workdir=out"], "nowhere is not a checkpoint"),
        (["export", "--checkpoint={checkpoint}", "--workdir=out", "--dtype=int8"], "dtype"),
        (["export", "--checkpoint={checkpoint}", "--workdir={checkpoint}"], "not an empty folder"),
        (
            ["sft", "--checkpoint={checkpoint}", "--workdir=out"],
            "--checkpoint is for evaluate, export and serve, not for sft",
        ),
        (["sft", SMOKE, "--workdir=out", "--dtype=bfloat16"], "--dtype is for export"),
    ],
)
def test_mistakes(checkpoint, tmp_path, monkeypatch, capsys, arguments, says):
    monkeypatch.chdir(tmp_path)
    assert call(*(a.format(checkpoint=checkpoint) for a in arguments)) == 2
    error = capsys.readouterr().err
    assert says in error and error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
