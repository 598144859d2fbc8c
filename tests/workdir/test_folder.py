"""Which folders can be work directories, said before any work; what a kill left in one is no stranger's."""

import contextlib
import os
import pathlib
import secrets

import pytest

from stgrpo import cli
from stgrpo.config import base
from stgrpo.errors import RunError, UserError
from stgrpo.files import is_leftover, replacing, write_atomically
from stgrpo.workdir import WorkDir

SMOKE = f"--config={pathlib.Path(__file__).resolve().parents[2] / 'configs' / 'tiny.py'}:smoke"
REFUSED = (
    *("lr=1e-3,[seed=0]", "a[b", "a]b", "a\\b", "a*b", "a?b", "a\nb", "a\rb", "a\tb", "a\x1bb", "a\x7fb", "a\u2028b"),
    *("a\udcffb", "az://bucket/run", "s3://bucket", "gs:", "x" * 256, "é" * 128, "/".join(["y" * 200] * 20)),
)
TAKEN = (
    "lr=1e-3,seed=0",
    "a b",
    "a{b}",
    "a#b",
    "50%",
    "a:b",
    "-a",
    "a~",
    "日本",
    "👩‍🍳",
    "x" * 255,
    "é" * 127,
    "$HOME",
    "a'b\"",
)


@pytest.mark.parametrize("name", REFUSED, ids=lambda name: ascii(name)[:20])
@pytest.mark.parametrize("stage", ["run", "collect", "report"])
def test_a_name_that_checkpoints_cannot_stand_under_is_refused_before_any_work(tmp_path, monkeypatch, stage, name):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as refused:
        cli.run([stage, SMOKE, f"--workdir={name}"])
    said = str(refused.value)
    assert said.startswith("--workdir=") and "\n" not in said and len(said) < 400
    said.encode()  # can be printed
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", TAKEN, ids=lambda name: ascii(name)[:20])
def test_other_names_are_taken(tmp_path, name):
    workdir = WorkDir(tmp_path / name)
    with workdir.owned():
        workdir.claim(base())
    assert (tmp_path / name / "config.json").is_file()


def test_the_home_folder_is_meant_by_its_sign_and_a_folder_stays_where_it_was_given(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    assert WorkDir("~/runs/a").path == tmp_path / "home" / "runs" / "a"
    assert WorkDir("~a").path == tmp_path / "~a"
    workdir = WorkDir("runs/b/")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    workdir.claim(base())
    assert (tmp_path / "runs" / "b" / "config.json").is_file()


def test_a_process_that_does_not_see_the_folder_of_process_0_says_so(tmp_path, monkeypatch):
    workdir = WorkDir(tmp_path)
    workdir.claim(base())
    workdir.check_shared()
    monkeypatch.setattr("stgrpo.workdir.folder._LOOKS_S", (0.0, 0.0))
    monkeypatch.setattr("stgrpo.workdir.folder.tell", lambda make: b"another host's")
    with pytest.raises(
        UserError, match=f"process 0 on .* does not see {tmp_path} as process 0 does: give a folder that"
    ):
        workdir.check_shared()
    (tmp_path / "config.json").unlink()
    with pytest.raises(UserError, match="does not see"):
        workdir.check_shared()


def test_two_names_of_one_folder_have_one_owner(tmp_path):
    (tmp_path / "w").mkdir()
    (tmp_path / "link").symlink_to("w")
    with WorkDir(tmp_path / "w").owned(), pytest.raises(UserError, match="in use"), WorkDir(tmp_path / "link").owned():
        pass


def test_a_file_and_a_strangers_folder_are_refused_and_left_as_they_are(tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("")
    (tmp_path / "dangling").symlink_to("nowhere")
    for name, says in (
        ("file", "is a file"),
        ("file/w", "Not a directory"),
        ("full", "not empty"),
        ("dangling", "give a"),
    ):
        with pytest.raises(UserError, match=says), WorkDir(tmp_path / name).owned():
            pass
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["thesis.tex"]


def test_a_folder_that_cannot_be_written_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(UserError, match="cannot be written"), WorkDir(tmp_path / "w").owned():
        pass


def test_what_a_kill_before_the_rename_left_is_ours_and_is_cleaned_up(tmp_path, monkeypatch):
    path, places = tmp_path / "w", ("config.json", "data/burger/train.jsonl", "evaluation/x.json", "tokenizer/part")
    for name in places:
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / f"{name}.{secrets.token_hex(4)}.part").write_text("{")
    (path / "tokenizer").rename(path / "tokenizer.0123abcd.part")
    for old in ("config.json.part", "metrics.jsonl.part", "data/burger/train.jsonl.4711.part"):
        (path / old).write_text("")
    (path / "config.json").write_text(base().to_json())
    (path / "notes.part").write_text("mine")
    (path / "report.html.01234567.part").write_text("a report in the making")
    workdir = WorkDir(path)
    with workdir.owned():
        workdir.claim(base())
        left = sorted(p.name for p in path.rglob("*.part"))
    assert left == ["notes.part", "report.html.01234567.part"]


def test_a_directory_of_nothing_but_a_half_made_config_is_no_strangers(tmp_path):
    (tmp_path / f"config.json.{secrets.token_hex(4)}.part").write_text("{")
    (tmp_path / "lock").write_text("{")
    workdir = WorkDir(tmp_path)
    with workdir.owned():
        workdir.claim(base())
    assert sorted(p.name for p in tmp_path.iterdir()) == ["config.json", "lock"]


def test_a_replaced_file_is_the_old_or_the_new_one_and_an_error_of_the_disk_is_one_line(tmp_path, monkeypatch):
    file = tmp_path / "a.json"
    write_atomically(file, "old")
    with contextlib.suppress(KeyboardInterrupt), replacing(file) as unfinished:
        assert is_leftover(unfinished)
        unfinished.write_text("half")
        raise KeyboardInterrupt
    assert file.read_text() == "old" and len(list(tmp_path.iterdir())) == 1
    for call in ("fsync", "replace"):
        with monkeypatch.context() as patched:
            patched.setattr(os, call, lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
            with pytest.raises(RunError, match=r"a.json cannot be written \(No space left on device\): what was there"):
                write_atomically(file, "new")
        assert file.read_text() == "old" and len(list(tmp_path.iterdir())) == 1


def test_a_report_is_made_while_another_job_is_at_work(tmp_path):
    workdir, plain = WorkDir(tmp_path / "w"), tmp_path / "plain.py"
    plain.write_text("from stgrpo.config import base as get_config")
    with workdir.owned():
        workdir.claim(base())
        cli.run(["report", f"--config={plain}", f"--workdir={tmp_path / 'w'}"])
    assert (tmp_path / "w" / "report.html").is_file() and not (tmp_path / "w" / "environment.json").exists()


def test_nothing_of_a_strangers_folder_goes_that_only_takes_results(tmp_path):
    mine = ("film.mkv.1.part", "film.0123abcd.part", "config.json.part", "data/x/film.2.part")
    for name in mine:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("half a film")
    (tmp_path / "evaluation").mkdir()
    (tmp_path / "evaluation" / "x.json.0123abcd.part").write_text("{")
    with WorkDir(tmp_path).owned(results_only=True):
        assert not list((tmp_path / "evaluation").iterdir())
    assert all((tmp_path / name).read_text() == "half a film" for name in mine)
