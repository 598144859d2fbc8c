"""Where the time of a step goes."""

import time
from collections.abc import Generator
from contextlib import contextmanager

import jax

from stgrpo.processes import watchdog


class Timer:
    """Adds up the wall time of named parts of a step, in seconds."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def part(self, name: str) -> Generator[None]:
        """Adds the time of what is done within to a part, under whose name a profile shows it too."""
        watchdog.moved(f"the part {name} of a step")
        start = time.perf_counter()
        with jax.profiler.TraceAnnotation(name):
            yield
        self.seconds[f"seconds_{name}"] = self.seconds.get(f"seconds_{name}", 0.0) + time.perf_counter() - start
