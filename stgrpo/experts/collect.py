"""Collect the expert's trajectories: what SFT learns from and GRPO takes its states from."""

from collections.abc import Callable, Iterator

from stgrpo.data.records import Trajectory
from stgrpo.experts.planner_expert import PlannerExpert
from stgrpo.protocol import Environment


def collect(
    environment: Environment,
    task: str,
    family: str,
    *,
    split: str,
    count: int,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Iterator[Trajectory]:
    """Yield the expert's trajectories in `count` kitchens of one family and split, in the environment's order.

    The same arguments always give the same trajectories, so a collection that broke off is simply made again.

    Args:
        environment: the registry entry that makes kitchens and planners.
        task: one of its tasks.
        family: one of its layout families, such as "small" or "random".
        split: "train", "validation" or "test".
        count: how many kitchens.
        seed: where the enumeration of kitchens starts.
        progress: called with (done, count) after each trajectory.

    Raises:
        UserError: if the family has fewer kitchens than asked for (from the environment).
    """
    for done, layout in enumerate(environment.layouts(task, family, split=split, count=count, seed=seed), start=1):
        problem = environment.make(task, layout)
        yield PlannerExpert(problem, environment.planner(problem)).trajectory()
        if progress is not None:
            progress(done, count)
