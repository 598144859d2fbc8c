"""The shortest way to the goal for one who sees everything: A* over the game's own rules.

The search keeps to what a goal depends on (`relevant`), and its bound is never too high (`lower_bound`), so distances
are exact.
"""

import heapq
import itertools
import math
from collections.abc import Hashable

from stgrpo.envs.alfworld.game.room import Action, Room, World
from stgrpo.envs.alfworld.game.rules import apply, is_goal, possible
from stgrpo.envs.alfworld.planner.lower_bound import LowerBound
from stgrpo.envs.alfworld.planner.relevant import Relevant


class WorldPlanner:
    """Distances in the worlds of one room, each of which is searched for once."""

    def __init__(self, room: Room):
        self._room, self._relevant = room, Relevant(room)
        self._bound = LowerBound(self._relevant)
        self._known: dict[Hashable, float] = {}

    def distance(self, world: World) -> float:
        """Returns the least number of steps to the goal; infinite where there is no way."""
        key = self._relevant.key(world)
        if key not in self._known:
            self._known[key] = self._search(world, key)
        return self._known[key]

    def best(self, world: World) -> list[Action]:
        """Returns the actions that bring the goal one step nearer."""
        distance = self.distance(world)
        if distance in (0, math.inf):
            return []
        return [action for action in set(possible(self._room, world)) if self._leads_on(world, action, distance - 1)]

    def _leads_on(self, world: World, action: Action, distance: float) -> bool:
        after = apply(self._room, world, action)
        return self._bound(after) <= distance and self.distance(after) == distance

    def _search(self, start: World, start_key: Hashable) -> float:
        steps, before = {start_key: 0}, {}
        order = itertools.count()
        queue = [(self._bound(start), 0, next(order), start, start_key)]
        while queue:
            bound, _, _, world, key = heapq.heappop(queue)
            if bound == math.inf:
                break
            if is_goal(self._room, world):
                self._remember(key, steps, before)
                return steps[key]
            for after, after_key in self._successors(world):
                if steps[key] + 1 < steps.get(after_key, math.inf):
                    steps[after_key], before[after_key] = steps[key] + 1, key
                    least = steps[after_key] + self._known.get(after_key, self._bound(after))
                    heapq.heappush(queue, (least, -steps[after_key], next(order), after, after_key))
        return math.inf

    def _successors(self, world: World) -> list[tuple[World, Hashable]]:
        worlds = [apply(self._room, world, action) for action in self._relevant.moves(world)]
        return [(after, self._relevant.key(after)) for after in worlds]

    def _remember(self, goal: Hashable, steps: dict[Hashable, int], before: dict[Hashable, Hashable]) -> None:
        """Notes the distances along the way that was found: each part of it is a shortest one."""
        key: Hashable | None = goal
        while key is not None:
            self._known[key] = steps[goal] - steps[key]
            key = before.get(key)
