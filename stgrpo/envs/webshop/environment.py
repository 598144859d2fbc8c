"""The environment that the entry point names: one task, goals as layouts, problems and planners of WebShop."""

from collections.abc import Sequence
from itertools import islice
from typing import Self

from stgrpo.envs.layouts import only_kind
from stgrpo.envs.webshop.instructions import INSTRUCTIONS
from stgrpo.envs.webshop.layouts.layouts import FAMILIES, GOALS, TASK, Layouts
from stgrpo.envs.webshop.planner.planner import ShopPlanner
from stgrpo.envs.webshop.shop.game import ShopProblem
from stgrpo.errors import UserError
from stgrpo.protocol import Instructions, Noun

_ABOUT = {
    "goal": "synthetic goals for WebShop’s products, not the published ones of people: scores are not comparable",
    "made": "goals in a small catalogue of our own: its numbers are for orientation only",
}


def make(layout: str, *, data: str = "") -> ShopProblem:
    """Builds a problem from the name of a layout.

    Args:
        layout: "made:I" or "goal:I".
        data: folder of the benchmark's products; empty for that in WEBSHOP_DATA.

    Raises:
        UserError: there is no such layout, or the products are not at hand.
    """
    return Layouts(data).make(TASK, layout)


class Webshop:
    """The environment behind `stgrpo.envs.get("webshop")`.

    Args:
        data: folder of the benchmark's products; empty for that in WEBSHOP_DATA. It is read when one of its goals is
            needed.
    """

    layout_noun = Noun("goal", "goals")

    def __init__(self, data: str = ""):
        self._layouts = Layouts(data)

    def with_data(self, path: str) -> Self:
        """Returns the same environment with the products of a folder."""
        return type(self)(path)

    def tasks(self) -> tuple[str, ...]:
        """Returns the one task."""
        return (TASK,)

    def families(self) -> tuple[str, ...]:
        """Returns "made", our own catalogue, and "goals", the benchmark's products."""
        return FAMILIES

    def benchmark_layouts(self, task: str) -> tuple[str, ...]:
        """Returns none: published results are on goals written by people, which are not at hand."""
        return ()

    def layouts(self, task: str, family: str, *, split: str, count: int, seed: int = 0) -> list[str]:
        """Lists goals that the expert meets in all within the cap; of the benchmark's products for tests any.

        Raises:
            UserError: the family has fewer than `count` of them in this split, or the products are not at hand.
        """
        names = self._layouts.candidates(task, family, split, seed)
        takes_all = family == GOALS and split == "test"
        found = list(islice((name for name in names if takes_all or self._is_met(task, name)), count))
        if len(found) < count:
            raise UserError(
                f"layouts: {count} {split} goals of {task} {family} asked for, there are {len(found)}; "
                f"ask for at most {len(found)}"
            )
        return found

    def _is_met(self, task: str, layout: str) -> bool:
        problem = self.make(task, layout)
        planner = self.planner(problem)
        return planner.best_reward == 1 and planner.distance(problem.initial_state()) <= problem.max_steps

    def make(self, task: str, layout: str) -> ShopProblem:
        """Builds one problem; see `make`."""
        return self._layouts.make(task, layout)

    def play(self, task: str, layout: str, *, raw: bool = False) -> None:
        """Plays one goal with a person: that of a layout, by default the first of our own catalogue.

        Raises:
            UserError: there is no such task or layout, or the products are not at hand.
        """
        from stgrpo.envs.webshop.play import play

        play(self.make(task or TASK, layout or "made:0"), raw=raw)

    def planner(self, problem: ShopProblem) -> ShopPlanner:
        """Returns the planner of a problem, which has an expert to imitate."""
        return ShopPlanner(problem)

    def instructions(self) -> Instructions:
        """Returns what a model is told of the shop."""
        return INSTRUCTIONS

    def describe_layouts(self, layouts: Sequence[str]) -> str:
        """Says of which kind goals are that are all of one."""
        return _ABOUT.get(only_kind(layouts), "")
