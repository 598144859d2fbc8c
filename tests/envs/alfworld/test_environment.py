"""The environment keeps to the protocol: layouts, splits, data and what is said without them, expert and rewards."""

import io
import itertools
import json
import pathlib
import re

import pytest

from stgrpo import envs
from stgrpo.cli import main, parse
from stgrpo.envs.alfworld import load, make
from stgrpo.envs.alfworld.game.room import TASKS
from stgrpo.envs.alfworld.layouts.generator import FAMILIES, made_game
from stgrpo.envs.alfworld.layouts.layouts import Layouts
from stgrpo.envs.alfworld.layouts.usual_places import TABLE, table, training_rooms
from stgrpo.envs.stochastic import FlakyEnvironment
from stgrpo.errors import UserError
from stgrpo.evaluation.suites import suite_layouts, suites
from stgrpo.experts.planner_expert import PlannerExpert
from stgrpo.plan.checks import validate
from stgrpo.protocol import SPLITS, expert_action_of, instructions_of

CONFIGS = pathlib.Path(__file__).resolve().parents[3] / "configs"


@pytest.fixture
def no_data(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> None:
    """Nothing is downloaded."""
    monkeypatch.delenv("ALFWORLD_DATA", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.fixture
def folder(tmp_path: pathlib.Path, make_game) -> pathlib.Path:
    """A folder as the download leaves it, with one game a split, and some that the package does not play."""
    names = ("pick_and_place_simple-Mug-None-Shelf-1", "pick_and_place_simple-AppleSliced-None-Desk-2", "other-a-b-c-3")
    for split in ("train", "valid_seen", "valid_unseen"):
        for name in names:
            game = tmp_path / "data" / "json_2.1.1" / split / name / "trial_1" / "game.tw-pddl"
            game.parent.mkdir(parents=True)
            game.write_text(json.dumps(make_game() | {"solvable": True}), encoding="utf-8")
    return tmp_path / "data"


@pytest.mark.parametrize("family", FAMILIES)
def test_splits_of_made_rooms_share_none(family: str) -> None:
    environment, found = envs.get("alfworld"), {}
    for split in SPLITS:
        for layout in environment.layouts("pick_clean_then_place_in_recep", family, split=split, count=4, seed=1):
            room = environment.make("pick_clean_then_place_in_recep", layout).room
            things = sorted((room.object_types[o], room.receptacle_types[r]) for o, r in room.start.inside)
            found.setdefault((*sorted(room.receptacle_types), *things), set()).add(split)
    assert len(found) == 12 and all(len(splits) == 1 for splits in found.values())


def test_a_room_is_a_function_of_task_family_and_seed() -> None:
    assert made_game(TASKS[0], "made", 1) == made_game(TASKS[0], "made", 1) != made_game(TASKS[0], "made", 2)
    for task in TASKS:
        problem = make(task, "made:7")
        assert problem.task == task and problem.layout == "made:7" and problem.max_steps == 50


def test_what_is_learned_is_the_experts_and_what_is_optimal_is_known_beside_it() -> None:
    environment, searched = envs.get("alfworld"), False
    for task, seed in itertools.product(TASKS, range(2)):
        problem = environment.make(task, f"made:{seed}")
        planner, state = environment.planner(problem), problem.initial_state()
        for step in PlannerExpert(problem, planner).trajectory().steps:
            assert step.action == expert_action_of(planner, state) == planner.expert_action(state)
            assert step.distance == planner.distance(state) and step.optimal_actions == planner.optimal_actions(state)
            names = set(re.findall(r"[a-z]+ \d+", step.reasoning))
            assert all(name in step.observation for name in names) and step.reasoning.endswith(".")
            searched |= step.action not in step.optimal_actions
            state = problem.step(state, step.action)
        assert problem.is_goal(state)
    assert searched  # somewhere it looked in a place that the optimum passes by


def test_the_example_of_the_page_runs(capsys: pytest.CaptureFixture[str]) -> None:
    page = (CONFIGS.parent / "docs" / "alfworld.md").read_text("utf-8")
    (example,) = re.findall(r"^```python\n(.*?)^```$", page, re.M | re.S)
    exec(example, {})
    shown = capsys.readouterr().out
    assert shown.startswith("-= Welcome to TextWorld, ALFRED! =-") and "Valid Actions:" in shown


def test_a_model_is_told_the_rules() -> None:
    assert "sink basin" in instructions_of(envs.get("alfworld")).rules


def test_games_are_read_from_a_folder(folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    environment = envs.get("alfworld", data=str(folder))
    for split, layout in zip(SPLITS, ("train:0", "valid_seen:0", "valid_unseen:0"), strict=True):
        assert environment.layouts(TASKS[0], "games", split=split, count=1) == [layout]
    assert environment.benchmark_layouts(TASKS[0]) == ("valid_seen:0", "valid_unseen:0")
    assert environment.make(TASKS[0], "valid_seen:0").goal == "put a mug in shelf."
    monkeypatch.setenv("ALFWORLD_DATA", str(folder / "json_2.1.1"))
    assert envs.get("alfworld").benchmark_layouts(TASKS[0]) == ("valid_seen:0", "valid_unseen:0")
    for task, layout, said in (
        (TASKS[1], "train:0", "layout 'train:0' is a game of pick_and_place_simple, not of look_at_obj_in_light"),
        (TASKS[0], "train:1", "layout 'train:1': there are 1 games; use a number below that"),
        (TASKS[0], "train", "layout 'train': unknown; use \"made:SEED\""),
        ("pick_two_obj", "made:1", "task 'pick_two_obj': unknown; did you mean 'pick_two_obj_and_place'?"),
    ):
        with pytest.raises(UserError, match=re.escape(said)):
            environment.make(task, layout)
    with pytest.raises(UserError, match="2 train layouts of pick_and_place_simple games asked for, 1 distinct found"):
        environment.layouts(TASKS[0], "games", split="train", count=2)


def test_published_games_are_two_suites(pack: pathlib.Path) -> None:
    from stgrpo.config import base

    config = base()
    config.env.name, config.env.data, config.env.tasks = "alfworld", str(pack), TASKS
    config.evaluation.suites = ("benchmark",)
    environment = envs.get("alfworld", data=str(pack))
    for playing in (environment, FlakyEnvironment(environment, 0.1)):
        counts = {suite.name: len(suite_layouts(playing, suite)) for suite in suites(config)}
        assert counts == {"valid_seen": 140, "valid_unseen": 134}


@pytest.mark.parametrize("variant", ["tiny", "smoke", "1.5b", "llama3-8b"])
def test_every_variant_of_the_config_can_run(variant: str, pack: pathlib.Path) -> None:
    words = ["run", f"--config={CONFIGS / 'alfworld.py'}:{variant}", f"--config.env.data={pack}", "--dry_run"]
    assert validate(parse(words).config) == []


@pytest.mark.parametrize("at", ["", "nowhere", "empty"])
def test_without_data_a_line_says_how_to_get_them(at: str, no_data, tmp_path: pathlib.Path, capsys) -> None:
    (tmp_path / "empty").mkdir()
    data = str(tmp_path / at) if at else ""
    words = ["collect", f"--config={CONFIGS / 'alfworld.py'}:tiny", f"--workdir={tmp_path / 'w'}"]
    with pytest.raises(SystemExit) as stop:
        main([*words, "--config.env.family=games", *([f"--config.env.data={data}"] if at else [])])
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "alfworld-download" in line]
    assert stop.value.code == 2 and "layouts made:SEED" in line


def test_a_config_that_wants_published_games_says_so_before_it_starts(no_data) -> None:
    from stgrpo.config import base

    config = base()
    config.env.name, config.env.tasks, config.env.family = "alfworld", TASKS, "made"
    (error,) = validate(config)
    assert error.startswith("the games of ALFWorld are not at hand: `pip install alfworld && alfworld-download`")
    config.evaluation.suites = ("unseen",)
    assert validate(config) == []


def test_a_broken_pack_is_named(tmp_path: pathlib.Path) -> None:
    file = tmp_path / "games.jsonl.xz"
    file.write_bytes(b"no xz")
    with pytest.raises(UserError, match=r"games.jsonl.xz is no pack of games"):
        Layouts(str(file)).of_task("train", TASKS[0])


@pytest.mark.slow
def test_the_table_of_usual_places_is_that_of_the_training_games(pack: pathlib.Path) -> None:
    assert list(table(training_rooms(str(pack)))) == TABLE.read_text("utf-8").splitlines()


def test_the_shares_of_places_are_counted_where_the_thing_is(make_game) -> None:
    """A cup is in one room only, so the desk of the other does not count against it."""
    game = make_game()
    other = game | {"pddl_problem": game["pddl_problem"].replace("Mug", "Cup")}
    lines = list(table([load(game).room, load(other).room]))
    assert {"mug desk 1.000", "cup desk 1.000", "apple fridge 1.000"} < set(lines)


def test_a_person_plays_in_the_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys, tmp_path: pathlib.Path, make_game
) -> None:
    def play(*lines: str, layout: str) -> str:
        monkeypatch.setattr("sys.stdin", io.StringIO("".join(f"{line}\n" for line in lines)))
        main(["play", "--env=alfworld", f"--layout={layout}"])
        return capsys.readouterr().out

    file = tmp_path / "game.tw-pddl"
    file.write_text(json.dumps(make_game()), encoding="utf-8")
    way = ("go to desk 1", "take mug 1 from desk 1", "go to shelf 1", "move mug 1 to shelf 1")
    shown = play("dance", "look", "undo", *way, layout=str(file))
    assert (
        "Nothing happens." in shown and "You arrive at desk 1. On the desk 1, you see a bowl 1, and a mug 1." in shown
    )
    assert shown.endswith("Solved in 4 steps; the fewest possible, for one who sees everything: 4.\n")
    assert play("commands", "?", "raw", "quit", layout="made:3").endswith("Left after 0 steps.\n")
