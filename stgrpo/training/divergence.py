"""A run whose numbers are none ends before anything of it is saved, and says what it ended at.

The jitted update itself looks at what it made: one pass over the state, whose two answers come with the metrics.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Protocol

import jax
from ml_collections import ConfigDict

from stgrpo.errors import RunError
from stgrpo.training.checkpointing import Checkpoints, host_scalars
from stgrpo.training.health import FLAGS

_NAMED = 4  # examples of a batch


class Named(Protocol):
    """What an update learns from, by where it comes from: an `Example`, or a prompt of an episode."""

    @property
    def task(self) -> str:
        """Of the layout."""
        ...

    @property
    def layout(self) -> str:
        """Its name."""
        ...

    @property
    def index(self) -> int:
        """Steps before it."""
        ...


class NotFinite(Exception):
    """An update with numbers that are none.

    Attributes:
        update: its number among those that were made of one rollout.
    """

    def __init__(self, message: str, update: int):
        super().__init__(message)
        self.update = update


def finite_metrics(metrics: Mapping[str, jax.Array], update: int = 0) -> dict[str, float]:
    """Metrics of an update as Python numbers, in one transfer, without the flags.

    Raises:
        NotFinite: one of them is none, or the update has made parameters or a state with such.
    """
    values = host_scalars(metrics)
    broken = [what for flag, what in FLAGS.items() if not values.pop(flag)]
    wrong = [f"{name}={value}" for name, value in values.items() if not math.isfinite(value)]
    if broken or wrong:
        states = [f"numbers in {' and '.join(broken)} that are not finite"] if broken else []
        raise NotFinite(", ".join([*wrong, *states]), update)
    return values


def diverged(
    error: NotFinite, step: int, *, config: ConfigDict, examples: Sequence[Named], checkpoints: Checkpoints
) -> RunError:
    """The end of a run, in one line.

    Args:
        error: what the update said.
        step: that it was to be, from 1; all before it were finite.
        config: of the run.
        examples: that the update was made of.
        checkpoints: of the stage, in a folder of its name.
    """
    kept, stage = checkpoints.newest(), checkpoints.folder.name
    place = checkpoints.folder / str(kept)
    way_on = f"the last checkpoint is {place}, for init_from" if kept else "there is no checkpoint yet"
    c = config[stage]
    return RunError(
        f"{stage} step {step}: {error}, after the update with {_named(examples)}; the last finite step is {step - 1}, "
        f"{way_on}: use a lower {stage}.learning_rate than {c.learning_rate:g} or a lower {stage}.clip_norm than "
        f"{c.clip_norm:g} (0 is none), in another --workdir"
    )


def _named(examples: Sequence[Named]) -> str:
    named = [f"{e.task} {e.layout} step {e.index}" for e in examples[:_NAMED]]
    more = f" and {len(examples) - _NAMED} more" if len(examples) > _NAMED else ""
    return ", ".join(named) + more
