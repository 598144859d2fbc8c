"""A Hugging Face folder plays without training, in a work directory of its own or beside what was trained."""

import json
import pathlib

import pytest
from commands import call

from stgrpo.data.tokenizer import Tokenizer, train_tokenizer
from stgrpo.evaluation.files import read_episodes
from stgrpo.models.huggingface.weights import save_folder
from stgrpo.models.shapes import ModelShape

SMOKE = f"--config={pathlib.Path(__file__).resolve().parents[2] / 'configs' / 'tiny.py'}:smoke"
PLAY = ("evaluate", SMOKE, "--config.evaluation.layouts=2", "--config.policy.kind=model")


@pytest.fixture(scope="module")
def models(make_model, tmp_path_factory):
    """Two folders that differ in their weights alone."""
    tokenizer = Tokenizer(train_tokenizer(["table1 is empty"], vocab_size=300))
    root, sizes = tmp_path_factory.mktemp("models"), (1, 1, 1, 8, 8)
    for seed, name in enumerate(("first", "second")):
        shape = ModelShape(tokenizer.vocab_size, 8, *sizes, max_position=2048)
        save_folder(make_model(shape, seed), tokenizer, root / name)
    return root


@pytest.mark.slow
def test_an_exported_checkpoint_plays_as_it_did_beside_it_and_in_its_report(tmp_path):
    workdir, out = f"--workdir={tmp_path / 'w'}", tmp_path / "out"
    layouts = "--config.evaluation.layouts=2"
    assert call("collect", SMOKE, workdir, layouts) == call("sft", SMOKE, workdir, layouts) == 0
    assert call("export", f"--checkpoint={tmp_path / 'w' / 'checkpoints' / 'sft' / '6'}", f"--workdir={out}") == 0
    assert call("evaluate", SMOKE, workdir, layouts) == 0
    assert call(*PLAY, workdir, f"--config.policy.path={out}") == 0
    results = tmp_path / "w" / "evaluation"
    assert read_episodes(results / "out_unseen.episodes.jsonl") == read_episodes(results / "sft_unseen.episodes.jsonl")
    assert call("report", SMOKE, workdir, layouts) == 0
    assert ">out<" in (tmp_path / "w" / "report.html").read_text()


def test_a_result_is_used_again_for_the_same_model_with_the_same_prompts(models, tmp_path, capsys):
    given, workdir = f"--config.model.path={models / 'first'}", f"--workdir={tmp_path}"
    prompts = ("--config.limits.prompt=1500", "--config.limits.response=4")  # its tokens are bytes

    def play(*more) -> tuple[bool, dict]:
        capsys.readouterr()
        assert call(*PLAY, given, workdir, *prompts, *more) == 0
        skipped = "is complete, skipped" in capsys.readouterr().out
        (newest,) = (p for p in (tmp_path / "evaluation").glob("*.json") if "named" in p.name or not more)
        return skipped, json.loads(newest.read_text())["settings"]

    skipped, settings = play()
    assert not skipped and settings["stage"] == "base" and settings["parameters"] > 0
    assert play() == (True, settings)
    other = (f"--config.policy.path={models / 'second'}", "--config.policy.name=named")
    skipped, theirs = play(*other)
    assert not skipped and theirs["files"] != settings["files"]
    assert play(*other) == (True, theirs)
    skipped, changed = play(*other, "--config.policy.history=last_action")
    assert not skipped and (theirs["history"], changed["history"]) == ("none", "last_action")
    skipped, longer = play(*other, "--config.policy.prompt=1600")
    assert not skipped and (theirs["limits"]["prompt"], longer["limits"]["prompt"]) == (1500, 1600)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ((), "policy.kind='model' has no model: set policy.path, or model.path"),
        (("--config.policy.path=nowhere",), "holds no tokenizer"),
        (("--config.policy.path={first}", "--config.policy.name=grpo"), "policy.name='grpo' cannot name"),
        (("--config.policy.path={first}", "--config.limits.prompt=9000"), "over the model's 2048 positions"),
        (("--config.policy.path={first}", "--checkpoint=w/checkpoints/sft/6"), "are two policies"),
        (
            ("--config.policy.path={first}",),
            "over the limit of 256: set --config.policy.prompt to",
        ),
    ],
)
@pytest.mark.parametrize("dry", [(), ("--dry_run",)])
def test_what_cannot_play_is_one_line(options, says, dry, models, tmp_path, capsys):
    filled = [option.format(first=models / "first") for option in options]
    assert call(*PLAY, f"--workdir={tmp_path / 'w'}", *filled, *dry) == 2
    said = capsys.readouterr().err
    assert says in said and said.count("\n") == 1


def test_a_dry_run_says_who_would_play(models, tmp_path, capsys):
    long = "--config.policy.prompt=1500"
    assert call(*PLAY, f"--config.policy.path={models / 'first'}", long, "--dry_run") == 0
    assert f"parameters of {models / 'first'}, as first: 2 layouts unseen" in capsys.readouterr().out
