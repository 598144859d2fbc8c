"""What the protocol asks of planners: an expert that reaches the goal, distances that a plain search confirms."""

from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass

from stgrpo.conformance.subject import Case, Clock, Failed, NotApplicable, Subject
from stgrpo.envs.sessions import open_session
from stgrpo.errors import UserError
from stgrpo.experts.planner_expert import PlannerExpert
from stgrpo.protocol import (
    Ending,
    Judging,
    Planner,
    Problem,
    PureEnvironment,
    Session,
    State,
    expert_action_of,
    planner_of,
    wait_of,
)

_MOST_SEARCHES = 20
"""In one layout."""


def expert(subject: Subject) -> str:
    """The planner's expert reaches the goal within the cap, with reasons that an answer can hold."""
    steps, unsolved = 0, []
    for case in subject.each("solve"):
        try:
            steps += _solve(subject, case)
        except UserError as error:
            unsolved.append(str(error))
    if not steps:
        raise Failed(f"no layout is solved: {unsolved[0]}")
    return f"{subject.looked_at()}, {steps} steps" + (f"; {len(unsolved)} not: {unsolved[0]}" if unsolved else "")


def _solve(subject: Subject, case: Case) -> int:
    """Returns how many steps the expert takes."""
    if isinstance(subject.environment, PureEnvironment):
        problem = subject.problem(case)
        return _solve_problem(case, problem, PlannerExpert(problem, _planner(subject, problem)))
    with closing(open_session(subject.environment, case.task, case.layout)) as session:
        session.reset()
        return _follow(case, session)


def _planner(subject: Subject, problem: Problem) -> Planner:
    planner = planner_of(subject.environment, problem)
    if planner is None:
        raise NotApplicable("there is no planner")
    return planner


def _solve_problem(case: Case, problem: Problem, guide: PlannerExpert) -> int:
    state, taken = problem.initial_state(), []
    while not problem.is_goal(state):
        if len(taken) == problem.max_steps:
            raise Failed(f"{case}: the expert is not at the goal after {len(taken)} steps, the cap: {taken[-8:]}")
        try:
            taken.append(guide.action(state))
        except ValueError as error:
            raise Failed(f"{case}: the expert has no action after {taken}, short of the goal") from error
        if taken[-1] not in problem.valid_actions(state):
            raise Failed(f"{case}: the expert's action {taken[-1]!r} is not valid after {taken[:-1]}")
        state = problem.step(state, taken[-1])
    try:
        guide.trajectory()
    except UserError as error:  # its reasons cannot be told
        raise Failed(str(error)) from error
    return len(taken)


def _follow(case: Case, session: Session) -> int:
    if not isinstance(session, Judging) or session.planner is None:
        raise NotApplicable("there is no planner")
    for steps in range(1, session.max_steps + 1):
        action = expert_action_of(session.planner, session.state, wait_of(session))
        if action is None:
            raise Failed(f"{case}: the expert has no action after {steps - 1} steps, short of the goal")
        if session.step(action).success:
            return steps
    raise Failed(f"{case}: the expert is not at the goal after {session.max_steps} steps, the cap")


@dataclass(frozen=True)
class Found:
    """What a breadth-first search from a state found.

    Attributes:
        distance: to the nearest goal; None where there is none.
        optimal: the first actions of all shortest ways.
    """

    distance: int | None
    optimal: frozenset[str]


def search(problem: Problem, start: State, most: int, clock: Clock) -> Found | None:
    """Searches breadth first for the nearest goal.

    Args:
        problem: whose states these are.
        start: where it begins.
        most: states that are looked at.
        clock: when to give up.

    Returns:
        What was found; None where the search gave up.
    """
    if problem.is_goal(start):
        return Found(0, frozenset())
    layer: Mapping[State, frozenset[str]] = {start: frozenset()}
    met, distance = {start}, 0
    while layer:
        after: dict[State, frozenset[str]] = {}
        for state, firsts in layer.items():
            if isinstance(problem, Ending) and problem.is_over(state):
                continue
            for action in problem.valid_actions(state):
                other = problem.step(state, action)
                if other not in met:
                    after[other] = after.get(other, frozenset()) | (firsts or {action})
            if len(met) + len(after) > most or clock.is_over():
                return None
        distance += 1
        goals = [firsts for state, firsts in after.items() if problem.is_goal(state)]
        if goals:
            return Found(distance, frozenset().union(*goals))
        met |= after.keys()
        layer = after
    return Found(None, frozenset())


def against_search(subject: Subject) -> str:
    """Distances and optimal actions are those of a breadth-first search, wherever that comes to an end."""
    compared = farthest = 0
    clock = Clock(subject.scope.seconds)
    for case in subject.each("search"):
        problem = subject.problem(case)
        planner = _planner(subject, problem)
        for state in _states(subject, case, problem, planner):
            found = search(problem, state, subject.scope.states, clock)
            if found is None:
                break  # what comes next is farther from the goal
            if _agree(case, problem, planner, (state, found)):
                compared, farthest = compared + 1, max(farthest, found.distance or 0)
    if not compared:
        raise NotApplicable(
            f"no state of {subject.looked_at()} is settled by a search of {subject.scope.states} states"
        )
    return f"{compared} states of {subject.looked_at()}, up to {farthest} steps from the goal"


def _states(subject: Subject, case: Case, problem: Problem, planner: Planner) -> Iterator[State]:
    """Yields states from the goal backward on a shortest way, then those of a walk."""
    state, way = problem.initial_state(), []
    way.append(state)
    try:
        while len(way) <= problem.max_steps and (optimal := planner.optimal_actions(state)):
            state = problem.step(state, optimal[0])
            way.append(state)
    except UserError:
        pass  # no way, or none that is proven in the planner's time
    yield from way[::-1][:_MOST_SEARCHES]
    state = problem.initial_state()
    for action in subject.walk(case).actions[:_MOST_SEARCHES]:
        state = problem.step(state, action)
        yield state


def _agree(case: Case, problem: Problem, planner: Planner, what: tuple[State, Found]) -> bool:
    """Says whether the planner knows a state; it is wrong where it knows better than the search."""
    state, found = what
    try:
        distance, optimal = planner.distance(state), tuple(planner.optimal_actions(state))
    except UserError as error:
        if found.distance is None:
            return True
        if found.distance == 0:
            raise Failed(f"{case}: the planner says nothing of a goal: {error}") from error
        return False
    where = f"{case}, in the state shown as {problem.observation(state)[:300]!r}"
    if distance != found.distance:
        best = "no way to the goal" if found.distance is None else f"{found.distance}"
        raise Failed(f"{where}: the planner's distance is {distance}, a search finds {best}")
    if set(optimal) != found.optimal:
        raise Failed(f"{where}: the planner's optimal actions are {optimal}, a search finds {sorted(found.optimal)}")
    if list(optimal) != [action for action in problem.valid_actions(state) if action in found.optimal]:
        raise Failed(f"{where}: the optimal actions {optimal} are not in the order in which they are displayed")
    return True
