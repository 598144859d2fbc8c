"""Episodes in many kitchens at once: `stgrpo.envs.vector` for kitchens, which may come from a file too."""

from stgrpo.envs.robotouille.kitchen.load import load
from stgrpo.envs.vector import EpisodeVector, LiveEpisode, Places, Rules

__all__ = ["KitchenVector", "Kitchens", "LiveEpisode", "Rules"]


class Kitchens(Places):
    """Where episodes take place: one kitchen, or another of a family each time.

    Args:
        task: the name of a task.
        layout: a layout, such as "default" or "random:3"; a family, such as "random"; "test" for the benchmark's own;
            or the path of an environment in the benchmark's JSON format (*.json), which has a task of its own.
        split: as of `stgrpo.envs.vector.Places`.
        pool: likewise.
        environment: one of kitchens.
        data: where its data are, if it reads any.

    Raises:
        UserError: there is no such environment, task, layout or file.
    """

    def __init__(
        self,
        task: str,
        layout: str = "default",
        *,
        split: str = "train",
        pool: int = 0,
        environment: str = "robotouille",
        data: str = "",
    ):
        super().__init__(task, layout, split=split, pool=pool, environment=environment, data=data)

    def _single(self, layout: str) -> str:
        if not layout.endswith(".json"):
            return super()._single(layout)
        problem = load(layout)
        self._problems[problem.layout] = problem
        return problem.layout


class KitchenVector(EpisodeVector):
    """N kitchens stepped together; see `stgrpo.envs.vector.EpisodeVector`."""
