"""Outcomes in a file: compared like the runs they are of, put together, and refused where they are damaged."""

import dataclasses
import json

import pytest
from commands import call

from stgrpo.comparison.compare import compare
from stgrpo.comparison.load import read_runs
from stgrpo.comparison.outcomes import write_outcomes
from stgrpo.comparison.runs import groups_of
from stgrpo.errors import UserError
from stgrpo.evaluation.files import write_evaluation
from stgrpo.evaluation.records import Episode
from stgrpo.evaluation.registration import Registration

SOME, MORE = [True, False, True, True] * 10, [True, True, True, False] * 10


@pytest.fixture
def two_seeds(make_run):
    return [
        make_run(f"seed{seed}", {"sft_unseen": SOME[seed:], "grpo_unseen": MORE[seed:]}, {"seed": seed})
        for seed in (0, 1)
    ]


def figures(*places):
    found = dataclasses.asdict(compare(groups_of(read_runs(places)), margin=0.05))
    return {name: found[name] for name in ("rows", "contrasts", "differ", "notes")}


def saved(file, *places):
    write_outcomes(file, read_runs(places))
    return file


def test_a_file_is_compared_as_its_runs_are(two_seeds, tmp_path, capsys):
    file = tmp_path / "outcomes.jsonl"
    assert call("compare", f"--outcomes={file}", *two_seeds) == 0
    assert f"how every episode ended is in {file}" in capsys.readouterr().out
    assert figures(file)["rows"][0]["seeds"] == (0, 1)
    for group in ("rows", "contrasts"):
        assert without_names(figures(file)[group]) == without_names(figures(*two_seeds)[group])


def without_names(lines):
    return [{k: v for k, v in line.items() if k not in ("group", "a", "b")} for line in lines]


def test_files_and_folders_are_put_together(two_seeds, tmp_path):
    first, second = (saved(tmp_path / f"{n}.jsonl", place) for n, place in enumerate(two_seeds))
    both = saved(tmp_path / "both.jsonl", first, second)
    assert [run.seed for run in read_runs([both])] == [0, 1]
    assert [run.name for run in read_runs([both])] == ["seed0", "seed1"]
    assert without_names(figures(first, two_seeds[1])["rows"]) == without_names(figures(both)["rows"])


def test_what_is_kept_of_an_episode(make_run, tmp_path):
    place = make_run("run", {})
    episodes = [
        Episode("burger", "small:1", True, 9, 15, "", 8, ()),
        Episode("burger", "small:1", False, 3, 15, "loop", 8, (), "an observation", 0.25),
        Episode("hall", "1x1", False, 0, 7, "server", None, ()),
    ]
    settings = {"fingerprint": "ab", "base": ""}
    write_evaluation(place / "evaluation", "grpo_unseen", episodes, settings=settings, protocol="cd")
    line = Registration("grpo_unseen", "2026-11-29", "cd", {"layouts": {}}, {"seed": 0})
    old = dataclasses.replace(line, hash="ef")
    text = "".join(json.dumps({"stage": "evaluate", **dataclasses.asdict(each)}) + "\n" for each in (old, line))
    (place / "evaluation" / "protocols.jsonl").write_text(text)
    (place / "environment.json").write_text('{"git_commit": "12", "versions": {"jax": "0.10"}}')
    (run,) = read_runs([saved(tmp_path / "outcomes.jsonl", place)])
    found = run.data.evaluations["grpo_unseen"]
    assert found.episodes == tuple(dataclasses.replace(e, last_observation="") for e in episodes)
    assert (found.settings, found.protocol) == (settings, "cd")
    assert found.tasks["burger"]["sr"] == 0.5 and found.summary["server_failures"] == 1
    assert list(run.data.registrations.values()) == [line]
    assert run.data.environment == {"git_commit": "12", "versions.jax": "0.10"}
    assert run.fields == read_runs([place])[0].fields


def test_runs_that_do_not_say_what_they_are_are_refused(two_seeds, tmp_path):
    (two_seeds[0] / "config.json").unlink()
    with pytest.raises(UserError, match=r"seed0 has no config.json: give --outcomes runs that say what they are"):
        saved(tmp_path / "outcomes.jsonl", *two_seeds)


@pytest.mark.parametrize(("change", "says"), [
    (lambda lines: [], "holds no run"),
    (lambda lines: [line for line in lines if line["kind"] == "run"], r":1 is no line of outcomes \('"),
    (lambda lines: [*lines, {"kind": "walk"}], ":3 is no line of outcomes .'walk' is no kind of line"),
    (lambda lines: [*lines, []], ":3 is no line"),
    (lambda lines: change_first_task(lines, {"failures": {"loop": [999]}}), "burger has no episodes 999, which failed"),
    (lambda lines: change_first_task(lines, {"steps": [1]}), ":2 is no line of outcomes .zip"),
    (lambda lines: change_first_task(lines, {"steps": ["1"] * 40}), ":2 is no line of outcomes .steps is str"),
    (lambda lines: [lines[0], lines[1] | {"config": {"seed": "many"}}], ":2 is no line of outcomes"),
])  # fmt: skip
def test_damaged_files_are_one_line(make_run, tmp_path, change, says):
    file = saved(tmp_path / "outcomes.jsonl", make_run("run", {"grpo_unseen": SOME}))
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    file.write_text("".join(json.dumps(line) + "\n" for line in change(lines)))
    with pytest.raises(UserError, match=says):
        read_runs([file])


def change_first_task(lines, changes):
    lines[1]["evaluations"]["grpo_unseen"]["tasks"]["burger"] |= changes
    return lines


def test_other_files_are_one_line(tmp_path, capsys):
    other = tmp_path / "notes.txt"
    other.write_text("a note\n")
    assert call("compare", other) == 2
    said = capsys.readouterr().err
    assert "notes.txt:1 is no line of outcomes" in said and "or a work directory" in said and said.count("\n") == 1
