"""Asked to end: on SIGTERM a training saves after its step and says so; everything else stops where it is.

With several processes JAX hears the signal in whichever it comes to, and lets all of them agree on one step after which
they leave. Where there is no such step to come, `failure` ends them all at once.
"""

import contextlib
import itertools
import signal
import threading
from collections.abc import Generator
from types import FrameType

from stgrpo import processes
from stgrpo.errors import Preempted
from stgrpo.processes import store

WORDS = "asked to end (SIGTERM): what is done is saved, the same command goes on from there"
_KEY = "RECEIVED_PREEMPTION_NOTICE"  # under which JAX's coordinator has what one of several processes was told


class _Notice:
    """Whether this process was asked to end, and whether it is at work that it would save first."""

    def __init__(self) -> None:
        self.asked = self.saving = False
        self.holds = 0
        self.checks = itertools.count()  # one over the whole run, as JAX wants it

    def hear(self, signum: int, frame: FrameType | None) -> None:
        self.asked = True
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # whoever asks twice does not want to wait
        if not self.saving:
            raise Preempted(WORDS)


_notice = _Notice()


def listen() -> None:
    """Hears SIGTERM from here on, where this is the main thread of a run's only process."""
    if processes.count() == 1 and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _notice.hear)


@contextlib.contextmanager
def no_sudden_end() -> Generator[None]:
    """Work of several processes that ends by itself when they are asked to, or that must not be broken off."""
    _notice.holds += 1
    try:
        yield
    finally:
        _notice.holds -= 1


def may_end_now() -> bool:
    """Whether one of several processes was asked to end, and this one neither saves nor is about to leave."""
    return not _notice.holds and not _notice.asked and store.has(_KEY)


@contextlib.contextmanager
def saved_first() -> Generator[None]:
    """Work that asks `leaving` after each step, and saves.

    Raises:
        Preempted: at the end, if the process was asked to end.
    """
    _notice.saving = True
    try:
        yield
    finally:
        _notice.saving = False
    if _notice.asked:
        raise Preempted(WORDS)


def leaving() -> bool:
    """Whether this is the step after which to save and leave; all processes ask after every step of theirs."""
    if processes.count() > 1:
        from jax.experimental import multihost_utils

        _notice.asked |= multihost_utils.reached_preemption_sync_point(next(_notice.checks))
    return _notice.asked
