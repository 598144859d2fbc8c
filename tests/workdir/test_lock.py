"""One job owns a folder: a second one is refused in one line, a dead one's lock goes to one alone, forks keep none."""

import dataclasses
import errno
import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from stgrpo.errors import UserError
from stgrpo.workdir import lock
from stgrpo.workdir.lock import Owner, locked

HOLD = """
import pathlib, sys, time
from stgrpo.workdir.lock import locked
with locked(pathlib.Path(sys.argv[1]), "--workdir=w"):
    print("has it", flush=True)
    time.sleep(600)
"""


def holder(file) -> subprocess.Popen:
    """Another process that has the lock."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(file)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "has it\n"
    return process


def left_by(file, **changes) -> Owner:
    """A lock file as an owner leaves it that did not end as it should."""
    owner = dataclasses.replace(Owner.this(), **changes)
    file.write_text(json.dumps(dataclasses.asdict(owner)))
    return owner


def test_a_second_job_is_told_who_has_the_folder_and_since_when_and_gets_it_when_that_is_killed(tmp_path):
    file = tmp_path / "lock"
    process = holder(file)
    try:
        with pytest.raises(UserError) as refused, locked(file, "--workdir=w"):
            pass
        said = str(refused.value)
        assert said.startswith("--workdir=w is in use by `stgrpo") and "\n" not in said
        assert f"process {process.pid}, since 20" in said and os.uname().nodename in said
        assert Owner.read(file.read_text()).pid == process.pid  # who was refused has changed nothing
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    with locked(file, "--workdir=w"):
        assert Owner.read(file.read_text()).pid == os.getpid()
    assert file.read_text() == ""


def test_the_same_process_does_not_get_it_twice(tmp_path):
    with locked(tmp_path / "lock", "w"), pytest.raises(UserError, match="in use"), locked(tmp_path / "lock", "w"):
        pass


def test_of_many_that_take_over_a_dead_ones_lock_one_wins(tmp_path):
    file, won, refused = tmp_path / "lock", [], []
    left_by(file, pid=2**22 + 1, started="1")
    gate, stay = threading.Barrier(8), threading.Barrier(9)

    def take() -> None:
        gate.wait()
        try:
            with locked(file, "w"):
                won.append(1)
                stay.wait()
        except UserError:
            refused.append(1)
            stay.wait()

    threads = [threading.Thread(target=take) for _ in range(8)]
    for thread in threads:
        thread.start()
    stay.wait()
    for thread in threads:
        thread.join()
    assert (len(won), len(refused)) == (1, 7)


def test_neither_a_fork_nor_what_it_starts_keeps_the_lock(tmp_path):
    file = tmp_path / "lock"
    read, write = os.pipe()
    with locked(file, "w"):
        child = os.fork()
        if not child:
            os.close(write)
            os.read(read, 1)  # until the test ends
            os._exit(0)
        started = subprocess.Popen(["sleep", "60"])
    try:
        with locked(file, "w"):
            pass
    finally:
        os.close(write)
        os.waitpid(child, 0)
        started.kill()
        started.wait()


@pytest.mark.parametrize("text", ["", "{", "{}", '{"pid": 1}', "\0\0\0"])
def test_a_lock_file_that_names_nobody_is_free(tmp_path, text):
    (tmp_path / "lock").write_text(text)
    with locked(tmp_path / "lock", "w"):
        pass


def no_locks(handle, how):
    raise OSError(errno.ENOLCK, "No locks available")


def test_without_locks_the_owner_is_looked_up_and_a_number_that_is_used_again_is_not_it(tmp_path, monkeypatch):
    file = tmp_path / "lock"
    monkeypatch.setattr(lock.fcntl, "flock", no_locks)
    left_by(file)
    with pytest.raises(UserError, match="in use"), locked(file, "w"):
        pass
    left_by(file, started="12345")
    with locked(file, "w"):
        pass


@pytest.mark.parametrize("beats", [True, False])
def test_an_owner_on_another_machine_is_watched(tmp_path, monkeypatch, capsys, beats):
    file = tmp_path / "lock"
    monkeypatch.setattr(lock, "WATCH_S", 0.3)
    monkeypatch.setattr(lock, "BEAT_S", 0.1)
    left_by(file, host="elsewhere", boot="another")
    stop = threading.Event()

    def beat() -> None:
        while beats and not stop.wait(0.02):
            os.utime(file, ns=(time.time_ns(), time.time_ns()))

    thread = threading.Thread(target=beat)
    thread.start()
    try:
        if beats:
            with pytest.raises(UserError, match="in use by .* on elsewhere"), locked(file, "w"):
                pass
        else:
            with locked(file, "w"):
                assert Owner.read(file.read_text()).host == os.uname().nodename
    finally:
        stop.set()
        thread.join()
    assert "signs of life" in capsys.readouterr().err


def test_the_owner_gives_signs_of_life(tmp_path, monkeypatch):
    monkeypatch.setattr(lock, "BEAT_S", 0.02)
    with locked(tmp_path / "lock", "w"):
        first, deadline = (tmp_path / "lock").stat().st_mtime_ns, time.monotonic() + 10
        while (tmp_path / "lock").stat().st_mtime_ns == first:
            assert time.monotonic() < deadline
            time.sleep(0.01)


@pytest.mark.parametrize("content", ["my own notes", " {", "[1]"])
def test_a_strangers_file_of_that_name_stays_as_it_is(tmp_path, content):
    file = tmp_path / "lock"
    file.write_text(content)
    with pytest.raises(UserError, match="is somebody else's file, and no lock"), locked(file, "w"):
        pass
    assert file.read_text() == content


def test_a_link_of_that_name_is_not_followed(tmp_path):
    (tmp_path / "thesis.tex").write_text("{years of work}")
    (tmp_path / "lock").symlink_to(tmp_path / "thesis.tex")
    with pytest.raises(UserError, match="is a link"), locked(tmp_path / "lock", "w"):
        pass
    assert (tmp_path / "thesis.tex").read_text() == "{years of work}"


def test_a_pipe_of_that_name_is_refused(tmp_path):
    os.mkfifo(tmp_path / "lock")
    with pytest.raises(UserError, match="no lock"), locked(tmp_path / "lock", "w"):
        pass
