"""The expert that knows what an agent can know: what it has seen, and where such things usually lie.

Where what it knows is enough, it takes the shortest way by the planner. Where something is missing it looks for it in
the place that promises most for a step: the share of such receptacles that have it in training games, by the steps that
a look costs. Of two things it brings the first before it looks for the second; a thing to be looked at it takes along
to the lamp. Which receptacles stand together is taken as known, though one only sees it there.
"""

import dataclasses
from collections.abc import Iterator
from typing import NamedTuple

from stgrpo.envs.alfworld.game.engine import AlfworldProblem, State
from stgrpo.envs.alfworld.game.observation import known_things
from stgrpo.envs.alfworld.game.room import NOTHING, Action, World
from stgrpo.envs.alfworld.game.rules import is_goal, possible
from stgrpo.envs.alfworld.game.text import command
from stgrpo.envs.alfworld.layouts.usual_places import RARELY, usual_places
from stgrpo.envs.alfworld.planner.world_planner import WorldPlanner


class Decision(NamedTuple):
    """What the expert does, and for what.

    Attributes:
        action: what it does.
        missing: types of what it looks for; empty where it knows its way.
    """

    action: Action
    missing: tuple[str, ...]


class SearchExpert:
    """The expert in one game; the same state always gives the same action."""

    def __init__(self, problem: AlfworldProblem):
        self._problem, self._room = problem, problem.room
        self._planner = WorldPlanner(self._room)
        one = dataclasses.replace(self._room.goal, count=1)
        self._planner_of_one = WorldPlanner(dataclasses.replace(self._room, goal=one))
        self._decisions: dict[State, Decision | None] = {}

    def action(self, state: State) -> str | None:
        """Returns the expert's command; None at the goal, and where nothing is left to look for or to do."""
        decision = self.decide(state)
        return None if decision is None else command(self._room, decision.action, self._problem.wording)

    def decide(self, state: State) -> Decision | None:
        """Returns what it does; None as for `action`."""
        state = state._replace(last=self._problem.initial_state().last)
        if state not in self._decisions:
            self._decisions[state] = None if is_goal(self._room, state.world) else self._decide(state)
        return self._decisions[state]

    def _decide(self, state: State) -> Decision | None:
        known = _known_part(state)
        action = self._first(self._planner, known) or self._prepare(known)
        if action is not None:
            return Decision(action, ())
        missing = tuple(self._missing(state))
        action = self._look_for(state, missing)
        return None if action is None else Decision(action, missing)

    def _first(self, planner: WorldPlanner, world: World) -> Action | None:
        return min(planner.best(world), key=self._display_order, default=None)

    def _display_order(self, action: Action) -> str:
        return command(self._room, action, self._problem.wording)

    def _prepare(self, known: World) -> Action | None:
        """What is worth doing before all is found: bringing the first of two things, taking what is to be looked at."""
        goal = self._room.goal
        if goal.is_look and known.held == NOTHING:
            takes = [action for action in possible(self._room, known) if action.verb == "take"]
            wanted = [action for action in takes if self._room.object_types[action.thing] == goal.thing]
            return min(wanted, key=self._display_order, default=None)
        return self._first(self._planner_of_one, known) if goal.count > 1 else None

    def _missing(self, state: State) -> Iterator[str]:
        goal, types = self._room.goal, self._room.object_types
        known = [types[thing] for thing in known_things(state.world, state.seen)]
        if known.count(goal.thing) < goal.count:
            yield goal.thing
        if goal.is_look and goal.place not in known:
            yield goal.place

    def _look_for(self, state: State, missing: tuple[str, ...]) -> Action | None:
        """The first action towards the most promising receptacle that was not looked into; None where all were."""
        unseen = [place for place in range(len(self._room.receptacles)) if place not in state.seen]
        if not unseen:
            return None
        best = max(unseen, key=lambda place: (self._promise(state.world, place, missing), -place))
        if self._room.location_of[best] != state.world.at:
            return Action("go", place=best)
        return Action("open" if self._room.is_closed(state.world, best) else "search", place=best)

    def _promise(self, world: World, place: int, missing: tuple[str, ...]) -> float:
        """The chance to find something in a receptacle, for each step that it takes to see."""
        room, shares = self._room, usual_places()
        kind = room.receptacle_types[place]
        chance = sum(shares.get((thing, kind), RARELY) for thing in missing)
        if room.goal.place == kind and room.goal.count == 1 and not room.goal.mark:
            chance = 0  # the game would have begun at its goal
        steps = (room.location_of[place] != world.at) + room.is_closed(world, place)
        return chance / max(1, steps)


def _known_part(state: State) -> World:
    """The world as far as the agent knows it: without what is in receptacles that it has not looked into."""
    known = frozenset(pair for pair in state.world.inside if pair[1] in state.seen)
    return state.world._replace(inside=known)
