"""Jobs on threads, begun as others end.

Not by `concurrent.futures`, which waits for its threads when the interpreter ends: an interrupt from the keyboard would
last as long as the slowest answer.
"""

import contextlib
import itertools
import queue
import threading
from collections.abc import Callable, Generator, Iterable
from typing import TypeVar

Result = TypeVar("Result")
_Job = Callable[[], Result]


def parallel(jobs: Iterable[_Job | None], workers: int, *, on_error: Callable[[], None]) -> Generator[Result]:
    """Does jobs on so many threads and yields what they return, in the order in which they end.

    A job is taken from `jobs` when a thread is free for it, so `jobs` can stop when enough is done.

    Args:
        jobs: each is called once; None where there is nothing to do before another job has ended.
        workers: threads.
        on_error: called before the first error is raised, or when nobody wants more results: it should make the jobs
            that are under way end soon, for they are waited for. Only an interrupt from the keyboard waits for nothing.
    """
    jobs, todo, done = iter(jobs), queue.SimpleQueue(), queue.SimpleQueue()
    threads = [threading.Thread(target=_work, args=(todo, done), daemon=True) for _ in range(workers)]
    running, waits = 0, True
    try:
        for thread in threads:
            thread.start()
        fresh = [job for job in itertools.islice(jobs, workers) if job is not None]
        while running or fresh:
            for job in fresh:
                todo.put(job)
            running += len(fresh)
            result, error = _next(done)
            running -= 1
            if error is not None:
                raise error
            yield result
            fresh = [job for job in itertools.islice(jobs, 1) if job is not None]
    except BaseException as error:
        on_error()
        waits = not isinstance(error, KeyboardInterrupt)
        raise
    finally:
        for _ in threads:
            todo.put(None)
        for thread in threads if waits else ():
            thread.join()


def _next(done: "queue.SimpleQueue[tuple]") -> tuple:
    """Waits by the second: an interrupt in the very moment in which a longer wait begins would not end it."""
    while True:
        with contextlib.suppress(queue.Empty):
            return done.get(timeout=1.0)


def _work(todo: "queue.SimpleQueue[_Job | None]", done: "queue.SimpleQueue[tuple]") -> None:
    while (job := todo.get()) is not None:
        try:
            done.put((job(), None))
        except BaseException as error:  # noqa: BLE001 it is raised in the thread that wants the result
            done.put((None, error))
