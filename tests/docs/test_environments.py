"""What `new-environment` writes, as docs/environments.md has it: the protocol, and a short run."""

import importlib.metadata
import json
import pathlib
import sys
from collections.abc import Iterator
from types import ModuleType, SimpleNamespace

import pytest

from stgrpo import envs
from stgrpo.cli import main, parse
from stgrpo.errors import UserError
from stgrpo.experts.planner_expert import PlannerExpert
from stgrpo.plan.checks import validate
from stgrpo.protocol import GENERAL, SPLITS, InvalidAction, instructions_of
from stgrpo.react.prompt import render_messages
from stgrpo.training.inputs import prompt_style

PAGE = pathlib.Path(__file__).resolve().parents[2] / "docs" / "environments.md"
SMALL = {
    "expert.trajectories": 6,
    "expert.validation": 2,
    "model.width": 32,
    "model.heads": 2,
    "model.kv_heads": 1,
    "model.head_dim": 16,
    "model.mlp_width": 64,
    "sft.steps": 2,
    "sft.batch": 8,
    "evaluation.layouts": 2,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """The package."""
    folder = tmp_path_factory.mktemp("example")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(envs, "_REGISTRY", {})
        main(["new-environment", "hanoi", f"--folder={folder}"])
    folder = folder / "hanoi"
    assert {p.name for p in folder.iterdir()} == {
        "pyproject.toml",
        "README.md",
        "config.py",
        "hanoi.py",
        "test_hanoi.py",
    }
    return folder


@pytest.fixture
def hanoi(folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.setattr(envs, "_REGISTRY", dict(envs._REGISTRY))
    monkeypatch.syspath_prepend(folder)
    import hanoi

    envs.register("hanoi", hanoi.HanoiEnvironment)
    yield hanoi
    del sys.modules["hanoi"]  # it would be there for the next file


def test_the_example_keeps_to_the_protocol(hanoi: ModuleType) -> None:
    environment = envs.get("hanoi")
    assert "hanoi" in envs.names() and envs.engines("hanoi") == ("ours",)
    for task, disks in hanoi.TASKS.items():
        lists = [environment.layouts(task, "start", split=split, count=2) for split in SPLITS]
        assert len({layout for layouts in lists for layout in layouts}) == 6
        problem = environment.make(task, "start:0")
        planner, state = environment.planner(problem), problem.initial_state()
        assert planner.distance(state) == 2**disks - 1  # all disks on one peg
        while not problem.is_goal(state):
            shown = problem.observation(state).split("\n\nValid Actions:\n")[1].split("\n\nGoal: ")[0]
            assert tuple(shown.split("\n")) == problem.valid_actions(state)
            after = problem.step(state, planner.optimal_actions(state)[0])
            assert planner.distance(after) == planner.distance(state) - 1
            state = after
        assert planner.optimal_actions(state) == ()
        with pytest.raises(InvalidAction):
            problem.step(state, "Move disk 2 to peg A")
        with pytest.raises(UserError):
            environment.layouts(task, "start", split="test", count=100)
        assert (
            PlannerExpert(problem, planner).trajectory().steps[0].reasoning.startswith(f"disk {disks} is on peg A and")
        )
    with pytest.raises(UserError):
        environment.make("three_disks", "start:27")


def test_the_example_is_collected_trained_evaluated_and_reported(
    hanoi: ModuleType, folder: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    fields = [f"--config.{name}={value}" for name, value in SMALL.items()]
    for stage in ("collect", "sft", "evaluate", "report"):
        main([stage, f"--config={folder / 'config.py'}", f"--workdir={tmp_path / 'w'}", *fields])
    first = json.loads((tmp_path / "w" / "data" / "four_disks" / "train.jsonl").read_text().splitlines()[0])["steps"][0]
    assert first["reasoning"] == f"disk 4 is on peg A and must go to peg C. {first['distance']} moves are left."
    summary = json.loads((tmp_path / "w" / "evaluation" / "sft_unseen.json").read_text())["summary"]
    assert summary["n"] == 2
    assert "disk 1 is on peg" in (tmp_path / "w" / "report.html").read_text()


def test_the_config_of_the_page_tells_what_the_environment_says(hanoi: ModuleType, folder: pathlib.Path) -> None:
    config = parse(["collect", f"--config={folder / 'config.py'}", "--dry_run"]).config
    system, _ = render_messages("seen", style=prompt_style(config))
    assert system["content"].startswith("You move disks") and hanoi.RULES in system["content"]
    assert validate(config) == []
    config.evaluation.suites = ("unseen", "benchmark")
    (error,) = validate(config)
    assert error.endswith("'hanoi' has no benchmark layouts of four_disks, use evaluation.suites=('unseen',)")


def test_without_words_of_its_own_there_are_general_ones(hanoi: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(hanoi.Hanoi, "explain")
    monkeypatch.delattr(hanoi.HanoiEnvironment, "instructions")
    problem = envs.get("hanoi").make("three_disks", "start:0")
    reasoning = PlannerExpert(problem, problem).trajectory().steps[0].reasoning
    assert reasoning == "Steps to the goal: 7. Next: Move disk 1 to peg C, then Move disk 2 to peg B."
    assert instructions_of(envs.get("hanoi")) is GENERAL


def test_an_entry_point_is_an_environment(hanoi: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = SimpleNamespace(name="towers", value="hanoi:HanoiEnvironment", load=lambda: hanoi.HanoiEnvironment)

    def entry_points(group: str) -> list:
        return [entry] if group == "stgrpo.environments" else []

    monkeypatch.setattr(envs, "entry_points", entry_points)
    assert "towers" in envs.names()
    assert envs.get("towers").make("three_disks", "start:5").start == "CBA"
    with pytest.raises(UserError, match="'tower': unknown; did you mean 'towers'"):
        envs.get("tower")


def test_the_entry_points_named_on_the_page_are_those_looked_up() -> None:
    assert f'[project.entry-points."{envs.ENTRY_POINTS}"]' in PAGE.read_text("utf-8")
    assert envs.entry_points is importlib.metadata.entry_points
