"""All that is checked of a config before a run starts: what config.checks finds, and what only rooms above it know."""

from collections.abc import Callable, Iterator
from typing import TypeVar

from ml_collections import ConfigDict

from stgrpo.config import checks
from stgrpo.config.training import plays_episodes
from stgrpo.errors import UserError
from stgrpo.monitors.open import writer_errors
from stgrpo.rl.losses import find_loss, loss_options

T = TypeVar("T")


def validate(config: ConfigDict, *, only_planned: bool = False) -> list[str]:
    """Every error at once, each with the value, the limit and the fix; empty when the config can run, or be planned."""
    more = (_length_of_episodes,) if only_planned else (checks.frozen_weights,)
    return checks.validate(config, *more, _losses, writer_errors)


def _length_of_episodes(c: ConfigDict) -> Iterator[str]:
    if plays_episodes(c):
        yield (
            f"grpo.advantages={c.grpo.advantages!r} has as many turns in an update as its episodes take, which no plan "
            "knows: plan with 'response', each of its prompts a turn"
        )


def _losses(c: ConfigDict) -> Iterator[str]:
    yield from _refusal("sft.loss", find_loss, c.sft.loss)
    yield from _refusal("grpo.loss", find_loss, c.grpo.loss)
    yield from _refusal("grpo.loss_options", loss_options, c.grpo.loss_options)


def _refusal(field: str, find: Callable[[T], object], value: T) -> Iterator[str]:
    try:
        find(value)
    except UserError as error:
        yield f"{field}={checks.shown(value)}: {error}"
