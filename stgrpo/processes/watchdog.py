"""A run of several processes that stands still is ended, and says where it stood: nobody may be there to see it.

A collective that one process never joins holds all others for ever, and a cluster that is paid by the hour with them.
"""

import faulthandler
import sys
import threading
import time

from stgrpo import processes
from stgrpo.processes.failure import fail


class _Progress:
    """The last thing that was begun or done, and when."""

    def __init__(self) -> None:
        self.part, self.time = "the start", time.monotonic()


_progress = _Progress()


def moved(part: str) -> None:
    """Says that the run goes on, and with what."""
    _progress.part, _progress.time = part, time.monotonic()


def watch(minutes: float) -> None:
    """Ends this run of several processes, from a thread, once nothing has moved for so long; 0 for never."""
    if processes.count() > 1 and minutes:
        moved(_progress.part)
        threading.Thread(target=_watch, args=(minutes,), daemon=True, name="watchdog").start()


def _watch(minutes: float) -> None:
    while time.monotonic() - _progress.time < 60 * minutes:
        time.sleep(min(10.0, 6 * minutes))
    text = f"{_progress.part} has not moved for {minutes:g} minutes; what each process did then is in its log"
    faulthandler.dump_traceback(file=sys.stderr)
    fail(text)
