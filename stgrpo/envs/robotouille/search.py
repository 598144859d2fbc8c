"""A* over the engine's own states, with visits as steps and interchangeable things merged.

A successor is one action at a station, together with the move there if it is another one than the robot's; waiting is
a successor of its own. Left out is what cannot shorten a plan: two moves in a row, a move before a wait (the wait can
come first), waiting while nothing is under way, lifting at once what was just put down for nothing, putting back what
was just lifted, and preparing what the goal has no use for. After such an action the robot's place no longer matters:
the next one is somewhere else. States that differ only by an exchange of things alike share their proved bounds.

All transitions are the engine's; every plan can be replayed as it stands.
"""

import heapq
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from stgrpo.envs.robotouille.domain import WAIT
from stgrpo.envs.robotouille.engine import RobotouilleProblem, State
from stgrpo.envs.robotouille.requirements import UNREACHABLE
from stgrpo.envs.robotouille.views import BOIL, COOK, CUT, FRY, View, Viewer
from stgrpo.envs.robotouille.work import Binding, WorkBound

Key = tuple
_CHECK_EVERY = 64
_PASSES = ((8.0, 0.1), (3.0, 0.3), (1.5, 0.6), (1.0, 1.0))
"""Weights on the bound, and the share of the time after which each pass ends; weight 1 finds and proves the best."""


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


class Successor(NamedTuple):
    """One visit: the actions, the state after them, and whether the next manipulation must be somewhere else."""

    actions: tuple[str, ...]
    state: State
    moved: bool


class Search:
    """Plans of one problem; bounds and distances that were proved are kept for later questions."""

    def __init__(self, problem: RobotouilleProblem):
        self._problem = problem
        self._viewer = Viewer(problem.grounding)
        self.bound = WorkBound(problem.kitchen.goal, problem.grounding, self._viewer)
        self._lower: dict[Key, int] = {}
        self._bindings: dict[Key, Binding | None] = {}
        self._plans: dict[State, tuple[str, ...]] = {}

    def solve(self, state: State, *, seconds: float) -> Plan | None:
        """Returns the best plan found in the time, with the best bound that was proved; None if none was found.

        Weighted searches look for a plan first, each for a shorter one than the last; then the proof begins.
        """
        if self._problem.is_goal(state):
            return Plan((), 0)
        known = self._plans.get(state)
        if known is not None:
            return Plan(known, len(known))
        began = time.perf_counter()
        best: tuple[str, ...] | None = None
        for weight, share in _PASSES:
            limit = UNREACHABLE if best is None else len(best)
            found = self._astar(state, limit, weight, until=began + seconds * share)
            best = found if found is not None else best
            if best is not None and self.lower_bound(state) >= len(best):
                break
        if best is None:
            return None
        plan = Plan(best, min(self.lower_bound(state), len(best)))
        if plan.optimal:
            self._remember(state, best)
        return plan

    def shorter(self, state: State, steps: int, *, seconds: float) -> bool:
        """Says whether there is a plan of fewer steps.

        Raises:
            TimeoutError: the time did not suffice to tell.
        """
        if self._problem.is_goal(state):
            return steps > 0
        known = self._plans.get(state)
        if known is not None:
            return len(known) < steps
        found = self._astar(state, steps, 1.0, until=time.perf_counter() + seconds)
        if found is None and self.lower_bound(state) < steps:
            raise TimeoutError
        return found is not None

    def reaches(self, state: State, steps: int, *, nodes: int) -> bool:
        """Says whether a quick look at so many states finds a plan of at most `steps`; no clock decides."""
        if self._problem.is_goal(state):
            return True
        return any(
            self._astar(state, steps + 1, weight, nodes=nodes) is not None for weight, share in _PASSES if share < 1.0
        )

    def lower_bound(self, state: State, *, moved: bool = False) -> int:
        """Returns the greatest bound proved so far."""
        view = self._viewer.view(state)
        return self._bound_of(self._key(view, moved), view, moved)

    def _remember(self, state: State, actions: tuple[str, ...]) -> None:
        for number, action in enumerate(actions):
            self._plans[state] = actions[number:]
            state = self._problem.step(state, action)

    def _astar(
        self, start: State, limit: int, weight: float, *, until: float = math.inf, nodes: int = UNREACHABLE
    ) -> tuple[str, ...] | None:
        """Returns a plan of fewer than `limit` steps: with weight 1 the shortest, else the first that is found.

        With weight 1 what is proved goes to the table of bounds, all of it or as far as the time went.
        """
        root = self.lower_bound(start)
        if root >= limit:
            return None
        exact, cheapest, goal, reached = weight == 1.0, limit, -1, root
        tree = [_Node(start, False, 0, -1, ())]
        queue = [(weight * root, 0, 0, root)]
        steps = {self._key(self._viewer.view(start), False): 0}
        expanded: list[tuple[Key, int]] = []
        while queue:
            _, _, number, estimate = heapq.heappop(queue)
            if estimate >= cheapest:
                if exact:
                    reached = cheapest
                    break
                continue
            reached = max(reached, estimate)
            if len(expanded) >= nodes or (len(expanded) % _CHECK_EVERY == 0 and time.perf_counter() > until):
                break
            node = tree[number]
            view = self._viewer.view(node.state)
            key = self._key(view, node.moved)
            if node.steps > steps[key]:
                continue
            expanded.append((key, node.steps))
            left, hint = estimate - node.steps, self._bindings.get(key)
            for actions, state, moved in self.successors(node.state, view, node.moved):
                total = node.steps + len(actions)
                if total >= cheapest:
                    continue
                lower = 0
                if not self._problem.is_goal(state):
                    after = self._viewer.view(state)
                    after_key = self._key(after, moved)
                    if steps.get(after_key, UNREACHABLE) <= total:
                        continue
                    lower = self._bound_of(after_key, after, moved, left - len(actions), hint)
                    if total + lower >= cheapest:
                        continue
                    steps[after_key] = total
                tree.append(_Node(state, moved, total, number, actions))
                if lower:
                    heapq.heappush(queue, (total + weight * lower, -total, len(tree) - 1, total + lower))
                else:
                    goal, cheapest = len(tree) - 1, total
            if goal >= 0 and not exact:
                break
        else:
            reached = cheapest
        if exact:
            self._raise_bounds(expanded, reached)
        return self._path(tree, goal)

    def _raise_bounds(self, expanded: list[tuple[Key, int]], total: int) -> None:
        """No plan from the start is shorter than `total`, so none from a state g steps from it than total - g."""
        lower = self._lower
        for key, steps in expanded:
            if total - steps > lower.get(key, 0):
                lower[key] = total - steps

    @staticmethod
    def _path(nodes: list[_Node], number: int) -> tuple[str, ...] | None:
        if number < 0:
            return None
        parts = []
        while number >= 0:
            parts.append(nodes[number].actions)
            number = nodes[number].parent
        return tuple(action for part in reversed(parts) for action in part)

    def successors(self, state: State, view: View, moved: bool) -> Iterator[Successor]:
        """Yields the visits that can follow."""
        step, problem = self._problem.step, self._problem
        if not moved:
            yield from self._work(state, view, ())
        if any(timer.runs(view) for timer in view.timers):
            yield Successor((WAIT,), step(state, WAIT), moved)
        for action in problem.valid_actions(state):
            if not action.startswith("Move "):
                break
            there = step(state, action)
            target = self._viewer.index[action.rpartition(" ")[2]]
            yield from self._work(there, view._replace(robot=target), (action,))

    def _work(self, state: State, view: View, before: tuple[str, ...]) -> Iterator[Successor]:
        """Yields what can be done at the robot's station, after `before`."""
        actions = self._problem.valid_actions(state)
        step, index = self._problem.step, self._viewer.index
        for action in actions:
            verb, _, rest = action.partition(" ")
            if verb in ("Move", "Do"):
                continue
            moved = False
            if verb in ("Cut", "Cook", "Fry"):
                if not self._worthwhile(verb.lower(), index[rest.partition(" ")[0]], view):
                    continue
            elif verb == "Boil" or " with water from " in rest:
                if not self._brings_water(verb.lower(), index[rest.partition(" ")[0].removesuffix("'s")], view):
                    continue
            elif verb == "Place":
                moved = not self._stays(view)
            elif verb != "Add":
                moved = True
            yield Successor((*before, action), step(state, action), moved)

    def _worthwhile(self, kind: str, item: int, view: View) -> bool:
        done = {CUT: view.cut, COOK: view.cooked, FRY: view.fried}[kind]
        if done >> item & 1 or not self.bound.useful[kind] >> item & 1:
            return False
        if kind == CUT:
            return True
        return not any(t.kind == kind and t.thing == item and t.station == view.robot for t in view.timers)

    def _brings_water(self, kind: str, pot: int, view: View) -> bool:
        """Says whether filling a pot or boiling what is in it starts something that is not under way or done."""
        thing = view.inside.index(pot) if kind == BOIL else pot
        if kind == BOIL and view.boiling >> thing & 1:
            return False
        return not any(t.kind == kind and t.thing == thing and t.station == view.robot for t in view.timers)

    def _stays(self, view: View) -> bool:
        """Says whether something can be done here with what is about to be put down."""
        station = self._viewer.stations[view.robot]
        if view.carried >= 0:
            return "sink" in station or "stove" in station
        for kind, name in ((CUT, "board"), (COOK, "stove"), (FRY, "fryer")):
            if name in station and self.bound.useful[kind] >> view.held & 1:
                done = {CUT: view.cut, COOK: view.cooked, FRY: view.fried}[kind]
                return not done >> view.held & 1
        return False

    def _bound_of(self, key: Key, view: View, moved: bool, floor: int = 0, hint: Binding | None = None) -> int:
        lower = self._lower.get(key)
        if lower is None:
            lower, self._bindings[key] = self.bound(view, moved=moved, floor=floor, hint=hint)
        lower = self._lower[key] = max(lower, floor)
        return lower

    def _key(self, view: View, moved: bool) -> Key:
        """The same for states that an exchange of like things turns into each other.

        Effects are listed in the engine's order, which decides which of them misses a step.
        """
        classes, stations = self.bound.item_classes, self.bound.station_classes
        marks: dict[int, list] = {}
        places: dict[int, list] = {}
        vessels = []
        for order, timer in enumerate(view.timers):
            places.setdefault(timer.station, []).append(order)
            if timer.vessel < 0:
                marks.setdefault(timer.thing, []).append((order, timer.kind, timer.left))
            else:
                vessels.append((order, timer.kind, timer.left, timer.thing, timer.vessel))

        def label(item: int) -> tuple:
            bits = (view.cut >> item & 1, view.cooked >> item & 1, view.fried >> item & 1)
            return (classes[item], *bits, *marks.get(item, ()))

        entries = []
        for station, stack in enumerate(view.stacks):
            here = not moved and station == view.robot
            stands = tuple(c for c, s in enumerate(view.stands) if s == station)
            entries.append((stations[station], here, stands, tuple(places.get(station, ())), *map(label, stack)))
        entries.sort()
        hand = label(view.held) if view.held >= 0 else view.carried
        qualities = (view.cut, view.cooked, view.fried)
        added = tuple(
            tuple(sorted((classes[i], *(q >> i & 1 for q in qualities)) for i in range(len(classes)) if mask >> i & 1))
            for mask in view.added
        )
        return (hand, tuple(entries), view.inside, added, view.boiling, tuple(vessels))
