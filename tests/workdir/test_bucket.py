"""Work directories in buckets, on fsspec's store in memory; tests/integration/test_bucket.py has an S3 server."""

import dataclasses
import json
import os
import pathlib
import shutil
import time

import fsspec
import jax
import pytest
from small_checkpoints import RECORD, steps_on

from stgrpo import cli
from stgrpo.command_line import with_local_checkpoint
from stgrpo.errors import RunError, UserError
from stgrpo.files import from_json, to_json
from stgrpo.training.checkpointing import Checkpoints, load_metadata
from stgrpo.workdir import bucket as buckets
from stgrpo.workdir import lease as leases
from stgrpo.workdir import mirror as mirrors
from stgrpo.workdir.bucket import Bucket, check_bucket, is_bucket
from stgrpo.workdir.lease import Held, Lease, Lost
from stgrpo.workdir.lock import Owner
from stgrpo.workdir.mirror import Mirror, fetched, local_folder, looked_at

URL = "memory://bucket/runs/a"
SMOKE = f"--config={pathlib.Path(__file__).resolve().parents[2] / 'configs' / 'tiny.py'}:smoke"


@pytest.fixture
def store(monkeypatch, tmp_path):
    """The store, empty; this machine's copies are in tmp_path/one, nothing waits, and no thread comes in between."""
    monkeypatch.setitem(buckets.PACKAGES, "memory", ("fsspec", "s3"))
    monkeypatch.setenv("STGRPO_SCRATCH", str(tmp_path / "one"))
    monkeypatch.setattr(leases, "SETTLE_S", 0.0)
    system = fsspec.filesystem("memory")
    system.store.clear()
    yield system
    system.store.clear()


def fill(folder, files):
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def held(folder=URL):
    """What is in the bucket, without its lock."""
    made = Bucket(folder)
    return {name: (made.read(name) or b"").decode() for name in made.names() if name != "lock"}


def other_machine(monkeypatch, tmp_path):
    monkeypatch.setenv("STGRPO_SCRATCH", str(tmp_path / "two"))


WHOLE = {
    "config.json": "{}",
    "metrics.jsonl": "a\n",
    "data/burger/train.jsonl": "b\n",
    "checkpoints/sft/2/params/x": "2",
    "checkpoints/sft/2/files.json": "{}",
}
UNWANTED = {
    "lock": "{",
    "config.json.0123abcd.part": "{",
    "checkpoints/sft/4.00000004.part/files.json": "{}",
    "checkpoints/sft/3/params/x": "no files.json",
}


def test_what_is_made_comes_to_the_bucket_and_to_the_next_machine(store, monkeypatch, tmp_path):
    with local_folder(URL) as here:
        assert here.parent == tmp_path / "one" and not list(here.iterdir())
        fill(here, WHOLE | UNWANTED)
    assert held() == WHOLE
    other_machine(monkeypatch, tmp_path)
    with local_folder(URL) as there:
        assert there.parent == tmp_path / "two"
        assert {str(p.relative_to(there)): p.read_text() for p in there.rglob("*") if p.is_file()} == WHOLE
        fill(there, {"metrics.jsonl": "a\nc\n", "checkpoints/sft/4/files.json": "{4}"})
        shutil.rmtree(there / "checkpoints/sft/2")
    assert held()["metrics.jsonl"] == "a\nc\n" and "checkpoints/sft/4/files.json" in held()
    assert not any(name.startswith("checkpoints/sft/2") for name in held())


def test_the_last_machine_goes_on_with_what_it_has_and_an_earlier_one_with_the_buckets(
    store, monkeypatch, tmp_path, caplog
):
    with local_folder(URL) as here:
        fill(here, WHOLE)
    fill(here, {"metrics.jsonl": "not brought yet\n"})  # as after a machine that lost its network
    with local_folder(URL) as again:
        assert again == here and (here / "metrics.jsonl").read_text() == "not brought yet\n"
    assert held()["metrics.jsonl"] == "not brought yet\n"
    other_machine(monkeypatch, tmp_path)
    with local_folder(URL) as there:
        fill(there, {"metrics.jsonl": "newer\n"})
    fill(here, {"samples.jsonl": "never brought\n"})
    monkeypatch.setenv("STGRPO_SCRATCH", str(tmp_path / "one"))
    with local_folder(URL) as once_more:
        assert (once_more / "metrics.jsonl").read_text() == "newer\n" and not (once_more / "samples.jsonl").exists()
    assert (here.with_name(f"{here.name}.old-1") / "samples.jsonl").read_text() == "never brought\n"
    assert "old-1" in caplog.text
    other_machine(monkeypatch, tmp_path)
    with local_folder(URL) as there:
        assert not list(there.parent.glob("*.old-*"))  # all of it had come there


def test_of_a_step_the_file_that_makes_it_whole_goes_last_and_is_taken_back_first(store, monkeypatch, tmp_path):
    done = []
    made = Mirror(Bucket(URL), tmp_path / "w")
    fill(made.local, WHOLE)
    for name in ("upload", "remove"):
        call = getattr(made.bucket, name)

        def noted(*given, name=name, call=call):
            names = [*(given[-1])]
            done.extend((name, n) for n in names)
            return call(*given[:-1], names)

        monkeypatch.setattr(made.bucket, name, noted)
    made.push()
    order = [n for name, n in done if name == "upload"]
    assert order.index("metrics.jsonl") < order.index("checkpoints/sft/2/params/x") and order[-1].endswith(
        "2/files.json"
    )
    done.clear()
    made.push()
    assert done == []
    fill(made.local, {"checkpoints/sft/2/params/x": "another"})
    made.push()
    assert done == [
        ("remove", "checkpoints/sft/2/files.json"),
        ("upload", "checkpoints/sft/2/params/x"),
        ("upload", "checkpoints/sft/2/files.json"),
    ]
    done.clear()
    shutil.rmtree(made.local / "checkpoints/sft/2")
    made.push()
    assert done == [("remove", "checkpoints/sft/2/files.json"), ("remove", "checkpoints/sft/2/params/x")]


def test_a_step_that_goes_while_it_is_brought_is_not_whole_there(store, monkeypatch, tmp_path):
    made = Mirror(Bucket(URL), tmp_path / "w")
    fill(made.local, WHOLE)
    upload = made.bucket.upload

    def pruned(folder, names):
        names = [*names]
        if "checkpoints/sft/2/params/x" in names:
            shutil.rmtree(folder / "checkpoints/sft/2")
        return upload(folder, names)

    monkeypatch.setattr(made.bucket, "upload", pruned)
    made.push()
    assert "checkpoints/sft/2/files.json" not in held()


def test_one_job_has_a_folder_and_a_dead_ones_is_taken_over(store, monkeypatch):
    monkeypatch.setattr(leases, "WATCH_S", 0.1)
    monkeypatch.setattr(leases, "BEAT_S", 0.1)
    one, two = Lease(Bucket(URL)), Lease(Bucket(URL))
    assert one.take() == ""
    with pytest.raises(UserError, match=rf"{URL} is in use by .*process {os.getpid()}"):
        two.take()
    with monkeypatch.context() as far:
        far.setattr(Owner, "seen_from_here", False)
        far.setattr(time, "sleep", lambda seconds: one.beat())
        with pytest.raises(UserError, match="is in use by"):  # it gives signs of life
            two.take()
    with monkeypatch.context() as far:
        far.setattr(Owner, "seen_from_here", False)
        assert two.take() == one.token
    with pytest.raises(Lost, match="was taken over by"):
        one.beat()
    one.give_back()
    two.beat()
    two.give_back()
    assert Held.read(Bucket(URL).read("lock")).owner is None


def test_of_two_that_take_at_one_time_the_last_has_it(store, monkeypatch):
    free = {"token": "t", "beat": 0, "owner": None}
    theirs = to_json(free | {"token": "theirs", "owner": dataclasses.asdict(Owner.this())}).encode()
    Bucket(URL).write("lock", to_json(free).encode())
    monkeypatch.setattr(time, "sleep", lambda seconds: Bucket(URL).write("lock", theirs))
    with pytest.raises(UserError, match="taken at the same time"):
        Lease(Bucket(URL)).take()


def test_a_strangers_folder_is_refused_and_left_as_it_is(store):
    fill_there = {"thesis.tex": "years of work", "data.csv": "1"}
    for name, text in fill_there.items():
        Bucket(URL).write(name, text.encode())
    with pytest.raises(UserError, match="is not empty and has no config.json"), local_folder(URL):
        pass
    assert Bucket(URL).names() == sorted(fill_there)
    with local_folder(URL, results_only=True) as here:
        assert not list(here.iterdir())
        fill(here, {"evaluation/x.json": "{}"})
    assert held() == fill_there | {"evaluation/x.json": "{}"}
    Bucket("memory://bucket/other").write("lock", b"a padlock")
    with pytest.raises(UserError, match="lock is somebody else's file"), local_folder("memory://bucket/other"):
        pass


def test_a_bucket_that_fails_at_the_end_is_one_line_that_says_where_all_is(store, monkeypatch, caplog):
    def gone(*_, **__):
        raise OSError("the network is down\nand more")

    def work(folder):
        fill(folder, WHOLE)
        monkeypatch.setattr(type(store), "put_file", gone)

    with pytest.raises(RunError) as failed, local_folder(URL) as here:
        work(here)
    assert f"(the network is down): see to the network, and the same command goes on; all is in {here}" in str(
        failed.value
    )
    with pytest.raises(ValueError, match="mine"), local_folder(URL) as here:
        raise ValueError("mine")  # is not lost for the bucket's
    assert "all is in" in caplog.text
    monkeypatch.undo()


def test_passes_are_made_while_a_run_is_at_work_and_a_lost_folder_ends_it(store, monkeypatch):
    monkeypatch.setattr(mirrors, "PUSH_S", 0.05)
    monkeypatch.setattr(mirrors, "BEAT_S", 0.05)
    ended = []
    monkeypatch.setattr(mirrors, "fail", ended.append)

    def work(folder):
        fill(folder, WHOLE)
        wait_for(lambda: held() == WHOLE)
        now = from_json(Bucket(URL).read("lock"))
        Bucket(URL).write("lock", to_json(now | {"token": "another"}).encode())
        wait_for(lambda: ended)

    with pytest.raises(RunError, match="taken over"), local_folder(URL) as here:
        work(here)
    assert f"what is new is in {here}" in ended[0]


def wait_for(done, seconds=20):
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_checkpoint_is_fetched_once_and_again_when_it_is_another(store):
    at = f"{URL}/checkpoints/grpo/6"
    with pytest.raises(UserError, match="is no whole checkpoint: it has no files.json"):
        fetched(at)
    for name, content in (("files.json", b"{}"), ("params/x", b"1")):
        Bucket(at).write(name, content)
    here = fetched(at)
    assert here.name == "6" and (here / "params/x").read_text() == "1"
    (here / "params/x").write_text("kept")
    assert (fetched(at) / "params/x").read_text() == "kept"
    Bucket(at).write("files.json", b'{"a": 1}')
    assert (fetched(at) / "params/x").read_text() == "1"
    assert fetched("/a/6") == pathlib.Path("/a/6")


@pytest.mark.parametrize(
    "words", [[f"--checkpoint={URL}/checkpoints/sft/1"], ["--checkpoint", f"{URL}/checkpoints/sft/1"]]
)
def test_a_command_has_the_copy_of_a_checkpoint(store, tmp_path, words):
    with Checkpoints(tmp_path / "sft") as made:
        made.save(steps_on(1).init(jax.random.key(0)), RECORD)
    step = tmp_path / "sft" / str(RECORD.step)
    Bucket(f"{URL}/checkpoints/sft/1").upload(step, [str(p.relative_to(step)) for p in step.rglob("*") if p.is_file()])
    first, given, last = with_local_checkpoint(["export", *words, "--workdir=exported"])
    assert (first, last) == ("export", "--workdir=exported") and given.startswith(f"--checkpoint={tmp_path / 'one'}")
    assert load_metadata(pathlib.Path(given.partition("=")[2])) == load_metadata(step)
    assert with_local_checkpoint(["sft", *words]) == ["sft", f"--checkpoint={URL}/checkpoints/sft/1"]


def test_a_report_looks_at_a_bucket_whoever_has_it(store):
    with pytest.raises(UserError, match="has no config.json: give the folder of a run"), looked_at(URL):
        pass
    with local_folder(URL) as here:
        fill(here, WHOLE)
    Lease(Bucket(URL)).take()
    with looked_at(URL) as seen:
        assert not (seen / "checkpoints").exists() and (seen / "metrics.jsonl").read_text() == "a\n"
        fill(seen, {"report.html": "<html>"})
    assert held()["report.html"] == "<html>" and (seen / "report.html").is_file()


def test_a_stage_works_in_a_bucket(store, capsys):
    cli.run(["collect", SMOKE, f"--workdir={URL}"])
    cli.run(["report", SMOKE, f"--workdir={URL}"])
    out = capsys.readouterr().out
    assert f"{URL} is worked on in " in out
    assert {"config.json", "environment.json", "data/burger/train.jsonl", "report.html"} <= held().keys()
    with pytest.raises(UserError, match="seed: 1 here, 0 there"):
        cli.run(["collect", SMOKE, f"--workdir={URL}", "--config.seed=1"])
    assert Held.read(Bucket(URL).read("lock")).owner is None


REFUSED = (
    *("s3://", "s3://bucket", "s3://bucket/", "s3:///a", "s3://b/a", "s3://user:pw@bucket/a", "s3://bucket/a?b"),
    *("s3://bucket/a[b", "s3://bucket/a\nb", "s3://bucket/../b", "s3://bucket/a//b", f"gs://bucket/{'x' * 701}"),
)


@pytest.mark.parametrize("url", REFUSED)
def test_an_address_of_no_folder_is_refused(url):
    assert is_bucket(url)
    with pytest.raises(UserError) as refused:
        check_bucket(url, "--workdir")
    assert str(refused.value).startswith("--workdir=") and "\n" not in str(refused.value)
    assert len(str(refused.value)) < 300


def test_what_is_no_bucket_stays_a_path(tmp_path):
    assert not any(map(is_bucket, ("runs/a", "/s3/a", "s3:/a", "http://a/b", "ftp://a/b", "")))
    with local_folder(str(tmp_path)) as here:
        assert here == tmp_path and not list(tmp_path.iterdir())


def test_a_package_that_is_missing_is_named(monkeypatch):
    def missing(*_, **__):
        raise ImportError("Install gcsfs to access Google Storage")

    monkeypatch.setattr("fsspec.core.url_to_fs", missing)
    with pytest.raises(UserError, match=r"gs://bucket/a needs gcsfs: pip install 'stgrpo\[gcs\]'"):
        Bucket("gs://bucket/a")


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"{}", b'{"token": 1}', b'{"token": "a", "beat": 1, "owner": {"x": 1}}']
)
def test_a_lock_that_says_something_else_is_nobodys(content):
    with pytest.raises(ValueError, match="."):
        Held.read(content)


def test_an_owner_is_read_back():
    about = dataclasses.asdict(Owner.this())
    said = Held.read(json.dumps({"token": "t", "beat": 3, "owner": about}).encode())
    assert (said.token, said.beat, said.owner) == ("t", 3, Owner(**about))
