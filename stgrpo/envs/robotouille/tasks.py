"""The tasks of the paper: goals, caps and the benchmark's default kitchens.

Source: the benchmark's synchronous examples 0, 3, 4 and 5, at commit c8236a2. The cap on steps is one and a half times
the benchmark's `optimal_steps` (10, 10, 15 and 23), rounded up.
"""

from dataclasses import dataclass

from stgrpo.envs.robotouille.kitchen import Goal, Kitchen, parse_goal, parse_kitchen
from stgrpo.errors import UserError


@dataclass(frozen=True)
class Task:
    """A goal, the cap on steps, and the default kitchen in compact notation."""

    name: str
    benchmark: str
    goal: Goal
    max_steps: int
    kitchen: str

    def default(self) -> Kitchen:
        """Returns the default kitchen."""
        return parse_kitchen(self.kitchen, self.goal)


_CHEESE_SANDWICH = Task(
    "cheese_sandwich",
    "synchronous/0_cheese_sandwich",
    parse_goal(
        "Prepare a cheese sandwich on a table",
        "item_on(bread:1,table:2) atop(cheese:3,bread:1) atop(bread:4,cheese:3)",
    ),
    15,
    "robot 0,2 at 0,1 | table 0,1 bread | table 0,3 bread | table 2,3 cheese | table 3,3",
)
_BURGER = Task(
    "burger",
    "synchronous/3_burger",
    parse_goal(
        "Prepare a hamburger on a table",
        "item_on(bottombun:1,table:2) iscooked(patty:3) atop(patty:3,bottombun:1) atop(topbun:4,patty:3)",
    ),
    15,
    "robot 0,2 at 0,1 | table 0,1 bottombun | table 2,3 topbun | table 3,3 patty(iscooked)",
)
_CHEESE_BURGER = Task(
    "cheese_burger",
    "synchronous/4_cheeseburger",
    parse_goal(
        "Prepare a cheeseburger on a table",
        "item_on(bottombun:1,table:2) item_at(cheese:3,table:2) iscooked(patty:4) item_at(patty:4,table:2) "
        "item_at(topbun:5,table:2) clear(topbun:5)",
    ),
    23,
    "robot 0,2 at 0,1 | table 0,1 bottombun topbun | table 2,3 cheese | table 3,3 patty(iscooked) | table 4,3",
)
_DOUBLE_CHEESE_BURGER = Task(
    "double_cheese_burger",
    "synchronous/5_double_cheeseburger",
    parse_goal(
        "Prepare a double cheeseburger on a table which contains two patties and two cheese slices interleaved "
        "(starting with a patty)",
        "item_on(bottombun:1,table:2) iscooked(patty:3) atop(patty:3,bottombun:1) atop(cheese:4,patty:3) "
        "iscooked(patty:5) atop(patty:5,cheese:4) atop(cheese:6,patty:5) atop(topbun:7,cheese:6)",
    ),
    35,
    "robot 0,2 at 0,1 | table 0,1 bottombun topbun | table 2,3 cheese cheese | "
    "table 3,3 patty(iscooked) patty(iscooked) | table 4,3",
)

TASKS = {task.name: task for task in (_CHEESE_SANDWICH, _BURGER, _CHEESE_BURGER, _DOUBLE_CHEESE_BURGER)}


def get_task(name: str) -> Task:
    """Returns the task of this name.

    Raises:
        UserError: there is none.
    """
    if name not in TASKS:
        raise UserError(f"task {name!r}: unknown; use one of {', '.join(TASKS)}")
    return TASKS[name]
