"""A* over the engine's own states, with visits as steps and interchangeable things merged.

States that differ only by an exchange of things alike share their proved bounds (see `visits.py`). All transitions are
the engine's; every plan can be replayed as it stands.

A state's bound is not computed but asked for: whether it is more than what its predecessor's leaves. In most states on
the way of a good plan it is not, which the binding of the predecessor shows at once; the others wait until it matters.
Where that does not find a plan soon, searches with more weight on the bound look for any; then the proof goes on.
"""

import heapq
import math
import time
from dataclasses import dataclass
from typing import NamedTuple

from stgrpo.envs.robotouille.kitchen.engine import RobotouilleProblem, State
from stgrpo.envs.robotouille.kitchen.goal import separable
from stgrpo.envs.robotouille.planner.goal_bindings import GoalBindings
from stgrpo.envs.robotouille.planner.lower_bound import WorkBound
from stgrpo.envs.robotouille.planner.remaining_work import Binding
from stgrpo.envs.robotouille.planner.requirements import UNREACHABLE
from stgrpo.envs.robotouille.planner.state_view import View, Viewer
from stgrpo.envs.robotouille.planner.successors import Key, Visits

_WEIGHTS = (1.0, 1.5, 3.0)
"""Weights on the bound; with 1 the plan that is found is the shortest."""
_FIRST_LOOK, _QUICK_LOOK, _MORE = 500, 2000, 4
"""After how many states a search for a plan first gives way to the next weight, and by how much that grows each round;
a quick look ends with the second of these numbers."""


@dataclass(frozen=True)
class Plan:
    """The best plan found from a state.

    Attributes:
        actions: the plan; empty at a goal.
        bound: no plan is shorter than this. The plan is optimal if it is as long.
    """

    actions: tuple[str, ...]
    bound: int

    @property
    def optimal(self) -> bool:
        """Whether no plan is shorter."""
        return len(self.actions) == self.bound


class _Node(NamedTuple):
    state: State
    moved: bool
    steps: int
    parent: int
    actions: tuple[str, ...]


class Search:
    """Plans of one problem; bounds and distances that were proved are kept for later questions."""

    def __init__(self, problem: RobotouilleProblem):
        self._problem = problem
        self._viewer = Viewer(problem.grounding)
        goal = problem.kitchen.goal
        self.bound = WorkBound(separable(goal), problem.grounding, self._viewer)
        asked = self.bound.asked if separable(goal) == goal else GoalBindings(goal, problem.grounding, self._viewer)
        self._visits = Visits(problem, self._viewer, asked)
        self._lower: dict[Key, int] = {}
        self._bindings: dict[Key, Binding] = {}
        self._plans: dict[State, tuple[str, ...]] = {}

    def solve(self, state: State, *, seconds: float) -> Plan | None:
        """Returns the best plan found in so many seconds of CPU time, with the best bound that was proved.

        None if no plan was found: the time was too short, or the bound says that there is none.
        """
        if self._problem.is_goal(state):
            return Plan((), 0)
        known = self._plans.get(state)
        if known is not None:
            return Plan(known, len(known))
        until = time.thread_time() + seconds
        best = self._first(state, UNREACHABLE, until=until)
        if best is None:
            return None
        found = self._astar(state, len(best), until=until)
        best = best if found is None else found
        plan = Plan(best, min(self.lower_bound(state), len(best)))
        if plan.optimal:
            self._remember(state, best)
        return plan

    def shorter(self, state: State, steps: int, *, seconds: float) -> bool:
        """Says whether there is a plan of fewer steps.

        Raises:
            TimeoutError: so many seconds of CPU time did not suffice to tell.
        """
        if self._problem.is_goal(state):
            return steps > 0
        known = self._plans.get(state)
        if known is not None:
            return len(known) < steps
        found = self._astar(state, steps, until=time.thread_time() + seconds)
        if found is None and self.lower_bound(state) < steps:
            raise TimeoutError
        return found is not None

    def reaches(self, state: State, steps: int) -> bool:
        """Says whether a quick look finds a plan of at most `steps`; no clock decides."""
        if self._problem.is_goal(state):
            return True
        return self._first(state, steps + 1, most=_QUICK_LOOK) is not None

    def lower_bound(self, state: State) -> int:
        """Returns the greatest bound proved so far."""
        view = self._viewer.view(state)
        return self._settle(self._visits.key(view, False), view, False, 0, None)[0]

    def _remember(self, state: State, actions: tuple[str, ...]) -> None:
        for number, action in enumerate(actions):
            self._plans[state] = actions[number:]
            state = self._problem.step(state, action)

    def _first(
        self, state: State, limit: int, *, until: float = math.inf, most: int = UNREACHABLE
    ) -> tuple[str, ...] | None:
        """Returns some plan of fewer than `limit` steps: searches of all weights take turns, longer each time."""
        nodes = _FIRST_LOOK
        while nodes <= most and time.thread_time() < until:
            for weight in _WEIGHTS:
                found = self._astar(state, limit, weight, until=until, nodes=nodes)
                if found is not None:
                    return found
                if self.lower_bound(state) >= limit:
                    return None
            nodes *= _MORE
        return None

    def _ask(
        self, key: Key, view: View, moved: bool, floor: int, hint: Binding | None = None
    ) -> tuple[int, Binding | None]:
        """Returns a bound, at least the known `floor`, and a binding that needs no more or None if none is known yet.

        Without one the bound may be raised by asking again with it as the floor.
        """
        lower, binding = self._lower.get(key, -1), self._bindings.get(key)
        if binding is None and lower <= floor:
            lower, binding = self.bound.at_least(view, moved=moved, floor=floor, hint=hint)
            self._lower[key] = lower
            if binding is not None:
                self._bindings[key] = binding
        return max(lower, floor), binding

    def _guess(self, key: Key, view: View, moved: bool, floor: int, hint: Binding | None) -> tuple[int, bool]:
        """Like `_ask`, but looks at no other binding than the hint: the flag says that it takes a question to tell."""
        lower = max(self._lower.get(key, -1), floor)
        if key in self._bindings:
            return lower, False
        if lower > floor or hint is None or not self.bound.shows(hint, view, moved=moved, floor=floor):
            return lower, True
        self._lower[key], self._bindings[key] = lower, hint
        return lower, False

    def _astar(
        self, start: State, limit: int, weight: float = 1.0, *, until: float = math.inf, nodes: int = UNREACHABLE
    ) -> tuple[str, ...] | None:
        """Returns a plan of fewer than `limit` steps: with weight 1 the shortest, else the first that is found.

        With weight 1 what is proved goes to the table of bounds, all of it or as far as the time went.
        """
        root = self.lower_bound(start)
        if root >= limit:
            return None
        exact, cheapest, goal, reached = weight == 1.0, limit, -1, root
        tree = [_Node(start, False, 0, -1, ())]
        queue = [(weight * root, False, 0, 0, root)]
        steps = {self._visits.key(self._viewer.view(start), False): 0}
        expanded: list[tuple[Key, int]] = []
        while queue:
            _, _, _, number, estimate = heapq.heappop(queue)
            if estimate >= cheapest:
                if exact:
                    reached = cheapest
                    break
                continue
            reached = max(reached, estimate)
            if len(expanded) >= nodes or time.thread_time() > until:
                break
            node = tree[number]
            view = self._viewer.view(node.state)
            key = self._visits.key(view, node.moved)
            if node.steps > steps[key]:
                continue
            left, binding = self._ask(key, view, node.moved, estimate - node.steps)
            if node.steps + left > estimate:
                heapq.heappush(queue, (node.steps + weight * left, True, -node.steps, number, node.steps + left))
                continue
            expanded.append((key, node.steps))
            for actions, state, moved in self._visits.after(node.state, view, node.moved):
                total = node.steps + len(actions)
                if total >= cheapest:
                    continue
                if self._problem.is_goal(state):
                    goal, cheapest = len(tree), total
                else:
                    after = self._viewer.view(state)
                    after_key = self._visits.key(after, moved)
                    if steps.get(after_key, UNREACHABLE) <= total:
                        continue
                    lower, doubtful = self._guess(after_key, after, moved, left - len(actions), binding)
                    if total + lower >= cheapest:
                        continue
                    steps[after_key] = total
                    heapq.heappush(queue, (total + weight * lower, doubtful, -total, len(tree), total + lower))
                tree.append(_Node(state, moved, total, number, actions))
            if goal >= 0 and not exact:
                break
        else:
            reached = cheapest
        if exact:
            self._raise_bounds(expanded, reached)
        return _path(tree, goal)

    def _raise_bounds(self, expanded: list[tuple[Key, int]], total: int) -> None:
        """No plan from the start is shorter than `total`, so none from a state g steps from it than total - g."""
        lower = self._lower
        for key, steps in expanded:
            if total - steps > lower.get(key, 0):
                lower[key] = total - steps

    def _settle(
        self, key: Key, view: View, moved: bool, floor: int, hint: Binding | None
    ) -> tuple[int, Binding | None]:
        """Asks until there is a binding, or none can be."""
        lower, binding = self._ask(key, view, moved, floor, hint)
        while binding is None and lower < UNREACHABLE:
            lower, binding = self._ask(key, view, moved, lower, hint)
        return lower, binding


def _path(nodes: list[_Node], number: int) -> tuple[str, ...] | None:
    if number < 0:
        return None
    parts = []
    while number >= 0:
        parts.append(nodes[number].actions)
        number = nodes[number].parent
    return tuple(action for part in reversed(parts) for action in part)
