"""What rollouts are drawn from, by config: the expert's states, or the layouts that whole episodes are played in."""

import dataclasses
from collections.abc import Callable

from stgrpo.config.training import plays_episodes
from stgrpo.data.examples import Example
from stgrpo.errors import UserError
from stgrpo.rl.episodes import EpisodeRollouts, layouts_identity, training_layouts
from stgrpo.rl.rollouts import Drawing, Rollouts
from stgrpo.sampling.base import Sampler
from stgrpo.training.context import RunContext
from stgrpo.training.inputs import examples_identity, load_examples


@dataclasses.dataclass(frozen=True)
class Stream:
    """What is learned from.

    Attributes:
        size: what an epoch has of it.
        identity: changes with any of it.
        open: makes what draws from it with a sampler.
    """

    size: int
    identity: str
    open: Callable[[Sampler], Drawing]


def training_stream(setting: RunContext) -> Stream:
    """The stream of a GRPO stage.

    Raises:
        UserError: there is not as much of it as the config asks for.
    """
    config = setting.config
    if plays_episodes(config):
        layouts = training_layouts(config)
        return Stream(len(layouts), layouts_identity(layouts), lambda s: EpisodeRollouts(setting, layouts, s))
    examples = load_examples(setting, "train")
    _check_rewarded(examples, config.reward.target)
    return Stream(len(examples), examples_identity(examples), lambda s: Rollouts(setting, examples, s))


def _check_rewarded(examples: list[Example], target: str) -> None:
    """Raises a UserError if an example, as of data that were brought along, does not have what is rewarded."""
    for example in examples:
        if not example.step.can_be_rewarded(target):
            raise UserError(
                f"reward.target={target!r} needs what a planner says, and {example.task} {example.layout} has none of "
                "it: collect anew in another --workdir, or use reward.target='expert'"
            )
