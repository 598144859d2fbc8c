"""Kitchens with a long optimum: a plan of the stated length, and a proof that none is shorter."""

from collections.abc import Iterator

import pytest

from stgrpo import envs
from stgrpo.envs.robotouille import RobotouilleProblem, State, make
from stgrpo.envs.robotouille.kitchen.tasks import TASKS
from stgrpo.envs.robotouille.layouts.generator import FAMILIES, generate
from stgrpo.envs.robotouille.layouts.horizons import Horizon
from stgrpo.envs.robotouille.planner.requirements import Config, ManipulationBound, compile_requirements
from stgrpo.errors import UserError

ROBOTOUILLE = envs.get("robotouille")
HORIZONS = [name for name, family in FAMILIES.items() if isinstance(family, Horizon)]
# Which kind goes onto which; the last of a task's stack is what must be on top.
RECIPES = {
    "cheese_sandwich": ["bread", "cheese", "bread"],
    "burger": ["bottombun", "patty", "topbun"],
    "cheese_burger": ["bottombun", "patty", "cheese", "topbun"],
    "double_cheese_burger": ["bottombun", "patty", "cheese", "patty", "cheese", "topbun"],
} | {f"burgers_{n}": ["bottombun", "patty", "topbun"] for n in range(1, 6)}
CASES = [("horizon50", task, 2) for task in RECIPES]
CASES += [("horizon100", task, 1) for task in ("cheese_burger", "double_cheese_burger", "burgers_3")]
CASES += [("horizon200", task, 1) for task in ("double_cheese_burger", "burgers_5")]


def _kind(name: str) -> str:
    return name.rstrip("0123456789")


def _plan(problem: RobotouilleProblem, recipe: list[str]) -> list[tuple[str, str]]:
    """Returns (from, to) for each thing carried: from piles to a stack that waits for it, or to an empty station."""
    stacks = {name: tuple(stack) for name, stack in problem.stacks(problem.initial_state()).items()}
    tables = [name for name, stack in stacks.items() if _kind(name) == "table" and stack]
    spare = next(name for name, stack in stacks.items() if not stack)
    lax = problem.task == "cheese_burger"  # whose patty and cheese may come in any order

    def ready(table: str, kind: str) -> bool:
        missing = list(recipe)
        for thing in stacks[table]:
            missing.remove(_kind(thing))
        return kind in (missing[:-1] or missing if lax else missing[:1])

    def carry(start: str, end: str) -> list[tuple[str, str]] | None:
        before = dict(stacks)
        stacks[start], stacks[end] = before[start][:-1], (*before[end], before[start][-1])
        if (rest := search()) is not None:
            return [(start, end), *rest]
        stacks.update(before)
        return None

    def search() -> list[tuple[str, str]] | None:
        tops = {name: _kind(s[-1]) for name, s in stacks.items() if s and name not in (*tables, spare)}
        if not tops:
            return []
        for pile, kind in tops.items():
            if kind not in recipe:
                return carry(pile, spare)
        moves = [(pile, table) for pile, kind in tops.items() for table in tables if ready(table, kind)]
        return next((plan for move in moves if (plan := carry(*move)) is not None), None)

    plan = search()
    assert plan is not None
    return plan


def _carry(problem: RobotouilleProblem, state: State, start: str, end: str) -> Iterator[str]:
    at = problem.robot_station(state)
    if at != start:
        yield f"Move robot1 from {at} to {start}"
    stack, target = problem.stacks(state)[start], problem.stacks(state)[end]
    thing = stack[-1]
    yield (
        f"Unstack {thing} from {stack[-2]} using robot1"
        if len(stack) > 1
        else f"Pick up {thing} from {start} using robot1"
    )
    yield f"Move robot1 from {start} to {end}"
    yield f"Stack {thing} on top of {target[-1]} using robot1" if target else f"Place {thing} on {end} using robot1"


def _bound(problem: RobotouilleProblem) -> int:
    """The planner's lower bound on lifts and puts, from the definitions of its own module."""
    state = problem.initial_state()
    items, stations = problem.grounding.objects["item"], problem.grounding.objects["station"]
    requirements = compile_requirements(problem.kitchen.goal, ("iscooked",))
    at = {wanted.support for wanted in requirements.wanted if wanted.predicate in ("item_on", "item_at")}
    candidates = [
        [i for i, name in enumerate(stations if variable in at else items) if _kind(name) == kind]
        for variable, (kind, _) in enumerate(requirements.variables)
    ]
    stacks = tuple(tuple(items.index(item) for item in stack) for stack in problem.stacks(state).values())
    return ManipulationBound(requirements, candidates, len(items))(Config(-1, stacks))


@pytest.mark.parametrize(("family", "task", "seeds"), CASES)
def test_the_optimum_is_what_it_is_said_to_be(family: str, task: str, seeds: int) -> None:
    steps = FAMILIES[family].steps
    for seed in range(seeds):
        problem = make(task, f"{family}:{seed}")
        start, plan = problem.initial_state(), _plan(problem, RECIPES[task])
        carried, taken, state = len(plan), 0, start
        for place, goal in plan:
            for action in _carry(problem, state, place, goal):
                assert not problem.is_goal(state)
                state, taken = problem.step(state, action), taken + 1
        assert problem.is_goal(state)
        assert taken in (4 * carried - 1, 4 * carried)
        assert steps <= 4 * carried - 1 and 4 * carried <= 1.2 * steps
        assert problem.max_steps == 6 * carried
        if len(problem.kitchen.goal.atoms) < 12:  # the bound tries all bindings
            assert _bound(problem) == 2 * carried


def test_tasks_that_have_no_such_kitchens() -> None:
    for task, family in [("potato_soup", "horizon50"), ("burger", "horizon200"), ("lettuce_sandwich", "horizon100")]:
        with pytest.raises(UserError, match=f"'{task}' .*burgers_5") as caught:
            ROBOTOUILLE.layouts(task, family, split="train", count=1)
        assert task not in str(caught.value).split("use one of")[1].split(", ")


@pytest.mark.parametrize("task", ["cheese_burger", "burgers_2"])
def test_the_planner_agrees(task: str) -> None:
    for seed in range(3):
        problem = make(task, f"horizon50:{seed}")
        carried = problem.max_steps // 6
        assert ROBOTOUILLE.planner(problem).distance(problem.initial_state()) in (4 * carried - 1, 4 * carried)


def test_layouts_of_a_horizon() -> None:
    layouts = ROBOTOUILLE.layouts("burgers_4", "horizon100", split="train", count=20)
    assert len({generate(TASKS["burgers_4"], "horizon100", int(layout.split(":")[1])) for layout in layouts}) == 20


@pytest.mark.parametrize("number", range(1, 6))
def test_burgers(number: int) -> None:
    problem = make(f"burgers_{number}", "default")
    state = problem.initial_state()
    cells = sorted((s.x, s.y) for s in problem.kitchen.stations)
    names = {cell: f"table{i + 1}" for i, cell in enumerate(cells)}
    buns = [names[x, 1] for x in range(number)]
    patties, free = names[0, 3], names[1, 3]
    moves = [(buns[0], free)]
    for bun, after in zip(buns, [*buns[1:], free], strict=True):
        moves += [(patties, bun), (after, bun)]
    taken = 0
    for start, end in moves:
        for action in _carry(problem, state, start, end):
            assert not problem.is_goal(state)
            state, taken = problem.step(state, action), taken + 1
    assert problem.is_goal(state)
    assert taken == TASKS[f"burgers_{number}"].optimal_steps
    if number < 4:
        assert ROBOTOUILLE.planner(problem).distance(problem.initial_state()) == taken
