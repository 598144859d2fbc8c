"""Trajectories survive the disk, and a damaged file is named by its line."""

import json
from pathlib import Path

import pytest

from stgrpo.data.records import Step, Trajectory, read_trajectories, write_trajectories
from stgrpo.errors import UserError


def step(**changes: object) -> Step:
    values: dict[str, object] = {
        "observation": "table1 is a table\nGoal: Prepare a “café” \u2028 on it",
        "valid_actions": ("Move robot1 from table1 to table2", "Do nothing"),
        "reasoning": "patty1 is at table2.",
        "action": "Move robot1 from table1 to table2",
        "optimal_actions": ("Move robot1 from table1 to table2",),
        "distance": 2,
    }
    return Step(**{**values, **changes})


# The second step is as good as a language model's may be: valid, and not optimal.
TRAJECTORIES = [Trajectory("burger", f"small:{i}", (step(), step(distance=1, action="Do nothing"))) for i in range(3)]


def test_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "data" / "burger" / "train.jsonl"
    assert write_trajectories(path, iter(TRAJECTORIES)) == 3
    assert read_trajectories(path) == TRAJECTORIES
    assert len(path.read_bytes().split(b"\n")) == 4
    assert [p.name for p in path.parent.iterdir()] == ["train.jsonl"]


def test_what_no_planner_has_judged_says_so(tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    unjudged = [Trajectory("maze", "start:1", (step(optimal_actions=None, distance=None),))]
    write_trajectories(path, unjudged)
    assert read_trajectories(path) == unjudged
    assert '"optimal_actions": null, "distance": null' in path.read_text("utf-8")


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    write_trajectories(path, TRAJECTORIES[:1])

    def broken():
        yield TRAJECTORIES[1]
        raise RuntimeError("planner stopped")

    with pytest.raises(RuntimeError):
        write_trajectories(path, broken())
    assert read_trajectories(path) == TRAJECTORIES[:1]
    assert [p.name for p in tmp_path.iterdir()] == ["train.jsonl"]


def damaged(change) -> bytes:
    entry = json.loads(json.dumps({"task": "burger", "layout": "small:1", "steps": [vars(step())]}))
    change(entry)
    return json.dumps(entry).encode()


@pytest.mark.parametrize(
    ("line", "what"),
    [
        (b'{"task": "burger", "lay', "Unterminated string"),
        (b"\xff\xfe", "codec can't decode"),
        (b"", "Expecting value"),
        (b"[]", "expected an object with layout, steps, task"),
        (damaged(lambda e: e.pop("layout")), "layout missing"),
        (damaged(lambda e: e.update(score=1)), "unknown field score"),
        (damaged(lambda e: e.update(task=7)), "task must be text"),
        (damaged(lambda e: e.update(steps=[])), "steps must be a list that is not empty"),
        (damaged(lambda e: e["steps"][0].pop("reasoning")), "step 0: reasoning missing"),
        (damaged(lambda e: e["steps"][0].update(distance=0)), "step 0: distance is 0"),
        (damaged(lambda e: e["steps"][0].update(distance=True)), "step 0: distance is True"),
        (damaged(lambda e: e["steps"][0].update(distance=None)), "step 0: distance is None"),
        (damaged(lambda e: e["steps"][0].update(optimal_actions=None)), "optimal_actions must be a list of texts"),
        (damaged(lambda e: e["steps"][0].update(valid_actions="Do nothing")), "valid_actions must be a list of texts"),
        (damaged(lambda e: e["steps"][0].update(action="Fly")), "action 'Fly' is not among the valid_actions"),
        (
            damaged(lambda e: e["steps"][0].update(optimal_actions=["Fly"])),
            "action 'Fly' is not among the valid_actions",
        ),
    ],
)
def test_corrupt_line_is_named(tmp_path: Path, line: bytes, what: str) -> None:
    path = tmp_path / "train.jsonl"
    write_trajectories(path, TRAJECTORIES[:1])
    path.write_bytes(path.read_bytes() + line + b"\n")
    with pytest.raises(UserError) as caught:
        read_trajectories(path)
    message = str(caught.value)
    assert message.startswith(f"{path}:2: ") and what in message and "stgrpo collect" in message and "\n" not in message


def test_absent_and_empty_files(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist: run `stgrpo collect`"):
        read_trajectories(tmp_path / "train.jsonl")
    write_trajectories(tmp_path / "train.jsonl", [])
    with pytest.raises(UserError, match="holds no trajectory"):
        read_trajectories(tmp_path / "train.jsonl")
