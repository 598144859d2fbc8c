"""A point gets what another work directory has made, and what is written later in either stays its own."""

import json

from stgrpo.sweeps.share import share
from stgrpo.workdir import WorkDir


def a_run(folder):
    run = WorkDir(folder)
    for name in ("data/burger/train.jsonl", "data/burger/train.key.json", "tokenizer/tokenizer.json", "samples.jsonl"):
        (run.path / name).parent.mkdir(parents=True, exist_ok=True)
        (run.path / name).write_text(name)
    for stage in ("sft", "grpo"):
        step = run.checkpoints(stage) / "6" / "params" / "d"
        step.mkdir(parents=True)
        (step / "array").write_bytes(b"1" * 100)
        (run.checkpoints(stage) / "8.00000008.part").mkdir()
        run.evaluation.mkdir(exist_ok=True)
        (run.evaluation / f"{stage}_unseen.json").write_text(stage)
        (run.evaluation / f"{stage}_unseen.episodes.jsonl").write_text(stage)
    lines = [{"stage": stage, "step": 1} for stage in ("collect", "sft", "grpo", "evaluate")]
    run.metrics.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return run


def files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_checkpoints_are_linked_all_else_is_copied_and_only_of_the_stages_that_are_asked_for(tmp_path):
    source, target = a_run(tmp_path / "a"), WorkDir(tmp_path / "b")
    share(source, target, ("collect", "sft"))
    assert files(target.path) == [
        "checkpoints/sft/6/params/d/array",
        "data/burger/train.jsonl",
        "data/burger/train.key.json",
        "evaluation/sft_unseen.episodes.jsonl",
        "evaluation/sft_unseen.json",
        "metrics.jsonl",
        "tokenizer/tokenizer.json",
    ]
    assert [json.loads(line)["stage"] for line in target.metrics.read_text().splitlines()] == ["collect", "sft"]
    linked = [f for f in files(target.path) if (target.path / f).stat().st_nlink > 1]
    assert linked == ["checkpoints/sft/6/params/d/array"]


def test_it_goes_on_where_it_was_ended_and_leaves_what_is_there(tmp_path):
    source, target = a_run(tmp_path / "a"), WorkDir(tmp_path / "b")
    target.data("burger", "train").parent.mkdir(parents=True)
    target.data("burger", "train").write_text("mine")
    (target.checkpoints("sft") / "6.12345678.part").mkdir(parents=True)
    share(source, target, ("collect", "sft", "grpo"))
    share(source, target, ("collect", "sft", "grpo"))
    assert target.data("burger", "train").read_text() == "mine"
    assert (target.checkpoints("grpo") / "6" / "params" / "d" / "array").read_bytes() == b"1" * 100
    assert target.samples.read_text() == "samples.jsonl"


def test_where_files_cannot_be_linked_they_are_copied(tmp_path, monkeypatch):
    def refuse(source, target):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr("os.link", refuse)
    source, target = a_run(tmp_path / "a"), WorkDir(tmp_path / "b")
    share(source, target, ("collect", "sft"))
    array = target.checkpoints("sft") / "6" / "params" / "d" / "array"
    assert array.read_bytes() == b"1" * 100 and array.stat().st_nlink == 1
