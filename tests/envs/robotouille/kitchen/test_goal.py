"""What the variables of a goal may stand for: as the benchmark's package decides it, recorded and, if there, asked."""

import pytest

from stgrpo.envs.robotouille import RobotouilleProblem, load
from stgrpo.envs.robotouille.upstream import UpstreamProblem, checkout
from stgrpo.errors import UserError

STATIONS = ("sink", "sink", "table", "table")
ROBOT = {"name": "robot", "x": 0, "y": 0, "direction": [0, 1]}


def _kitchen(containers: dict[int, str], goal: list[tuple], meals: tuple[int, ...] = ()) -> dict:
    """Two sinks and two tables in a row; containers, and meals in them, by their place."""
    return {
        "stations": [{"name": kind, "x": x, "y": 1} for x, kind in enumerate(STATIONS)],
        "items": [],
        "containers": [{"name": kind, "x": x, "y": 1, "id": f"own{x}"} for x, kind in containers.items()],
        "meals": [{"name": "water", "x": x, "y": 1} for x in meals],
        "players": [ROBOT],
        "goal": [{"predicate": name, "args": args.split(), "ids": ids} for name, args, ids in goal],
        "goal_description": "Bring water",
    }


def _fill(pot: int, sink: int) -> list[str]:
    return [f"Fill pot{pot} with water from sink{sink} using robot1"]


def _move(start: str, end: str) -> list[str]:
    return [f"Move robot1 from {start} to {end}"]


def _serve(pot: int, sink: int, bowl: int) -> list[str]:
    carry = [f"Pick up pot{pot} from sink{sink} using robot1", *_move(f"sink{sink}", f"table{bowl}")]
    return [*carry, f"Fill bowl{bowl} with pot{pot}'s contents using robot1"]


WAIT = ["Do nothing"] * 4
BOWLS = {0: "pot", 1: "pot", 2: "bowl", 3: "bowl"}
SERVED = [("in", "water bowl", [1, 2])]
BOTH_SERVED = [("in", "water bowl", [1, 2]), ("in", "water bowl", [3, 4])]
FILL_SECOND = [*_move("sink1", "sink2"), *_fill(2, 2), *WAIT]
FIRST_AFTER_SECOND = [
    *_serve(2, 2, 1),
    *_move("table1", "sink2"),
    "Place pot2 on sink2 using robot1",
    *_move("sink2", "sink1"),
    *_serve(1, 1, 2),
]
SECOND_FIRST = [*_fill(1, 1), *FILL_SECOND, *FIRST_AFTER_SECOND]
TWO_SINKS_ONE_POT = [
    *_fill(1, 1),
    "Pick up pot1 from sink1 using robot1",
    *_move("sink1", "sink2"),
    "Place pot1 on sink2 using robot1",
    *_fill(1, 2),
    *WAIT,
    "Pick up pot1 from sink2 using robot1",
    *_move("sink2", "sink1"),
    "Place pot1 on sink1 using robot1",
    *WAIT,
]
# (kitchen, actions, the step after which the package says that the goal is reached, None for never)
RECORDED = {
    "any bowl, but only the first water": (_kitchen(BOWLS, SERVED), SECOND_FIRST, 16),
    "as many waters as the goal has": (_kitchen(BOWLS, BOTH_SERVED), SECOND_FIRST, 16),
    "water that is there at the start, and no other": (
        _kitchen(BOWLS, SERVED, meals=(0,)),
        [*FILL_SECOND, *FIRST_AFTER_SECOND],
        15,
    ),
    "never more waters than are there at the start": (
        _kitchen(BOWLS, BOTH_SERVED, meals=(0,)),
        [*FILL_SECOND, *FIRST_AFTER_SECOND],
        None,
    ),
    "a thing with an id may be a numbered one too": (
        _kitchen({0: "pot", 2: "bowl"}, [("in", "water pot", [1, "own0"]), ("in", "water pot", [2, 3])]),
        TWO_SINKS_ONE_POT,
        14,
    ),
}


def _reached(problem: RobotouilleProblem | UpstreamProblem, actions: list[str]) -> int | None:
    state = problem.initial_state()
    for step in range(len(actions) + 1):
        if problem.is_goal(state):
            return step
        if step < len(actions):
            state = problem.step(state, actions[step])
    return None


@pytest.mark.parametrize("name", RECORDED)
def test_a_goal_is_reached_when_the_package_says_so(name: str) -> None:
    kitchen, actions, when = RECORDED[name]
    problem = load(kitchen)
    assert _reached(problem, actions) == when
    try:
        checkout()
    except UserError:
        return  # what it said is recorded above
    assert _reached(UpstreamProblem(problem.kitchen), actions) == when
