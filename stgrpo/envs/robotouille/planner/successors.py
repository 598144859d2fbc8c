"""What can follow a state, visit by visit, and which states are the same but for names.

A successor is one action at a station, together with the move there if it is another one than the robot's; waiting is
a successor of its own. Left out is what cannot shorten a plan: two moves in a row, a move before a wait (the wait can
come first), waiting while nothing is under way, lifting at once what was just put down for nothing, putting back what
was just lifted, and preparing what the goal has no use for. After such an action the robot's place no longer matters:
the next one is somewhere else.
"""

from collections.abc import Iterator
from typing import NamedTuple

from stgrpo.envs.robotouille.kitchen.domain import WAIT
from stgrpo.envs.robotouille.kitchen.engine import RobotouilleProblem, State
from stgrpo.envs.robotouille.planner.goal_bindings import GoalBindings
from stgrpo.envs.robotouille.planner.state_view import BOIL, COOK, CUT, FRY, View, Viewer

Key = tuple


class Successor(NamedTuple):
    """One visit: the actions, the state after them, and whether the next manipulation must be somewhere else."""

    actions: tuple[str, ...]
    state: State
    moved: bool


class Visits:
    """The visits of one kitchen."""

    def __init__(self, problem: RobotouilleProblem, viewer: Viewer, asked: GoalBindings):
        self._problem, self._viewer, self._asked = problem, viewer, asked

    def after(self, state: State, view: View, moved: bool) -> Iterator[Successor]:
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
        if done >> item & 1 or not self._asked.useful[kind] >> item & 1:
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
            if name in station and self._asked.useful[kind] >> view.held & 1:
                done = {CUT: view.cut, COOK: view.cooked, FRY: view.fried}[kind]
                return not done >> view.held & 1
        return False

    def key(self, view: View, moved: bool) -> Key:
        """The same for states that an exchange of like things turns into each other.

        Effects are listed in the engine's order, which decides which of them misses a step.
        """
        classes, stations = self._asked.item_classes, self._asked.station_classes
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
