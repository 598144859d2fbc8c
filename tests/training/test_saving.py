"""Saves that go on while training does: what is written is what was there, errors come out, the best ones stay."""

import dataclasses
import errno
import os
import threading

import jax
import numpy as np
import pytest
from small_checkpoints import RECORD, same, steps_on

from stgrpo.errors import RunError, UserError
from stgrpo.training import checkpointing
from stgrpo.training.checkpointing import Checkpoints, newest_metadata
from stgrpo.training.step_folders import write_sums


@pytest.fixture
def held(monkeypatch):
    """Saves stand still, all arrays written or not, until it is set."""
    go_on = threading.Event()

    def waiting(step):
        assert go_on.wait(60)
        write_sums(step)

    monkeypatch.setattr(checkpointing, "write_sums", waiting)
    yield go_on
    go_on.set()


@pytest.mark.parametrize("place", ["sft", "."])
def test_a_file_in_the_place_of_the_folder_is_seen_before_any_work(tmp_path, place):
    file = (tmp_path / "checkpoints" / place).resolve()
    file.parent.mkdir(exist_ok=True)
    file.write_text("")
    with pytest.raises(UserError, match=f"{file} is a file where a folder belongs"):
        Checkpoints(tmp_path / "checkpoints" / "sft")


def record(step, rate=None):
    return dataclasses.replace(RECORD, step=step, validation_sr=rate)


@pytest.mark.parametrize("sizes", [(1, 1, 1), (2, 2, 1)])
def test_a_save_holds_the_numbers_of_its_step_whatever_training_does_meanwhile(tmp_path, sizes):
    steps = steps_on(*sizes)
    train = jax.jit(lambda state: jax.tree.map(lambda x: x + np.ones((), x.dtype), state), donate_argnums=0)
    state = steps.init(jax.random.key(0))
    with Checkpoints(tmp_path / "sft", keep=9) as checkpoints:
        for step in range(1, 5):
            before = jax.tree.map(lambda x: np.array(x), state)
            checkpoints.start_save(state, record(step))
            for _ in range(3):
                state = train(state)
        checkpoints.wait()
        found, said = checkpoints.restore(steps.abstract)
        assert said.step == 4 and same(found, before)
        assert checkpoints.steps() == [1, 2, 3, 4]


def test_training_goes_on_while_a_save_is_written_and_the_next_one_waits_for_it(tmp_path, held):
    state = steps_on(1, 1, 1).init(jax.random.key(0))
    held.set()
    with Checkpoints(tmp_path / "sft", keep=9) as checkpoints:
        checkpoints.start_save(state, record(1))  # the first is waited for
        held.clear()
        checkpoints.start_save(state, record(2))  # returns though nothing of it counts yet
        assert newest_metadata(tmp_path / "sft").step == 1
        third = threading.Thread(target=checkpoints.start_save, args=(state, record(3)))
        third.start()
        third.join(0.5)
        assert third.is_alive()
        held.set()
        third.join(60)
        assert checkpoints.newest() == 3 and checkpoints.steps() == [1, 2, 3]


def full(step):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("then", ["wait", "newest", "start_save", "close"])
def test_a_save_that_fails_behind_training_ends_it_at_the_next_look(tmp_path, monkeypatch, then):
    state = steps_on(1, 1, 1).init(jax.random.key(0))
    says = "checkpoint .*/2 cannot be written .No space left on device.: those before it stand; make room"

    def run():
        with Checkpoints(tmp_path / "sft") as checkpoints:
            checkpoints.save(state, record(1))
            monkeypatch.setattr(checkpointing, "write_sums", full)
            checkpoints.start_save(state, record(2))
            if then != "close":
                getattr(checkpoints, then)(*((state, record(3)) if then == "start_save" else ()))

    with pytest.raises(RunError, match=says):
        run()
    assert [path.name for path in (tmp_path / "sft").iterdir()] == ["1"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_what_was_begun_is_written_before_an_error_ends_the_run(tmp_path, error):
    state = steps_on(1, 1, 1).init(jax.random.key(0))

    def run():
        with Checkpoints(tmp_path / "sft") as checkpoints:
            checkpoints.save(state, record(1))
            checkpoints.start_save(state, record(2))
            raise error

    with pytest.raises(error):
        run()
    assert newest_metadata(tmp_path / "sft").step == 2


def test_an_error_that_ends_the_run_is_not_hidden_by_that_of_a_save(tmp_path, monkeypatch, caplog):
    state = steps_on(1, 1, 1).init(jax.random.key(0))

    def run():
        with Checkpoints(tmp_path / "sft") as checkpoints:
            checkpoints.save(state, record(1))
            monkeypatch.setattr(checkpointing, "write_sums", full)
            checkpoints.start_save(state, record(2))
            raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        run()
    assert "/2 cannot be written (No space left on device)" in caplog.text


@pytest.mark.parametrize(
    ("rates", "keep", "keep_best", "left"),
    [
        ([0.1, 0.5, 0.2, 0.3, 0.1], 2, 1, [2, 4, 5]),
        ([0.1, 0.5, 0.2, 0.3, 0.1], 2, 0, [4, 5]),
        ([0.1, 0.5, 0.2, 0.3, 0.4], 1, 3, [2, 4, 5]),
        ([0.5, 0.5, 0.1, 0.1, 0.1], 1, 1, [2, 5]),  # of even ones the later
        ([None, 0.0, None, None, None], 1, 1, [2, 5]),
        ([None] * 5, 2, 1, [4, 5]),
        ([0.1, 0.2, 0.3, 0.4, 0.5], 1, 1, [5]),  # the newest is the best
    ],
)
def test_the_newest_and_the_best_stay(tmp_path, rates, keep, keep_best, left):
    state = steps_on(1, 1, 1).init(jax.random.key(0))
    with Checkpoints(tmp_path / "grpo", keep=keep, keep_best=keep_best) as checkpoints:
        for step, rate in enumerate(rates, start=1):
            checkpoints.start_save(state, record(step, rate))
        assert checkpoints.steps() == left
