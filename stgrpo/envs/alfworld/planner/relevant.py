"""What a goal depends on: the things, receptacles and locations that a shortest plan can have to do with."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from stgrpo.envs.alfworld.game.room import NOTHING, TOGGLED, TREATMENTS, Action, Room, Treatment, World

Places = dict[int, list[int]]
"""By thing, the receptacles that it is in."""


@dataclass(frozen=True, eq=False)
class Relevant:
    """The part of a room that matters for its goal."""

    room: Room

    @cached_property
    def treatment(self) -> Treatment | None:
        """What the thing has to undergo."""
        return next((treatment for treatment in TREATMENTS if treatment.mark == self.room.goal.mark), None)

    @cached_property
    def things(self) -> frozenset[int]:
        """Objects that can satisfy the goal."""
        able = self.room.able["pickupable"]
        if self.treatment:
            able &= self.room.able[f"{self.treatment.verb}able"]
        return frozenset(thing for thing in able if self.room.object_types[thing] == self.room.goal.thing)

    @cached_property
    def lamps(self) -> frozenset[int]:
        """Lamps to look at something under."""
        if not self.room.goal.is_look:
            return frozenset()
        types = self.room.object_types
        return frozenset(lamp for lamp in self.room.able["toggleable"] if types[lamp] == self.room.goal.place)

    @cached_property
    def targets(self) -> tuple[int, ...]:
        """Receptacles that things are to be put in."""
        if self.room.goal.is_look:
            return ()
        return tuple(r for r, kind in enumerate(self.room.receptacle_types) if kind == self.room.goal.place)

    @cached_property
    def target_locations(self) -> frozenset[int]:
        """Where these are."""
        return frozenset(self.room.location_of[target] for target in self.targets)

    @cached_property
    def stations(self) -> frozenset[int]:
        """Locations where the treatment is to be had."""
        stations = self.treatment.stations if self.treatment else ()
        kinds = enumerate(self.room.receptacle_types)
        return frozenset(self.room.location_of[r] for r, kind in kinds if kind in stations)

    def places(self, world: World) -> Places:
        """Returns where things and lamps are."""
        found: Places = {}
        for thing, place in world.inside:
            if thing in self.things or thing in self.lamps:
                found.setdefault(thing, []).append(place)
        return found

    def key(self, world: World) -> tuple:
        """Returns all of a world that the distance to the goal depends on."""
        kept = self.things | self.lamps
        inside = frozenset(pair for pair in world.inside if pair[0] in kept)
        counting = (self.room.goal.mark, TOGGLED)
        marks = frozenset(pair for pair in world.marks if pair[1] in kept and pair[0] in counting)
        return world.at, world.held, world.opened, inside, marks

    def moves(self, world: World) -> Iterator[Action]:
        """Yields the possible actions that some shortest plan may begin with, one of several that do the same."""
        places = self.places(world)
        for location in self._worth_going(world, places):
            yield Action("go", place=self.room.at_location[location][0])
        for receptacle in self.room.at_location[world.at]:
            yield from self._at(world, receptacle, places)

    def _worth_going(self, world: World, places: Places) -> set[int]:
        where = self.room.location_of
        worth = {where[place] for others in places.values() for place in others}
        worth |= self.stations | self.target_locations
        if world.held != NOTHING:
            worth |= set(self._put_down(world))
        return worth - {world.at}

    def _put_down(self, world: World) -> list[int]:
        """Where to be rid of what is held: one open receptacle is as good as another; without any, all closed ones."""
        accepting = [r for r, accepted in enumerate(self.room.accepts) if world.held in accepted]
        shut = [r for r in accepting if self.room.is_closed(world, r)]
        ready = [r for r in accepting if r not in shut]
        return [self.room.location_of[r] for r in ready[:1] or shut]

    def _at(self, world: World, receptacle: int, places: Places) -> Iterator[Action]:
        room, held = self.room, world.held
        within = [thing for thing, others in places.items() if receptacle in others]
        if room.is_closed(world, receptacle):
            if receptacle in self.targets or within or held in room.accepts[receptacle]:
                yield Action("open", place=receptacle)
        elif held == NOTHING:
            yield from (Action("take", thing, receptacle) for thing in within if thing in self.things)
        elif held in room.accepts[receptacle]:
            yield Action("move", held, receptacle)
        yield from (Action("use", lamp) for lamp in within if lamp in self.lamps and (TOGGLED, lamp) not in world.marks)
        if self.treatment in room.treatments_at[receptacle] and held in self.things:
            yield Action(self.treatment.verb, held, receptacle)
