"""Jobs on threads: how many at once, when the next begins, how errors end them."""

import signal
import subprocess
import sys
import threading
import time

import pytest

from stgrpo.serving.pool import parallel


def never():
    raise AssertionError("nothing went wrong")


def test_every_job_is_done_once_by_so_many_threads():
    running, most, lock = [0], [0], threading.Lock()

    def job(n):
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
        time.sleep(0.01)
        with lock:
            running[0] -= 1
        return n

    jobs = (lambda n=n: job(n) for n in range(20))
    assert sorted(parallel(jobs, 4, on_error=never)) == list(range(20))
    assert most[0] == 4


def test_jobs_may_stop_when_enough_is_done():
    done = []

    def jobs():
        while len(done) < 5:
            yield lambda: 1

    for result in parallel(jobs(), 2, on_error=never):
        done.append(result)
    assert 5 <= len(done) <= 6


def test_jobs_may_wait_for_others():
    begun, done = [], []

    def jobs():
        for n in range(6):
            while len(begun) - len(done) >= 2:
                yield None
            begun.append(n)
            yield lambda n=n: n

    for result in parallel(jobs(), 4, on_error=never):
        done.append(result)
    assert sorted(done) == list(range(6))


def test_an_error_ends_the_others_first():
    stop, begun = threading.Event(), []

    def job(n):
        begun.append(n)
        if n == 1:
            raise RuntimeError("broken")
        stop.wait(10)

    start = time.monotonic()
    with pytest.raises(RuntimeError, match="broken"):
        list(parallel((lambda n=n: job(n) for n in range(50)), 3, on_error=stop.set))
    assert time.monotonic() - start < 5 and len(begun) == 3


def test_nobody_wanting_more_ends_the_others_too():
    stop = threading.Event()
    results = parallel((lambda n=n: n and stop.wait(10) for n in range(3)), 3, on_error=stop.set)
    next(results)
    results.close()
    assert stop.is_set()


def test_an_interrupt_waits_for_nobody():
    stuck, told = threading.Event(), []

    def jobs():
        yield lambda: 1
        yield lambda: stuck.wait(20)
        raise KeyboardInterrupt  # as it comes in the main thread, while it waits

    begin = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        list(parallel(jobs(), 2, on_error=lambda: told.append(1)))
    assert time.monotonic() - begin < 5 and told == [1]
    stuck.set()


STUCK = """
import os, time
from stgrpo.serving.pool import parallel
jobs = (lambda: (os.write(1, b"begun\\n"), time.sleep(30)) for _ in range(2))
list(parallel(jobs, 2, on_error=lambda: None))
"""


def test_an_interrupted_process_ends_at_once():
    """Threads of `concurrent.futures` would be joined when the interpreter ends: 30 seconds here."""
    with subprocess.Popen([sys.executable, "-c", STUCK], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout.readline() == b"begun\n"
        begin = time.monotonic()
        process.send_signal(signal.SIGINT)
        process.wait(timeout=25)
        assert time.monotonic() - begin < 5
