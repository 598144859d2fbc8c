"""What the layers below all adapters give for each example of SFT: the same in all epochs, so computed once."""

import dataclasses
from collections.abc import Callable, Iterable, Sequence

import jax
import numpy as np

from stgrpo.data.examples import Example
from stgrpo.training.batch import GroupBatch
from stgrpo.training.sft import SftShapes, sft_batch


class FrozenStates:
    """Hidden states of all examples behind the frozen layers, in the host's memory.

    Examples are taken by length and always in the same batches, so a resumed run has the same numbers.

    Args:
        compute: of a batch, `TrainProgram.frozen` with the state that training starts from.
        examples: of the stage.
        shapes: of its batches; here all responses have the longest.
        skip: see `sft_batch`.
        batch: examples that are computed at one time.
    """

    def __init__(
        self,
        compute: Callable[[GroupBatch], jax.Array],
        examples: Sequence[Example],
        *,
        shapes: SftShapes,
        skip: int,
        batch: int,
    ):
        self._prompt_SD: list[np.ndarray] = [np.empty(0)] * len(examples)
        self._response_SD = list(self._prompt_SD)
        shapes = dataclasses.replace(shapes, response=shapes.response[-1:])
        order = sorted(range(len(examples)), key=lambda i: len(examples[i].prompt_ids))
        for start in range(0, len(order), batch):
            numbers = order[start : start + batch]
            full = numbers + numbers[-1:] * (batch - len(numbers))
            groups = sft_batch([examples[i] for i in full], skip=skip, shapes=shapes)
            below_BSD, P = np.asarray(compute(groups)), groups.prompt_BP.shape[1]
            for i, below_SD in zip(numbers, below_BSD, strict=False):
                self._prompt_SD[i] = below_SD[: len(examples[i].prompt_ids) - skip].copy()
                self._response_SD[i] = below_SD[P : P + len(examples[i].response_ids)].copy()

    @property
    def size(self) -> int:
        """Bytes."""
        return sum(x.nbytes for x in (*self._prompt_SD, *self._response_SD))

    def added_to(self, batch: GroupBatch, numbers: Iterable[int]) -> GroupBatch:
        """The batch of the examples of these numbers, with what the frozen layers gave for them."""
        (B, P), R = batch.prompt_BP.shape, batch.response_BGR.shape[-1]
        below_BSD = np.zeros((B, P + R, self._prompt_SD[0].shape[1]), self._prompt_SD[0].dtype)
        for row_SD, i in zip(below_BSD, numbers, strict=True):
            row_SD[: len(self._prompt_SD[i])] = self._prompt_SD[i]
            row_SD[P : P + len(self._response_SD[i])] = self._response_SD[i]
        return dataclasses.replace(batch, below_BSD=below_BSD)
