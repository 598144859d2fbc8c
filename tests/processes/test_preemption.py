"""Asked to end by a signal: what a process does that is not saving, and what no handler of errors may swallow."""

import contextlib
import os
import signal

import pytest

from stgrpo.errors import Preempted
from stgrpo.processes import preemption


@pytest.fixture
def heard(monkeypatch):
    """A process that has not been asked yet, and hears the signal until the end of the test."""
    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(preemption, "_notice", preemption._Notice())
    preemption.listen()
    yield
    signal.signal(signal.SIGTERM, before)


def test_what_goes_on_after_errors_does_not_go_on_after_the_signal(heard):
    with pytest.raises(Preempted, match=r"asked to end \(SIGTERM\)"), contextlib.suppress(Exception):
        os.kill(os.getpid(), signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL  # who asks twice does not want to wait


def test_work_that_saves_goes_on_to_the_end_of_its_step(heard):
    done = []

    def train():
        with preemption.saved_first():
            for step in range(5):
                if step == 2:
                    os.kill(os.getpid(), signal.SIGTERM)
                done.append(step)
                if preemption.leaving():
                    break

    with pytest.raises(Preempted):
        train()
    assert done == [0, 1, 2]
