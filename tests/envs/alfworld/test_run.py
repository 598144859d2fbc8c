"""From collection to report in rooms of our own, and in real games where they are at hand."""

import json
import pathlib

import pytest
from commands import call

from stgrpo import envs
from stgrpo.cli import main
from stgrpo.data.records import read_trajectories
from stgrpo.experts.planner_expert import PlannerExpert

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


def test_a_served_expert_plays_rooms_as_it_does_kitchens(chat, tmp_path: pathlib.Path) -> None:
    """It says what the expert that searches would, but for one room in which it gives up at first."""
    alfworld, task, answers, refused = envs.get("alfworld"), "look_at_obj_in_light", {}, []
    for split in ("train", "validation"):
        for layout in alfworld.layouts(task, "small", split=split, count=4):
            problem = alfworld.make(task, layout)
            for step in PlannerExpert(problem, alfworld.planner(problem)).trajectory().steps:
                answers[step.observation] = f"Reasoning: {step.reasoning}\nAction: {step.action}"

    def reply(body: dict) -> str:
        asked = body["messages"][-1]["content"]
        if not refused:
            refused.append(asked)
            return "Reasoning: too hard\nAction: Finish"
        return answers[asked]

    fields = [
        *("expert.kind=llm", "expert.model=m", "expert.trajectories=2", "expert.validation=1", "client.concurrency=1"),
        *(f"env.tasks=('{task}',)", f"expert.server={chat(reply).address}"),
    ]
    words = [f"--config={CONFIG}:smoke", f"--workdir={tmp_path / 'w'}", *(f"--config.{field}" for field in fields)]
    assert call("collect", *words) == 0
    learned = read_trajectories(tmp_path / "w" / "data" / task / "train.jsonl")
    problems = [alfworld.make(task, trajectory.layout) for trajectory in learned]
    assert learned == [PlannerExpert(p, alfworld.planner(p)).trajectory() for p in problems] and len(problems) == 2
    facts = json.loads((tmp_path / "w" / "expert" / task / "train.json").read_text())
    assert (facts["kept"], facts["episodes"], facts["failures"]) == (2, 3, {"finish": 1})
    assert facts["mean_excess"] is not None  # the planner that sees everything has judged each state
