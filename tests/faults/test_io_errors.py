"""Errors of the disk at random calls while checkpoints are written and read: nothing good goes, no error is damage."""

import dataclasses
import errno
import io
import os
import random
import shutil
from collections.abc import Callable

import jax
import pytest
from orbax.checkpoint._src.futures import future
from small_checkpoints import RECORD, same, steps_on

from stgrpo.errors import RunError, UserError
from stgrpo.training import step_folders
from stgrpo.training.checkpointing import Checkpoints
from stgrpo.training.metadata import load_metadata
from stgrpo.training.step_folders import damage

# What Orbax began and gave up is told of when it is collected.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
CALLS = (
    *((os, name) for name in ("stat", "lstat", "scandir", "listdir", "open", "fsync", "mkdir", "rename", "replace")),
    *((os, name) for name in ("unlink", "rmdir")),
    (io, "open"),
)
CODES = (errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.ESTALE, errno.EACCES, errno.ENOMEM, errno.EMFILE, errno.EROFS)


class Faulty:
    """A disk that fails from its so-and-so-many-th call on a folder, once or from then on."""

    def __init__(self, folder: str, number: int, code: int, *, lasting: bool):
        self.folder, self.number, self.code, self.lasting, self.calls = folder, number, code, lasting, 0

    def guard(self, call: Callable) -> Callable:
        """The call, as it is on this disk."""

        def replacement(path, *arguments, **options):
            if isinstance(path, int) or self.folder in os.fspath(path):
                self.calls += 1
                if self.calls == self.number or (self.lasting and self.calls > self.number):
                    raise OSError(self.code, os.strerror(self.code))
            return call(path, *arguments, **options)

        return replacement


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    """Orbax's threads wait minutes for a folder that another one could not make."""
    wait = future.wait_for_signals
    monkeypatch.setattr(
        future, "wait_for_signals", lambda signals, timeout_secs, **more: wait(signals, timeout_secs=5, **more)
    )


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder, steps = tmp_path_factory.mktemp("made") / "sft", steps_on(1, 1, 1)
    states = [steps.init(jax.random.key(seed)) for seed in range(1, 4)]
    checkpoints = Checkpoints(folder, keep=2)
    for number, state in enumerate(states[:2], start=1):
        checkpoints.save(state, dataclasses.replace(RECORD, step=number))
    return folder, states, steps.abstract


def one(made, folder, monkeypatch, seed: int) -> str:
    """One error in one job; gives what became of it."""
    source, states, abstract = made
    rng = random.Random(seed)
    shutil.copytree(source, folder)
    step_folders._proven.clear()
    job = rng.choice(("save", "restore"))
    faulty = Faulty(str(folder), rng.randint(1, 400), rng.choice(CODES), lasting=rng.random() < 0.5)
    about = f"seed {seed}: {job}, call {faulty.number}, {errno.errorcode[faulty.code]}, lasting {faulty.lasting}"
    checkpoints, told, restored = Checkpoints(folder, keep=2), "", None
    with monkeypatch.context() as disk:
        for where, name in CALLS:
            disk.setattr(where, name, faulty.guard(getattr(where, name)))
        try:
            if job == "save":
                checkpoints.save(states[2], dataclasses.replace(RECORD, step=3))
            else:
                restored = checkpoints.restore(abstract)
        except (RunError, UserError) as error:
            told = str(error)
    assert "\n" not in told and "delete" not in told, about
    step_folders._proven.clear()
    whole = {int(step.name) for step in folder.iterdir() if step.name.isdigit() and not damage(step)}
    assert 2 in whole and (1 in whole or 3 in whole), about
    if job == "restore":
        assert whole == {1, 2} and (told or (restored[1].step == 2 and same(restored[0], states[1]))), about
    elif not told:
        assert 3 in whole, about
    newest = Checkpoints(folder, keep=2).restore(abstract)
    assert newest[1].step == max(whole) and same(newest[0], states[newest[1].step - 1]), about
    assert load_metadata(folder / "2").step == 2
    shutil.rmtree(folder)
    return f"{job} {'told' if told else 'done'}"


def many(made, tmp_path, monkeypatch, seeds: range) -> dict[str, int]:
    """How often what became of it."""
    ends = [one(made, tmp_path / "sft", monkeypatch, seed) for seed in seeds]
    return {end: ends.count(end) for end in sorted(set(ends))}


def test_some_errors_of_the_disk(made, tmp_path, monkeypatch):
    many(made, tmp_path, monkeypatch, range(8))


@pytest.mark.slow
def test_many_errors_of_the_disk(made, tmp_path, monkeypatch, capsys):
    ends = many(made, tmp_path, monkeypatch, range(100, 100 + int(os.environ.get("STGRPO_FAULTS", "60"))))
    with capsys.disabled():
        print(ends)
    assert all(ends.get(end, 0) > 0 for end in ("restore told", "save told"))
