"""How many steps a whole config is: of SFT and of GRPO, from the examples that there are or that can be expected."""

import dataclasses
from pathlib import Path

from ml_collections import ConfigDict

from stgrpo.config.environments import environment_of
from stgrpo.data.records import read_trajectories
from stgrpo.envs.sessions import require_problems
from stgrpo.errors import UserError
from stgrpo.experts.collect import collect
from stgrpo.experts.demonstrations import demonstrations_of
from stgrpo.rl.update import grpo_steps
from stgrpo.training.sft import sft_steps
from stgrpo.workdir import WorkDir

_SOLVED = 5  # layouts a task, where nothing was collected yet


@dataclasses.dataclass(frozen=True)
class Schedule:
    """Of a whole config.

    Attributes:
        sft: updates.
        grpo: rollouts.
        source: where the number of examples is from, for people.
    """

    sft: int
    grpo: int
    source: str


def schedule_of(config: ConfigDict, workdir: str = "") -> Schedule | None:
    """The steps of a config; None where they depend on examples that cannot be foreseen.

    Args:
        config: the experiment.
        workdir: of a run that may have collected; empty for none.
    """
    if config.sft.steps and config.grpo.steps:
        return Schedule(config.sft.steps, config.grpo.steps, "")
    files = [WorkDir(workdir).data(task, "train") for task in config.env.tasks] if workdir else []
    if files and all(file.is_file() for file in files):
        count, source = sum(_examples(file) for file in files), "collected"
        first = sum(_examples(file, config.sft.trajectories) for file in files)
    else:
        expected = _expected(config)
        if expected is None:
            return None
        count, source = expected, f"expected, from {_SOLVED} layouts a task"
        first = round(count * (config.sft.trajectories or config.expert.trajectories) / config.expert.trajectories)
    of_sft = f", {first:,} of them for SFT" if first < count else ""
    return Schedule(sft_steps(config, first), grpo_steps(config, count), f"{count:,} examples {source}{of_sft}")


def _examples(file: Path, trajectories: int = 0) -> int:
    """Of the first so many trajectories of a file; 0 for all."""
    return sum(len(trajectory.steps) for trajectory in read_trajectories(file)[: trajectories or None])


def _expected(config: ConfigDict) -> int | None:
    """Examples of as many trajectories as the planner's are long; None without one."""
    environment, e = environment_of(config), config.expert
    count = min(_SOLVED, e.trajectories)
    total = 0.0
    try:
        require_problems(environment, "plan")
        for task in config.env.tasks:
            how = demonstrations_of(config)
            found = collect(environment, task, config.env.family, split="train", count=count, how=how)
            total += e.trajectories * sum(len(trajectory.steps) for trajectory in found) / count
    except UserError:  # it has no planner
        return None
    return round(total)
