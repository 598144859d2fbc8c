"""The environment that the entry point names: tasks, layouts, problems and planners of ALFWorld."""

from collections.abc import Sequence
from typing import Self

from stgrpo.envs.alfworld.game.engine import AlfworldProblem
from stgrpo.envs.alfworld.game.instructions import INSTRUCTIONS
from stgrpo.envs.alfworld.game.load import load
from stgrpo.envs.alfworld.game.room import TASKS
from stgrpo.envs.alfworld.layouts.layouts import BENCHMARKS, FAMILIES, GAMES, Layouts, solvable
from stgrpo.envs.alfworld.planner.planner import AlfworldPlanner
from stgrpo.envs.alfworld.planner.search_expert import SearchExpert
from stgrpo.envs.layouts import first_layouts, only_kind
from stgrpo.protocol import Instructions, Noun

_ABOUT = {
    "train": "training games of ALFWorld",
    "valid_seen": "ALFWorld’s validation games in rooms of its training games",
    "valid_unseen": "ALFWorld’s validation games in rooms of their own",
    "made": "unseen rooms of our generator, as large as ALFWorld’s: its numbers are for orientation only",
    "small": "unseen small rooms of our generator: its numbers are for orientation only",
}


def make(task: str, layout: str, *, data: str = "", wording: str = "") -> AlfworldProblem:
    """Builds a problem from the names of a task and a layout.

    Args:
        task: one of the six types.
        layout: "made:SEED", "small:SEED", "train:I", "valid_seen:I" or "valid_unseen:I".
        data: path of the data set; empty for that in ALFWORLD_DATA.
        wording: "0.4" or "0.3"; empty for that of the game's own grammar.

    Raises:
        UserError: there is no such task or layout, or the data set is not at hand.
    """
    return Layouts(data, wording).make(task, layout)


class AlfworldLayouts:
    """What is the same on any engine: tasks, layouts, words.

    Args:
        data: path of the data set; empty for that in ALFWORLD_DATA. It is looked at when a game of it is needed.
    """

    layout_noun = Noun("room", "rooms")
    wording = ""

    def __init__(self, data: str = ""):
        self._layouts = Layouts(data, self.wording)

    def with_data(self, path: str) -> Self:
        """Returns the same environment with the data set at a path."""
        return type(self)(path)

    def tasks(self) -> tuple[str, ...]:
        """Returns the six types of tasks."""
        return TASKS

    def families(self) -> tuple[str, ...]:
        """Returns the families of our generator, and "games" for the data set's."""
        return FAMILIES

    def benchmark_sets(self) -> tuple[str, ...]:
        """Returns the names of the validation splits: the 140 games of valid_seen and the 134 of valid_unseen."""
        return BENCHMARKS

    def benchmark_set(self, name: str, task: str) -> tuple[str, ...]:
        """Returns the games of one task in one of them."""
        return self._layouts.of_task(name, task)

    def benchmark_layouts(self, task: str) -> tuple[str, ...]:
        """Returns those in both."""
        return tuple(layout for name in BENCHMARKS for layout in self.benchmark_set(name, task))

    def layouts(self, task: str, family: str, *, split: str, count: int, seed: int = 0) -> list[str]:
        """Lists layouts that the expert wins within the cap; of the data set's validation games all.

        Raises:
            UserError: the family has fewer than `count` of them in this split, or the data set is not at hand.
        """
        candidates = self._layouts.candidates(task, family, split, seed)
        is_published = family == GAMES and split != "train"
        wanted = (name for name in candidates if is_published or self._is_won(task, name))
        return first_layouts(wanted, count, f"{split} layouts of {task} {family}", seed=seed)

    def _is_won(self, task: str, layout: str) -> bool:
        problem = self._layouts.make(task, layout)
        return solvable(problem, SearchExpert(problem).action)

    def instructions(self) -> Instructions:
        """Returns what a model is told of rooms."""
        return INSTRUCTIONS

    def describe_layouts(self, layouts: Sequence[str]) -> str:
        """Says of which kind rooms are that are all of one."""
        return _ABOUT.get(only_kind(layouts), "")


class Alfworld(AlfworldLayouts):
    """The environment behind `stgrpo.envs.get("alfworld")`."""

    def make(self, task: str, layout: str) -> AlfworldProblem:
        """Builds one problem; see `make`."""
        return self._layouts.make(task, layout)

    def planner(self, problem: AlfworldProblem) -> AlfworldPlanner:
        """Returns the planner of a problem, which has an expert to imitate."""
        return AlfworldPlanner(problem)

    def play(self, task: str, layout: str, *, raw: bool = False) -> None:
        """Plays one episode with a person; a layout may also be the path of a game file.

        Raises:
            UserError: there is no such task or layout.
        """
        from stgrpo.envs.alfworld.play import play

        is_file = layout.endswith(".tw-pddl")
        play(load(layout) if is_file else self.make(task or TASKS[0], layout or "made:0"), raw=raw)


class AlfworldOldWording(Alfworld):
    """The same games in the words of versions before 0.4: the entry point `alfworld_0_3`."""

    wording = "0.3"
