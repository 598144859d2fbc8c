"""The environment that the entry point names: tasks, layouts, problems and planners of Robotouille."""

from collections.abc import Sequence

from stgrpo.envs.layouts import first_layouts, only_kind
from stgrpo.envs.robotouille.kitchen.engine import RobotouilleProblem
from stgrpo.envs.robotouille.kitchen.instructions import INSTRUCTIONS
from stgrpo.envs.robotouille.kitchen.names import OBJECT_NAMES
from stgrpo.envs.robotouille.kitchen.tasks import TASKS, get_task
from stgrpo.envs.robotouille.layouts.generator import FAMILIES
from stgrpo.envs.robotouille.layouts.layouts import enumerate_layouts, layout_cap, layout_kitchen
from stgrpo.envs.robotouille.planner.planner import RobotouillePlanner
from stgrpo.envs.robotouille.published import published_results, published_transfer
from stgrpo.protocol import Instructions, Noun, PublishedResult, PublishedTable

_LAYOUTS = {
    "default": "the benchmark’s example kitchen",
    "test": "the benchmark’s ten test kitchens, almost surely those of the paper",
    "random": "unseen kitchens, generated like the benchmark’s",
    "small": "unseen small kitchens (3–5 stations), easier than the paper’s: its numbers are for orientation only",
}


def make(task: str, layout: str) -> RobotouilleProblem:
    """Builds a problem from the names of a task and a layout.

    Raises:
        UserError: there is no such task or layout.
    """
    definition = get_task(task)
    kitchen = layout_kitchen(definition, layout)
    cap = layout_cap(definition, layout, kitchen)
    return RobotouilleProblem(kitchen, task=definition.name, layout=layout, max_steps=cap)


class Robotouille:
    """The environment behind `stgrpo.envs.get("robotouille")`."""

    layout_noun = Noun("kitchen", "kitchens")

    def tasks(self) -> tuple[str, ...]:
        """Returns the names of the tasks."""
        return tuple(TASKS)

    def families(self) -> tuple[str, ...]:
        """Returns the families of the generator."""
        return tuple(FAMILIES)

    def benchmark_layouts(self, task: str) -> tuple[str, ...]:
        """Returns the benchmark's ten test layouts; none for a task that it does not test."""
        return tuple(f"test:{seed}" for seed in get_task(task).testing_seeds)

    def make(self, task: str, layout: str) -> RobotouilleProblem:
        """Builds one problem; see `make`."""
        return make(task, layout)

    def instructions(self) -> Instructions:
        """Returns what a model is told of kitchens."""
        return INSTRUCTIONS

    def describe_layouts(self, layouts: Sequence[str]) -> str:
        """Says of which kind kitchens are that are all of one."""
        return _LAYOUTS.get(only_kind(layouts), "")

    def published_results(self, task: str) -> tuple[PublishedTable, ...]:
        """Returns the paper's table of a task that it ran."""
        return published_results(task)

    def published_transfer(self, trained: str, task: str) -> PublishedResult | None:
        """Returns the paper's result on a task after training on another."""
        return published_transfer(trained, task)

    def symbols(self) -> str:
        """Returns the shapes and the style of the pictures."""
        from stgrpo.envs.robotouille.draw import svg

        return svg.symbols()

    def caption(self, observation: str) -> str:
        """Returns the goal."""
        from stgrpo.envs.robotouille.draw.observation import read_observation

        kitchen = read_observation(observation)
        return kitchen.goal if kitchen else ""

    def draw(self, observations: Sequence[str], actions: Sequence[str]) -> list[str | None]:
        """Draws the kitchens of one episode."""
        from stgrpo.envs.robotouille.draw import svg

        return svg.draw_episode(observations, actions)

    def object_names(self) -> tuple[str, ...]:
        """Returns the names that things can have in kitchens."""
        return OBJECT_NAMES

    def play(self, task: str, layout: str, *, raw: bool = False) -> None:
        """Plays one episode with a person; a layout may also be a family, or the path of an environment's JSON.

        Raises:
            UserError: there is no such task or layout.
        """
        from stgrpo.envs.robotouille.play import play

        play(task or "burger", layout or "default", raw=raw)

    def planner(self, problem: RobotouilleProblem) -> RobotouillePlanner:
        """Returns the planner of a problem."""
        return RobotouillePlanner(problem)

    def layouts(self, task: str, family: str, *, split: str, count: int, seed: int = 0) -> list[str]:
        """Lists layouts whose optimum is at least one step and within the cap, no two equal up to renaming.

        Raises:
            UserError: the family has fewer than `count` of them in this split, or none of this task.
        """
        definition = get_task(task)

        def accept(layout: str) -> bool:
            return _solvable_within_cap(make(task, layout), family)

        candidates = enumerate_layouts(definition, family, split=split, seed=seed, accept=accept)
        return first_layouts(candidates, count, f"{split} layouts of {task} {family}", seed=seed)


def _solvable_within_cap(problem: RobotouilleProblem, family: str) -> bool:
    """Says whether a kitchen is not solved as it stands, and can be within the cap on its steps.

    A list of layouts is a function of its arguments: no clock may have a say in this.
    """
    start = problem.initial_state()
    if problem.is_goal(start):
        return False
    return FAMILIES[family].bounded or RobotouillePlanner(problem).solves_within(start, problem.max_steps)
