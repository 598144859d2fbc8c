"""A number of steps that no plan goes below: what makes the search for the shortest plan quick and exact.

It counts, for the cheapest choice of things, what none of their ways can do without: going to where a thing is, opening
what it is in, taking it, the treatment, going on, putting it down. What two things can share is counted once.
"""

import itertools
import math
from collections.abc import Iterator

from stgrpo.envs.alfworld.game.room import NOTHING, TOGGLED, World
from stgrpo.envs.alfworld.planner.relevant import Places, Relevant


class LowerBound:
    """The bound of all worlds of one room."""

    def __init__(self, relevant: Relevant):
        self._relevant, self._room = relevant, relevant.room
        goal = relevant.room.goal
        self._bound = self._to_look if goal.is_look else self._to_place_two if goal.count > 1 else self._to_place

    def __call__(self, world: World) -> float:
        """Returns the bound; infinite where the goal certainly cannot be reached."""
        return self._bound(world, self._relevant.places(world))

    def _to_hold(self, world: World, thing: int, places: Places) -> Iterator[tuple[int, int, list[int]]]:
        """Yields, for each way of holding a thing: steps, where one then is, and where the thing still is as well."""
        where = places.get(thing, [])
        if world.held == thing:
            yield 0, world.at, where
        elif not self._is_stuck(world):
            for place in where:
                location = self._room.location_of[place]
                steps = 1 + (world.held != NOTHING) + self._room.is_closed(world, place) + (location != world.at)
                yield steps, location, [other for other in where if other != place]

    def _is_stuck(self, world: World) -> bool:
        """Whether what is held can be put down nowhere."""
        return world.held != NOTHING and not any(world.held in accepted for accepted in self._room.accepts)

    def _to_look(self, world: World, places: Places) -> float:
        lamps = [lamp for lamp in self._relevant.lamps if lamp in places]
        if not lamps:
            return math.inf
        lit = any((TOGGLED, lamp) in world.marks for lamp in lamps)
        lights = {self._room.location_of[place] for lamp in lamps for place in places[lamp]}
        ways = (way for thing in self._relevant.things for way in self._to_hold(world, thing, places))
        return min((steps + (not lit) + (location not in lights) for steps, location, _ in ways), default=math.inf)

    def _to_place(self, world: World, places: Places) -> float:
        return min((self._to_place_thing(world, thing, places) for thing in self._relevant.things), default=math.inf)

    def _to_place_thing(self, world: World, thing: int, places: Places) -> float:
        targets, mark = self._relevant.targets, self._room.goal.mark
        is_treated = not mark or (mark, thing) in world.marks
        if is_treated and any(place in targets for place in places.get(thing, [])):
            return 0
        best = math.inf
        for steps, location, also_in in self._to_hold(world, thing, places):
            at = frozenset([location])
            if not is_treated:
                steps += 1 + at.isdisjoint(self._relevant.stations)
                at = at & self._relevant.stations or self._relevant.stations
            if not any(place in targets for place in also_in):
                steps += 1 + at.isdisjoint(self._relevant.target_locations)
            best = min(best, steps)
        return best

    def _to_place_two(self, world: World, places: Places) -> float:
        return min(
            (self._to_place_two_in(world, target, places) for target in self._relevant.targets), default=math.inf
        )

    def _to_place_two_in(self, world: World, target: int, places: Places) -> float:
        there = {thing for thing, where in places.items() if target in where}
        missing = self._room.goal.count - len(there)
        if missing <= 0:
            return 0
        others = [
            cost for thing in self._relevant.things - there for cost in self._to_bring(world, thing, target, places)
        ]
        to_open = {target} if self._room.is_closed(world, target) else set()
        return (
            min(
                (sum(steps for steps, _ in some) + len(to_open.union(*(opened for _, opened in some))) - 1)
                for some in itertools.combinations(others, missing)
            )
            if len(others) >= missing
            else math.inf
        )

    def _to_bring(self, world: World, thing: int, target: int, places: Places) -> Iterator[tuple[int, set[int]]]:
        """Yields the steps that bring a thing to a receptacle, and what must be opened for it; nothing if it is gone.

        The first thing may be taken where one stands, which the caller makes up for.
        """
        location = self._room.location_of
        if world.held == thing:
            yield 1 + (location[target] != world.at), set()
        elif where := places.get(thing):
            steps = min(2 + 2 * (location[place] != location[target]) for place in where)
            shut = all(self._room.is_closed(world, place) for place in where)
            yield steps, set(where) if shut and len(where) == 1 else set()
