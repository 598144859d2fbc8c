"""Several processes in one run: on the hosts of a TPU pod, one a GPU, or some on one machine for a test.

Every process runs the same program on the same numbers; their devices make one mesh. Process 0 writes the files of the
work directory and speaks to people and servers. What it alone knows, it tells the others before anything depends on it.
One process is the case in which nothing here does anything.
"""

import dataclasses


@dataclasses.dataclass
class _Here:
    """This process, among how many."""

    index: int = 0
    count: int = 1


_here = _Here()


def index() -> int:
    """The number of this process in its run, from 0."""
    return _here.index


def count() -> int:
    """Processes of this run."""
    return _here.count


def is_first() -> bool:
    """Whether this process writes files and speaks for all."""
    return _here.index == 0


def joined(index: int, count: int) -> None:
    """Says which process of how many this is; `processes.join` does."""
    _here.index, _here.count = index, count
