"""What the layers below all adapters give for each example of SFT: the same in all epochs, so computed once."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import jax
import numpy as np

from stgrpo.data.examples import Example
from stgrpo.training.batch import GroupBatch
from stgrpo.training.sft import SftShapes, sft_batch

ONE_PROCESS = "sft.keep_frozen=True is for runs of one process: use sft.keep_frozen=False"


class FrozenStates:
    """Hidden states of examples behind the frozen layers, in the host's memory; empty until `compute` has run.

    Examples are taken by length and always in the same batches, so a resumed run has the same numbers.

    Args:
        examples: of the stage.
        shapes: of its batches; here all responses have the longest.
        skip: see `sft_batch`.
        batch: examples that are computed at one time.
    """

    def __init__(self, examples: Sequence[Example], *, shapes: SftShapes, skip: int, batch: int):
        self._examples, self._skip, self._batch = examples, skip, batch
        self._shapes = dataclasses.replace(shapes, response=shapes.response[-1:])
        self._states: dict[int, tuple[np.ndarray, np.ndarray]] = {}

    def size(self, numbers: Iterable[int], width: int, itemsize: int) -> int:
        """Bytes that the states of some examples take, by their lengths."""
        lengths = ((len(self._examples[i].prompt_ids), len(self._examples[i].response_ids)) for i in numbers)
        return sum(prompt - self._skip + response for prompt, response in lengths) * width * itemsize

    def compute(self, numbers: Iterable[int], below: Callable[[GroupBatch], jax.Array]) -> Iterator[int]:
        """Computes the states of examples, batch by batch, and yields after each how many are done.

        Args:
            numbers: of the examples that are wanted; others in their batches are computed and not kept.
            below: of a batch, `TrainProgram.below` with the state that training starts from.
        """
        wanted = set(numbers)
        order = sorted(range(len(self._examples)), key=lambda i: len(self._examples[i].prompt_ids))
        for start in range(0, len(order), self._batch):
            rows = order[start : start + self._batch]
            if wanted.intersection(rows):
                self._keep(rows, wanted, below)
                yield len(self._states)

    def _keep(self, rows: list[int], wanted: set[int], below: Callable[[GroupBatch], jax.Array]) -> None:
        full = rows + rows[-1:] * (self._batch - len(rows))
        groups = sft_batch([self._examples[i] for i in full], skip=self._skip, shapes=self._shapes)
        below_BSD, P = np.asarray(below(groups)), groups.prompt_BP.shape[1]
        for i, below_SD in zip(rows, below_BSD, strict=False):
            if i in wanted:
                example = self._examples[i]
                prompt_SD = below_SD[: len(example.prompt_ids) - self._skip].copy()
                self._states[i] = prompt_SD, below_SD[P : P + len(example.response_ids)].copy()

    def added_to(self, batch: GroupBatch, numbers: Sequence[int] | np.ndarray) -> GroupBatch:
        """The batch of the examples of these numbers, with what the frozen layers gave for them."""
        (B, P), R = batch.prompt_BP.shape, batch.response_BGR.shape[-1]
        states = [self._states[int(i)] for i in numbers]
        below_BSD = np.zeros((B, P + R, states[0][0].shape[1]), states[0][0].dtype)
        for row_SD, (prompt_SD, response_SD) in zip(below_BSD, states, strict=True):
            row_SD[: len(prompt_SD)] = prompt_SD
            row_SD[P : P + len(response_SD)] = response_SD
        return dataclasses.replace(batch, below_BSD=below_BSD)


def available_memory() -> int:
    """Bytes of this host's memory that can be had; 0 where it does not say."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return 0
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")), 0)
