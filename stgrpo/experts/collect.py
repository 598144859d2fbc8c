"""Collect the expert's trajectories: what SFT learns from and GRPO takes its states from."""

from collections.abc import Callable, Iterator

from stgrpo.data.records import Trajectory
from stgrpo.envs.sessions import require_problems
from stgrpo.errors import UserError
from stgrpo.experts.demonstrations import AS_IT_IS, Demonstrations
from stgrpo.experts.planner_expert import PlannerExpert
from stgrpo.protocol import Environment, planner_of


def collect(
    environment: Environment,
    task: str,
    family: str,
    *,
    split: str,
    count: int,
    seed: int = 0,
    how: Demonstrations = AS_IT_IS,
    progress: Callable[[int, int], None] | None = None,
) -> Iterator[Trajectory]:
    """Yield the planner's trajectories in `count` layouts of one family and split, in the environment's order.

    The same arguments always give the same trajectories, so a collection that broke off is simply made again.

    Args:
        environment: one of pure problems that has planners.
        task: one of its tasks.
        family: one of its layout families, such as "small" or "random".
        split: "train", "validation" or "test".
        count: number of layouts, each solved once.
        seed: where the enumeration of layouts starts.
        how: the planner's ways are shown.
        progress: called with (done, count) after each trajectory.

    Raises:
        UserError: if the family has fewer layouts than asked for (from the environment), or there is no planner.
    """
    pure = require_problems(environment, "expert.kind='planner'")
    for done, layout in enumerate(environment.layouts(task, family, split=split, count=count, seed=seed), start=1):
        problem = pure.make(task, layout)
        planner = planner_of(environment, problem)
        if planner is None:
            raise UserError(f"expert.kind='planner': there is no planner for {task} {layout}; use expert.kind='llm'")
        yield PlannerExpert(problem, planner).trajectory(how)
        if progress is not None:
            progress(done, count)
