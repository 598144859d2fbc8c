"""The tasks: goals, caps on steps and default kitchens.

- The twenty tasks of the benchmark's evaluation, the paper's four first. Each is also found under the benchmark's own
  path, such as `synchronous/3_burger`.
- Three of its further examples, which it does not test on.
- `burgers_1` to `burgers_5`: so many hamburgers, each on a table of its own.

The cap on steps is one and a half times `optimal_steps`, rounded up, as in the benchmark.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from stgrpo.envs.robotouille.kitchen.benchmark import read_records
from stgrpo.envs.robotouille.kitchen.kitchen import Goal, Kitchen, parse_goal, parse_kitchen
from stgrpo.errors import UserError, nearest

PAPER_TASKS = ("cheese_sandwich", "burger", "cheese_burger", "double_cheese_burger")
MOST_BURGERS = 5
_NUMBERS = ("no", "one", "two", "three", "four", "five")


@dataclass(frozen=True, eq=False)
class Task:
    """A goal, and the kitchens that come with it.

    Attributes:
        name: our name of the task; also that of a folder.
        benchmark: its path in the benchmark; empty for a task of our own.
        goal: what has to hold at the end.
        optimal_steps: the steps a good plan takes in the default kitchen. For the benchmark's twenty tasks this is the
            number in its configuration, which is not always the optimum; for the others it is the optimum.
        kitchens: "default" and testing seeds, in the notation of `kitchen.parse_kitchen`.
    """

    name: str
    benchmark: str
    goal: Goal
    optimal_steps: int
    kitchens: Mapping[str, str]

    @property
    def max_steps(self) -> int:
        """The cap on the steps of an episode."""
        return _cap(self.optimal_steps)

    @property
    def testing_seeds(self) -> tuple[int, ...]:
        """The seeds of the benchmark's test kitchens; none where it does not test."""
        return tuple(int(layout) for layout in self.kitchens if layout != "default")

    @cached_property
    def _default(self) -> Kitchen:
        return parse_kitchen(self.kitchens["default"], self.goal)

    def default(self) -> Kitchen:
        """Returns the default kitchen."""
        return self._default

    def test(self, seed: int) -> Kitchen:
        """Returns the benchmark's test kitchen of one of the `testing_seeds`."""
        return parse_kitchen(self.kitchens[str(seed)], self.goal)


def _cap(steps: int) -> int:
    return (3 * steps + 1) // 2


def _burgers(number: int) -> Task:
    """The buns of each burger stand together, the patties in one pile, and one table is free.

    A topbun has to wait on the free table while the patties go in, each followed by the next burger's topbun: with n
    burgers that is 4n + 2 lifts and puts, and 8n + 3 steps with the moves between them.
    """
    atoms = [
        f"item_on(bottombun:{i},table:{i + 1}) iscooked(patty:{i + 2}) atop(patty:{i + 2},bottombun:{i}) "
        f"atop(topbun:{i + 3},patty:{i + 2})"
        for i in range(1, 4 * number, 4)
    ]
    what = "a hamburger on a table" if number == 1 else f"{_NUMBERS[number]} hamburgers on separate tables"
    buns = " | ".join(f"table {x},1 bottombun topbun" for x in range(number))
    patties = " ".join(["patty(iscooked)"] * number)
    kitchen = f"robot 0,2 at 0,1 | {buns} | table 0,3 {patties} | table 1,3"
    goal = parse_goal(f"Prepare {what}", " ".join(atoms))
    return Task(f"burgers_{number}", "", goal, 8 * number + 3, {"default": kitchen})


TASKS = {r.name: Task(r.name, r.path, parse_goal(r.text, r.goal), r.steps, r.kitchens) for r in read_records()}
TASKS |= {task.name: task for task in map(_burgers, range(1, MOST_BURGERS + 1))}
_PATHS = {task.benchmark: task for task in TASKS.values() if task.benchmark}


def get_task(name: str) -> Task:
    """Returns the task of this name, or of this path in the benchmark.

    Raises:
        UserError: there is none.
    """
    task = TASKS.get(name) or _PATHS.get(name.removesuffix(".json"))
    if task is None:
        raise UserError(f"task {name!r}: unknown; {nearest(name, _PATHS if '/' in name else TASKS)}")
    return task
