import dataclasses
import json
import operator

import pytest

from stgrpo.errors import UserError
from stgrpo.evaluation import files, metrics
from stgrpo.evaluation.records import Episode, TurnRecord

TURN = TurnRecord(0, 0, "Station table1:\n…", "</b>\u2028", None, "reasoning", "a", False, False, 8, "stop", 9, 4)
EPISODES = (
    Episode("burger", "small:1", False, 0, 15, "format", 8, (TURN,)),
    Episode("burger", "small:2", True, 8, 15, "", 8, ()),
    Episode("cheese_burger", "small:3", False, 23, 23, "loop", None, (TURN, TURN)),
)
HEAD = {"name": "x", "summary": {"n": 0}, "tasks": {"burger": {"n": 0}}, "settings": {}}


def test_an_evaluation_is_read_back_as_it_was_written(tmp_path):
    written = files.write_evaluation(tmp_path / "evaluation", "sft_small", EPISODES, settings={"seed": 3})
    assert files.read_evaluation(tmp_path / "evaluation", "sft_small") == written
    assert written.summary == metrics.summarise(EPISODES)
    assert written.tasks["cheese_burger"]["n"] == 1
    assert files.list_evaluations(tmp_path / "evaluation") == ["sft_small"]
    assert sorted(p.name for p in (tmp_path / "evaluation").iterdir()) == ["sft_small.episodes.jsonl", "sft_small.json"]


def test_there_is_a_line_an_episode_and_a_line_a_response(tmp_path):
    files.write_evaluation(tmp_path, "x", EPISODES, settings={})
    rows = [json.loads(line) for line in (tmp_path / "x.episodes.jsonl").read_text().splitlines()]
    assert [(row["kind"], row["episode"]) for row in rows] == [
        ("episode", 0), ("step", 0), ("episode", 1), ("episode", 2), ("step", 2), ("step", 2)
    ]  # fmt: skip


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path):
    files.write_evaluation(tmp_path, "x", EPISODES, settings={})
    before = (tmp_path / "x.episodes.jsonl").read_text()
    with pytest.raises(TypeError):
        files.write_evaluation(tmp_path, "x", EPISODES[:1], settings={"not JSON": {1, 2}})
    assert (tmp_path / "x.json").exists() and len(list(tmp_path.iterdir())) == 2
    assert (tmp_path / "x.episodes.jsonl").read_text() == before


@pytest.mark.parametrize("line", ["{", "[]", '{"kind": "step", "episode": 0}', '{"kind": "noise", "episode": 3}', "7"])
def test_a_damaged_line_is_named(tmp_path, line):
    files.write_evaluation(tmp_path, "x", EPISODES[:2], settings={})
    path = tmp_path / "x.episodes.jsonl"
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(UserError, match=r"x\.episodes\.jsonl:4"):
        files.read_episodes(path)


def test_missing_and_foreign_files_are_the_users_to_fix(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        files.read_evaluation(tmp_path, "x")
    for text in ("{}", "[]", *(json.dumps({**HEAD, part: None}) for part in ("summary", "tasks", "settings"))):
        (tmp_path / "x.json").write_text(text)
        with pytest.raises(UserError, match="not the summary"):
            files.read_evaluation(tmp_path, "x")
    with pytest.raises(UserError, match="does not exist"):
        files.read_episodes(tmp_path / "x.episodes.jsonl")
    assert files.list_evaluations(tmp_path / "nowhere") == []
    (tmp_path / "y.episodes.jsonl").write_text('{"kind": "episode", "episode": 0, "task": "burger"}\n')
    with pytest.raises(UserError, match="another version"):
        files.read_episodes(tmp_path / "y.episodes.jsonl")


@pytest.mark.parametrize("damage", ["{", "\udcff", "", '{"kind": "episode"'])
def test_a_damaged_result_is_played_again_and_is_said_to_be(tmp_path, caplog, damage):
    files.write_evaluation(tmp_path, "x", EPISODES, settings={"seed": 1})
    wanted = {"x": {"seed": 1}, "y": {"seed": 1}}
    assert [result.name for result in files.reusable(tmp_path, wanted, fits=operator.eq)] == ["x"]
    assert files.reusable(tmp_path, {"x": {"seed": 2}}, fits=operator.eq) == [] and not caplog.text
    (tmp_path / "x.episodes.jsonl").write_bytes(damage.encode(errors="surrogateescape"))
    assert files.reusable(tmp_path, wanted, fits=operator.eq) == []
    assert "played again" in caplog.text


@pytest.mark.parametrize(
    ("line", "name", "value"),
    [(0, "layout", None), (0, "steps", "3"), (0, "success", 1), (0, "optimal_steps", []), (1, "n_tokens", ""),
     (1, "response", 5), (1, "distance", 1.5), (1, "attempt", None)],
)  # fmt: skip
def test_a_value_of_another_type_is_named_where_it_is_read(tmp_path, line, name, value):
    files.write_evaluation(tmp_path, "x", EPISODES[:2], settings={})
    path = tmp_path / "x.episodes.jsonl"
    rows = [json.loads(text) for text in path.read_text().splitlines()]
    rows[line][name] = value
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(UserError, match=f"{name} is {type(value).__name__}"):
        files.read_episodes(path)


@pytest.mark.parametrize("part", ["name", "summary", "tasks", "settings"])
@pytest.mark.parametrize("value", [None, [], 3])
def test_a_summary_of_another_form_is_none(tmp_path, part, value):
    files.write_evaluation(tmp_path, "x", EPISODES[:2], settings={})
    head = json.loads((tmp_path / "x.json").read_text())
    (tmp_path / "x.json").write_text(json.dumps({**head, part: value}))
    with pytest.raises(UserError, match="not the summary"):
        files.read_evaluation(tmp_path, "x")


def test_an_evaluation_in_which_a_server_failed_is_used_again(tmp_path, caplog):
    failed = dataclasses.replace(EPISODES[0], failure="server")
    files.write_evaluation(tmp_path, "x", (failed, *EPISODES[1:]), settings={})
    (again,) = files.reusable(tmp_path, {"x": {}}, fits=operator.eq)
    assert (again.summary["n"], again.summary["server_failures"]) == (2, 1) and not caplog.text


def test_episodes_of_another_evaluation_are_not_used_again(tmp_path, caplog):
    files.write_evaluation(tmp_path, "x", EPISODES, settings={})
    files.write_evaluation(tmp_path, "y", (EPISODES[1],) * 3, settings={})
    (tmp_path / "y.episodes.jsonl").replace(tmp_path / "x.episodes.jsonl")
    assert files.reusable(tmp_path, {"x": {}}, fits=operator.eq) == []
    assert "has not the episodes of the summary: it is played again" in caplog.text
