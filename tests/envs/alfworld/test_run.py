"""From collection to report in rooms of our own, and in real games where they are at hand."""

import json
import pathlib

import pytest

from stgrpo.cli import main
from stgrpo.data.records import read_trajectories

CONFIG = pathlib.Path(__file__).resolve().parents[3] / "configs" / "alfworld.py"


@pytest.mark.slow
def test_every_stage_passes_by(tmp_path: pathlib.Path) -> None:
    fields = ["sft.steps=2", "grpo.steps=2", "grpo.validate_every=2", "evaluation.layouts=2", "expert.trajectories=4"]
    words = [f"--config={CONFIG}:smoke", f"--workdir={tmp_path / 'w'}", *(f"--config.{field}" for field in fields)]
    main(["run", *words])
    summary = json.loads((tmp_path / "w" / "evaluation" / "grpo_unseen.json").read_text())
    assert summary["summary"]["n"] == 4 and set(summary["tasks"]) == {"pick_and_place_simple", "look_at_obj_in_light"}
    assert summary["summary"]["unjudged"] == 0
    assert "unseen small rooms of our generator" in (tmp_path / "w" / "report.html").read_text()


def test_real_games_are_collected(tmp_path: pathlib.Path, pack: pathlib.Path) -> None:
    fields = ["env.family=games", f"env.data={pack}", "expert.trajectories=3", "expert.validation=1"]
    words = [f"--config={CONFIG}:smoke", f"--workdir={tmp_path / 'w'}", *(f"--config.{field}" for field in fields)]
    main(["collect", *words])
    trajectories = read_trajectories(tmp_path / "w" / "data" / "look_at_obj_in_light" / "train.jsonl")
    assert [trajectory.layout.partition(":")[0] for trajectory in trajectories] == ["train"] * 3
    steps = [step for trajectory in trajectories for step in trajectory.steps]
    assert any(step.action not in step.optimal_actions for step in steps)
