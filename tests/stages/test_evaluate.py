"""Evaluation of a work directory: a damaged newest checkpoint gives way to the one before it, and the run says so."""

import json
import pathlib
import shutil

import pytest

from stgrpo.cli import main

SMOKE = f"--config={pathlib.Path(__file__).resolve().parents[2] / 'configs' / 'tiny.py'}:smoke"


def test_a_damaged_newest_checkpoint_gives_way_to_the_one_before(tmp_path, capsys, caplog):
    workdir = tmp_path / "w"
    arguments = (SMOKE, f"--workdir={workdir}", "--config.evaluation.layouts=2")
    main(["collect", *arguments])
    main(["sft", *arguments])
    newest = workdir / "checkpoints" / "sft" / "6"
    for file in (newest / "params").rglob("d/*"):
        file.write_bytes(file.read_bytes()[:-7])
    main(["evaluate", *arguments])
    assert "checkpoint before it is used" in caplog.text
    settings = json.loads((workdir / "evaluation" / "sft_unseen.json").read_text())["settings"]
    assert settings["step"] == 4
    # Prompts are read with the attention that the config names; this machine cannot do every one.
    with pytest.raises(SystemExit):
        main(
            [
                "evaluate",
                *arguments[:1],
                f"--workdir={tmp_path / 'other'}",
                "--config.model.attention=splash",
                f"--checkpoint={workdir / 'checkpoints' / 'sft' / '4'}",
            ]
        )
    assert "model.attention='splash' needs a TPU" in capsys.readouterr().err
    # The same policy in the same kitchens is not played again; where actions fail it is.
    (workdir / "checkpoints" / "grpo").mkdir()  # as a GRPO run leaves it that is killed before its first checkpoint
    capsys.readouterr()
    main(["evaluate", *arguments])
    assert "sft_unseen is complete, skipped" in capsys.readouterr().out
    checkpoint = f"--checkpoint={workdir / 'checkpoints' / 'sft' / '4'}"
    out = tmp_path / "out"
    for failure in ("0.0", "0.9"):
        flaky = (f"--workdir={out}", "--config.evaluation.layouts=2", f"--config.env.failure={failure}")
        main(["evaluate", SMOKE, checkpoint, *flaky])
        (written,) = out.rglob("sft_unseen.json")
        assert json.loads(written.read_text())["settings"]["failure"] == float(failure)
    assert "skipped" not in capsys.readouterr().out
    shutil.rmtree(workdir / "checkpoints" / "sft" / "4")
    capsys.readouterr()
    try:
        main(["grpo", *arguments])
    except SystemExit as stop:
        assert stop.code == 2
    assert "cannot be read" in capsys.readouterr().err
