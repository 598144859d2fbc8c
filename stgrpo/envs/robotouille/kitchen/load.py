"""Problems of environments in the benchmark's JSON format."""

from collections.abc import Mapping
from pathlib import Path

from stgrpo.envs.robotouille.kitchen.engine import RobotouilleProblem
from stgrpo.envs.robotouille.kitchen.kitchen_json import kitchen_from_json


def load(
    env_json: Mapping | str | Path, *, task: str = "custom", max_steps: int = 100, seed: int = 0
) -> RobotouilleProblem:
    """Builds the problem of an environment in the benchmark's JSON format.

    Args:
        env_json: its content, or the path of the file.
        task: a name for records.
        max_steps: the cap on the steps of an episode.
        seed: of what a wildcard is: a thing called "station", "item" or "container" is drawn from the kinds there are.

    Raises:
        UserError: it is not such an environment, or has more than one player.
    """
    return RobotouilleProblem(kitchen_from_json(env_json, seed=seed), task=task, layout="json", max_steps=max_steps)
