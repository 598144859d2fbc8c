"""One process that fails ends all: each says that it lives, and looks whether another has failed or fallen silent.

A process that waits for the others in a collective cannot be woken, so a thread does it, and ends the process at once.
"""

import contextlib
import faulthandler
import os
import socket
import sys
import threading
import time
from collections.abc import Mapping

from stgrpo import processes
from stgrpo.errors import Preempted, UserError
from stgrpo.files import from_json, to_json
from stgrpo.processes import faults, preemption, store
from stgrpo.processes.logs import complain

BEAT = 3.0  # seconds between two signs of life
LOST = 20.0  # seconds without one, after which a process counts as lost: before JAX's own heartbeat ends the rest
_LOOK = 0.5  # seconds between two looks at what the others say
_LAST_WORDS = 10.0  # seconds that process 0, who keeps the store, stays for the others to read it

_ended = threading.Event()
_leaving = threading.Lock()


def watch() -> None:
    """Begins to look after the other processes, in a thread."""
    if processes.count() > 1:
        threading.Thread(target=_watch, daemon=True, name="processes").start()


def end_watch() -> None:
    """The run is over: nobody is missed any more."""
    _ended.set()


def fail(text: str, *, lost: int = 0) -> None:
    """Ends this process and all others with 1, and leaves a report of it. Does not return.

    Args:
        text: one line on what went wrong, which no exception has said.
        lost: see `abort`.
    """
    faults.write(text)
    complain(faults.named(text))
    abort(1, faults.named(text), lost=lost)


def abort(code: int, text: str, *, lost: int = 0) -> None:
    """Ends this process with an exit status, and all others with the same. Does not return.

    Args:
        code: exit status.
        text: one line on what went wrong, for process 0 to show.
        lost: of the others, so many are gone and need not be waited for.
    """
    _leaving.acquire()  # for good: one thread ends the process
    sys.stdout.flush()
    sys.stderr.flush()
    note = {"code": code, "text": text, "host": socket.gethostname()}
    try:
        store.put(f"failed/{processes.index()}", to_json(note).encode())
        _stay(lost)
    except Exception as error:  # noqa: BLE001 - the coordinator is gone: so are the others, soon
        print(f"stgrpo: the other processes could not be told ({error})", file=sys.stderr, flush=True)
    faults.settle()
    os._exit(code)


def give_way(error: BaseException) -> None:
    """Waits, before this process says that it failed, until it is known that the others are alive.

    An error may come of a process that is gone, in whatever words: then the watch ends this one and names that one. Of
    an error that all have, the first speaks.
    """
    if processes.count() == 1 or isinstance(error, UserError | Preempted):
        return
    with contextlib.suppress(Exception):  # the coordinator is gone, and whoever keeps it: JAX ends this one
        _wait_for_signs()
    if not processes.is_first():
        time.sleep(2 * BEAT)


def _wait_for_signs() -> None:
    """Returns when every process has given another sign of life; where one does not, the watch ends this process."""
    before, deadline = store.listed("alive"), time.monotonic() + 2 * BEAT + _LOOK
    while _silent(before, store.listed("alive")):
        if time.monotonic() > deadline:
            time.sleep(LOST)
        time.sleep(_LOOK)


def _silent(before: Mapping[str, bytes], now: Mapping[str, bytes]) -> bool:
    """Whether a process has given no sign of life since."""
    return any(now.get(name) == sign for name, sign in before.items())


def _stay(lost: int = 0) -> None:
    """Process 0 keeps the store: it stays until the others have read what it says, or for some seconds."""
    deadline = time.monotonic() + _LAST_WORDS
    while processes.is_first() and time.monotonic() < deadline:
        if len(store.listed("left")) >= processes.count() - 1 - lost:
            time.sleep(_LOOK)  # who said so is about to end
            return
        time.sleep(_LOOK / 2)


def _watch() -> None:
    beats = _Beats()
    while not _ended.wait(_LOOK):
        try:
            beats.give()
            failed = store.listed("failed")
            lost = beats.lost() if processes.is_first() else []
        except Exception as error:  # noqa: BLE001 - jaxlib's errors have no public type
            if not _ended.is_set():
                _end(1, f"process 0 cannot be reached any more ({_first_line(error)})")
            return
        if failed:
            index, note = min((int(i), from_json(data)) for i, data in failed.items())
            _end(note["code"], f"process {index} on {note['host']}: {note['text']}")
        elif lost:
            fail(lost[0], lost=len(lost))
        elif preemption.may_end_now():
            _end(75, preemption.WORDS)


def _end(code: int, text: str) -> None:
    """Ends this process since another one has, unless it is about to say the same by itself."""
    time.sleep(2 * _LOOK)
    if not _leaving.acquire(blocking=False):
        return
    complain(text)
    if code == 1:
        faults.write(text)  # what it did when the other one failed
    if not processes.is_first():
        faulthandler.dump_traceback(file=sys.stderr)  # into its log
    sys.stdout.flush()
    faults.settle()
    try:
        store.put(f"left/{processes.index()}", b"")  # last: soon after, process 0 goes, and JAX kills who is left
        _stay()
    except Exception:  # noqa: BLE001 - process 0 is gone already
        pass
    os._exit(code)


class _Beats:
    """Signs of life: this process's, and in process 0 what was seen of the others."""

    def __init__(self) -> None:
        self._number, self._last = 0, -BEAT
        self._seen: dict[str, tuple[bytes, float]] = {}

    def give(self) -> None:
        """A sign of this process, if it is time."""
        if time.monotonic() - self._last < BEAT:
            return
        self._last, self._number = time.monotonic(), self._number + 1
        sign = {"number": self._number, "host": socket.gethostname()}
        store.put(f"alive/{processes.index()}", to_json(sign).encode())

    def lost(self) -> list[str]:
        """Says of each process that has given no sign for too long that it has."""
        now, gone = time.monotonic(), []
        for name, sign in store.listed("alive").items():
            if name not in self._seen or self._seen[name][0] != sign:
                self._seen[name] = sign, now
            elif now - self._seen[name][1] > LOST:
                host = from_json(sign)["host"]
                gone.append(f"process {name} on {host} gave no sign of life for {LOST:.0f} s: its own log may say why")
        return gone


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:160]
