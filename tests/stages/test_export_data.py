"""Exported problems are what our trainer learns from, and the file beside them rewards as it does."""

import dataclasses
import json
import pathlib
import random
import shutil
import subprocess
import sys

import pytest
from commands import call

from stgrpo.data.records import Step, read_trajectories, write_trajectories
from stgrpo.data.tokenizer import Tokenizer
from stgrpo.models.sharding import make_mesh
from stgrpo.react.reward import GroundTruth, RewardWeights, parse_response, reward, score
from stgrpo.training.context import RunContext
from stgrpo.training.inputs import load_examples, prompt_style
from stgrpo.workdir import WorkDir

SMOKE = f"--config={pathlib.Path(__file__).resolve().parents[2] / 'configs' / 'tiny.py'}:smoke"
STEPS = (
    Step("a", ("Move robot1 to table1", "Do nothing", "Füll den Topf 🍲"), "so", "Füll den Topf 🍲", None, None),
    Step("b", ("go to desk 1", "look", "Finish"), "so", "look", ("look", "go to desk 1"), 3),
    Step("c", ("click[a.b (c)]", "click[next >]", 'search["x"]'), "so", "click[next >]", ("click[next >]",), 1),
)
ALONE = """
import importlib.util, json, sys
spec = importlib.util.spec_from_file_location("reward", sys.argv[1])
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
for line in sys.stdin:
    asked, texts = json.loads(line)
    rows = [{"style": "rule", "ground_truth": asked}] * len(texts)
    said = [[{"role": "assistant", "content": text}] for text in texts]
    print(json.dumps([
        module.trl_reward(completions=texts, prompts=texts, reward_model=rows, task=[""] * len(texts)),
        module.trl_reward(completions=said, prompts=said, reward_model=rows),
        [module.compute_score(data_source="d", solution_str=text, ground_truth=asked) for text in texts],
    ]))
"""


@pytest.fixture(scope="module")
def collected(tmp_path_factory):
    """A work directory after `collect`."""
    path = tmp_path_factory.mktemp("doors") / "w"
    assert call("collect", SMOKE, f"--workdir={path}", "--config.expert.trajectories=3") == 0
    return path


@pytest.fixture
def run(collected, tmp_path):
    """A copy of it."""
    return pathlib.Path(shutil.copytree(collected, tmp_path / "w"))


def rows_of(run, split):
    return [json.loads(line) for line in (run / "export" / f"{split}.jsonl").read_text("utf-8").splitlines()]


def change_steps(run, **changes):
    for file in run.glob("data/*/*.jsonl"):
        kept = read_trajectories(file)
        steps = (tuple(dataclasses.replace(step, **changes) for step in t.steps) for t in kept)
        write_trajectories(file, [dataclasses.replace(t, steps=s) for t, s in zip(kept, steps, strict=True)])


@pytest.mark.parametrize("split", ["train", "validation"])
def test_rows_are_what_our_trainer_learns_from(run, split):
    assert call("export-data", f"--workdir={run}", "--format=jsonl") == 0
    workdir, rows = WorkDir(run), rows_of(run, split)
    tokenizer = Tokenizer.load(workdir.tokenizer)
    examples = load_examples(RunContext(workdir.config(), workdir, tokenizer, make_mesh(data=1, fsdp=-1)), split)
    assert len(rows) == len(examples) > 10
    base = tokenizer.base
    for number, (row, example) in enumerate(zip(rows, examples, strict=True)):
        step = example.step
        assert tuple(base(row["prompt"])["input_ids"]) == example.prompt_ids
        assert tuple(base.apply_chat_template(row["messages"], add_generation_prompt=True)["input_ids"]) == (
            example.prompt_ids
        )
        assert tuple(base(row["response"])["input_ids"]) == example.response_ids[:-1]
        assert (row["valid_actions"], row["expert_action"]) == (list(step.valid_actions), step.action)
        assert (row["optimal_actions"], row["distance"]) == (list(step.optimal_actions), step.distance)
        assert (row["task"], row["layout"], row["step"]) == (example.task, example.layout, example.index)
        assert (row["split"], row["extra_info"]) == (split, {"split": split, "index": number})
        assert row["data_source"] == "stgrpo/robotouille/burger"


@pytest.mark.parametrize("changes", [{}, {"optimal_actions": None, "distance": None}])
def test_parquet_has_the_same_rows_and_always_the_same_bytes(changes, run):
    parquet = pytest.importorskip("pyarrow.parquet")
    change_steps(run, **changes)
    assert call("export-data", f"--workdir={run}", "--format=jsonl") == 0
    assert call("export-data", f"--workdir={run}") == 0
    file = run / "export" / "train.parquet"
    first = {path.name: path.read_bytes() for path in (run / "export").iterdir()}
    assert parquet.read_table(file).to_pylist() == rows_of(run, "train")
    assert call("export-data", f"--workdir={run}", "--format", "parquet") == 0
    assert {path.name: path.read_bytes() for path in (run / "export").iterdir()} == first
    assert set(first) == {"train.jsonl", "validation.jsonl", "train.parquet", "validation.parquet", "reward.py"}


def response(step: Step, draw: random.Random) -> tuple[str, str | None]:
    """A response, and the action that it takes by the rules; None where it breaks them."""
    action, other = draw.choice(step.valid_actions), draw.choice(step.valid_actions)
    why = draw.choice(["so.", "Grüße 🥪\nand more", "x" * 500, "\u2028", "a\r\nb", "Reasoning: y"])
    usable = None if action == "Finish" else action
    kinds = [
        (f"Reasoning: {why}\nAction: {action}", usable),
        (f"Certainly!\nReasoning:{why}\n\nAction:\n  {action}  \nThat is all.", usable),
        (f"Reasoning: {why}\nAction: {action}\nAction: {other}", usable),
        (f"Reasoning: Action: maybe\nAction: {action}", usable),
        (f"Reasoning:\nAction: {action}", usable),  # as the benchmark has it, nothing is a reasoning too
        (f"Action: {action}\nReasoning: {why}", None),
        (f" Reasoning: {why}\nAction: {action}", None),
        (f"reasoning: {why}\naction: {action}", None),
        (f"Reasoning: {why}\nAction: {action}.", None),
        (f"Reasoning: {why}\nAction: I would {action.lower()}", None),
        (f"Reasoning: {why}\nAction: {action.swapcase()}", None),
        (f"Reasoning: {why}\nAction:", None),
        (f"Reasoning: {why}\nAction: Finish", None),
        (f"Reasoning: {why}", None),
        (f"Action: {action}", None),
        ("", None),
        ("".join(draw.choices("Reasoning: Action\n\t é🥪\0", k=60)), None),
    ]
    return draw.choice(kinds)


@pytest.mark.parametrize(("target", "weights"), [("expert", (0.1, 0.9)), ("optimal", (0.25, 2.0))])
def test_the_file_alone_rewards_1000_responses_as_we_do(run, target, weights):
    """It is run without site-packages and without this package; what is right is also known by construction."""
    assert call("export-data", f"--workdir={run}", "--format=jsonl") == 0
    draw, asked, expected = random.Random(target), [], []
    for step in (s for s in STEPS if s.optimal_actions or target == "expert"):
        texts, actions = zip(*(response(step, draw) for _ in range(1000 // len(STEPS) + 334)), strict=True)
        right = step.optimal_actions if target == "optimal" else (step.action,)
        built = [0.0 if a is None else weights[0] + weights[1] * (a in right) for a in actions]
        asked.append((GroundTruth(step.valid_actions, step.action, step.optimal_actions, target, *weights), texts))
        expected.append(built)
    lines = "".join(json.dumps([truth.to_json(), texts]) + "\n" for truth, texts in asked)
    command = [sys.executable, "-I", "-S", "-c", ALONE, str(run / "export" / "reward.py")]
    done = subprocess.run(command, input=lines, capture_output=True, text=True, cwd=run, encoding="utf-8")
    assert done.returncode == 0, done.stderr
    assert sum(map(len, expected)) >= 1000 and len({r for rewards in expected for r in rewards}) == 3
    for line, (truth, texts), built in zip(done.stdout.splitlines(), asked, expected, strict=True):
        ours = [
            reward(
                parse_response(text, truth.valid_actions),
                target=target,
                expert_action=truth.expert_action,
                optimal_actions=truth.optimal_actions,
                weights=RewardWeights(*weights),
            ).total
            for text in texts
        ]
        assert json.loads(line) == [ours, ours, ours]
        assert ours == pytest.approx(built)


def test_a_reward_by_distance_goes_out_with_the_distances(tmp_path, capsys):
    changed = ("--config.reward.target=distance", "--config.expert.action_distances=True")
    assert call("collect", SMOKE, f"--workdir={tmp_path}", "--config.expert.trajectories=1", *changed) == 0
    assert call("export-data", f"--workdir={tmp_path}", "--format=jsonl") == 0
    for row in rows_of(tmp_path, "train"):
        truth = row["reward_model"]["ground_truth"]
        for action, after in zip(row["valid_actions"], json.loads(truth)["distances"], strict=True):
            worth = 0.0 if after is None else max(0.0, 1 - (after - row["distance"] + 1) / 2)
            assert score(f"Reasoning: so.\nAction: {action}", truth) == pytest.approx(0.1 + 0.9 * worth)
    change_steps(tmp_path, distances=None)
    assert call("export-data", f"--workdir={tmp_path}", "--format=jsonl") == 2
    assert "reward.target='distance' needs a planner" in capsys.readouterr().err


def test_weights_and_target_are_those_of_the_run(tmp_path):
    changed = ("--config.reward.target=optimal", "--config.reward.format=0.3", "--config.reward.action=0.5")
    assert call("collect", SMOKE, f"--workdir={tmp_path}", "--config.expert.trajectories=1", *changed) == 0
    assert call("export-data", f"--workdir={tmp_path}", "--format=jsonl") == 0
    for row in rows_of(tmp_path, "train"):
        truth = json.loads(row["reward_model"]["ground_truth"])
        assert (truth["target"], truth["format"], truth["action"]) == ("optimal", 0.3, 0.5)
        assert truth["optimal_actions"] == row["optimal_actions"]


def test_without_a_planner_the_columns_are_empty_and_it_is_said(run, capsys):
    change_steps(run, optimal_actions=None, distance=None)
    assert call("export-data", f"--workdir={run}", "--format=jsonl") == 0
    rows = rows_of(run, "validation")
    assert {(row["optimal_actions"], row["distance"]) for row in rows} == {(None, None)}
    assert f"{len(rows)} of them without optimal_actions and distance (null)" in capsys.readouterr().out
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps(config | {"reward": {**config["reward"], "target": "optimal"}}))
    before = sorted((run / "export").iterdir())
    assert call("export-data", f"--workdir={run}", "--format=jsonl") == 2
    assert "reward.target='optimal' needs a planner" in capsys.readouterr().err
    assert sorted((run / "export").iterdir()) == before


@pytest.mark.parametrize(
    ("spoil", "arguments", "says"),
    [
        (None, ["--workdir=nowhere"], "nowhere has no config.json: give the folder of a run"),
        (None, ["--workdir=w/config.json"], "config.json has no config.json: give the folder of a run"),
        (None, [], "export-data takes the folder of a run and no config"),
        (None, ["--workdir=w", "--format=csv"], "should be one of <parquet|jsonl>"),
        (None, ["--workdir=w", "--config=x.py"], "Unknown command line flag 'config'"),
        (None, ["--workdir=s3://bucket/w"], "is no folder of this machine"),
        (lambda w: shutil.rmtree(w / "data"), [], "train.jsonl does not exist: run `stgrpo collect`"),
        (lambda w: shutil.rmtree(w / "tokenizer"), [], "tokenizer does not exist: run `stgrpo collect`"),
        (lambda w: (w / "data/burger/train.jsonl").write_text("{}\n"), [], "train.jsonl:1: not a trajectory"),
        (lambda w: (w / "data/burger/validation.jsonl").write_text(""), [], "holds no trajectory"),
        (lambda w: (w / "export").write_text("mine"), [], "export is a file: move it away"),
        (lambda w: (w / "export/reward.py").mkdir(parents=True), [], "reward.py is a folder: move it away"),
        (lambda w: (w / "config.json").write_text('{"env": 3}'), [], "config.json is no config"),
        (lambda w: (w / "config.json").write_text("{"), [], "config.json is not JSON"),
    ],
)
def test_a_mistake_is_one_line_and_nothing_is_half_written(spoil, arguments, says, run, capsys, monkeypatch):
    monkeypatch.chdir(run.parent)
    if spoil:
        spoil(run)
        arguments = ["--workdir=w", "--format=jsonl"]
    assert call("export-data", *arguments) == 2
    error = capsys.readouterr().err
    assert says in error and error.count("\n") == 1 and error.startswith("stgrpo: ")
    assert not list(run.glob("export/*.part"))


def test_what_else_is_in_the_folder_stays(run):
    (run / "export").mkdir()
    (run / "export" / "notes.txt").write_text("mine")
    (run / "export" / "train.jsonl").write_text("old")
    (run / "export" / "train.jsonl.01234567.part").write_text("what a killed export left")
    assert call("export-data", f"--workdir={run}", "--format=jsonl") == 0
    assert (run / "export" / "notes.txt").read_text() == "mine" and len(rows_of(run, "train")) > 10
    assert not list(run.glob("export/*.part"))


def test_a_missing_package_is_one_line(run, monkeypatch, capsys):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert call("export-data", f"--workdir={run}") == 2
    error = capsys.readouterr().err
    assert 'needs pyarrow: pip install "stgrpo[parquet]"' in error and error.count("\n") == 1


def test_instructions_and_history_are_in_the_prompts(tmp_path):
    styled = ("--config.prompt.instructions=full", "--config.prompt.history=last_action", "--config.limits.prompt=2048")
    assert call("collect", SMOKE, f"--workdir={tmp_path}", "--config.expert.trajectories=1", *styled) == 0
    assert call("export-data", f"--workdir={tmp_path}", "--format=jsonl") == 0
    first, second = rows_of(tmp_path, "train")[:2]
    assert [m["role"] for m in first["messages"]] == ["system", "user"]
    assert [m["role"] for m in second["messages"]] == ["system", "user", "assistant", "user"]
    assert second["messages"][2]["content"] == f"Previous Action: {first['expert_action']}"
    assert prompt_style(WorkDir(tmp_path).config()).history == "last_action"
    assert all(m["content"] in second["prompt"] for m in second["messages"])
