"""Jobs on threads, begun as others end."""

import itertools
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from typing import TypeVar

Result = TypeVar("Result")


def parallel(
    jobs: Iterable[Callable[[], Result] | None], workers: int, *, on_error: Callable[[], None]
) -> Iterator[Result]:
    """Does jobs on so many threads and yields what they return, in the order in which they end.

    A job is taken from `jobs` when a thread is free for it, so `jobs` can stop when enough is done.

    Args:
      jobs: each is called once; None where there is nothing to do before another job has ended.
      workers: threads.
      on_error: called before the first error is raised, or when nobody wants more results: it should make the jobs that
        are under way end soon, for they are waited for.
    """
    jobs = iter(jobs)
    with ThreadPoolExecutor(workers) as pool:
        running = {pool.submit(job) for job in itertools.islice(jobs, workers) if job is not None}
        try:
            while running:
                done, running = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    yield future.result()
                    running |= {pool.submit(job) for job in itertools.islice(jobs, 1) if job is not None}
        except BaseException:
            on_error()
            raise
