"""What can be done in a room, what it changes, and when the goal holds: the rules of the package's PDDL domain.

Three of them are easily missed. A lamp in a closed receptacle can be switched. Whoever faces a receptacle faces all at
its location, and cannot go to them. And taking a thing out of one receptacle leaves it in the other, if it was in two.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping

from stgrpo.envs.alfworld.game.room import (
    KNIVES,
    NOTHING,
    SLICED,
    TOGGLED,
    TREATMENT_OF,
    Action,
    Room,
    World,
)


def possible(room: Room, world: World) -> Iterator[Action]:
    """Yields every action but look, inventory and help, in no particular order; some twice."""
    for receptacle, location in enumerate(room.location_of):
        if location != world.at:
            yield Action("go", place=receptacle)
        else:
            yield from _at(room, world, receptacle)
    if world.held != NOTHING:
        yield Action("inspect", world.held)
        if room.object_types[world.held] in KNIVES:
            for thing, location in world.near:
                if location == world.at and thing in room.able["sliceable"]:
                    yield Action("slice", thing, world.held)


def _at(room: Room, world: World, receptacle: int) -> Iterator[Action]:
    """What can be done with a receptacle that is faced."""
    yield Action("search", place=receptacle)
    if receptacle in room.openable:
        yield Action("close" if receptacle in world.opened else "open", place=receptacle)
    is_shown, hands_are_free = not room.is_closed(world, receptacle), world.held == NOTHING
    for thing, place in world.inside:
        if place == receptacle:
            if is_shown and hands_are_free and thing in room.able["pickupable"]:
                yield Action("take", thing, receptacle)
            if thing in room.able["toggleable"]:
                yield Action("use", thing)
    if not hands_are_free:
        if is_shown and world.held in room.accepts[receptacle]:
            yield Action("move", world.held, receptacle)
        for treatment in room.treatments_at[receptacle]:
            if world.held in room.able[f"{treatment.verb}able"]:
                yield Action(treatment.verb, world.held, receptacle)


def apply(room: Room, world: World, action: Action) -> World:
    """Returns the world after an action that is possible in it."""
    effect = _EFFECTS.get(action.verb)
    return effect(room, world, action) if effect else world


def _go(room: Room, world: World, action: Action) -> World:
    return world._replace(at=room.location_of[action.place])


def _open(room: Room, world: World, action: Action) -> World:
    return world._replace(opened=world.opened | {action.place})


def _close(room: Room, world: World, action: Action) -> World:
    return world._replace(opened=world.opened - {action.place})


def _take(room: Room, world: World, action: Action) -> World:
    moved, here = {(action.thing, action.place)}, {(action.thing, world.at)}
    return world._replace(
        held=action.thing, inside=world.inside - moved, near=world.near - here, left=world.left | moved
    )


def _move(room: Room, world: World, action: Action) -> World:
    moved, here = {(action.thing, action.place)}, {(action.thing, world.at)}
    return world._replace(held=NOTHING, inside=world.inside | moved, near=world.near | here, left=world.left - moved)


def _treat(room: Room, world: World, action: Action) -> World:
    treatment = TREATMENT_OF[action.verb]
    kept = world.marks - {(treatment.undoes, action.thing)}
    return world._replace(marks=kept | {(treatment.mark, action.thing)})


def _slice(room: Room, world: World, action: Action) -> World:
    return world._replace(marks=world.marks | {(SLICED, action.thing)})


def _use(room: Room, world: World, action: Action) -> World:
    return world._replace(marks=world.marks | {(TOGGLED, action.thing)})


_EFFECTS: Mapping[str, Callable[[Room, World, Action], World]] = {
    "go": _go,
    "open": _open,
    "close": _close,
    "take": _take,
    "move": _move,
    "slice": _slice,
    "use": _use,
    **dict.fromkeys(TREATMENT_OF, _treat),
}


def is_goal(room: Room, world: World) -> bool:
    """Whether the goal holds."""
    return _is_looked_at(room, world) if room.goal.is_look else _is_placed(room, world)


def _is_looked_at(room: Room, world: World) -> bool:
    """Whether a thing of the right type is held beside a lamp that was switched on."""
    if world.held == NOTHING or room.object_types[world.held] != room.goal.thing:
        return False
    return any(
        mark == TOGGLED and room.object_types[lamp] == room.goal.place and _is_here(room, world, lamp)
        for mark, lamp in world.marks
    )


def _is_here(room: Room, world: World, thing: int) -> bool:
    return any(other == thing and room.location_of[place] == world.at for other, place in world.inside)


def _is_placed(room: Room, world: World) -> bool:
    """Whether one receptacle of the right type has as many things of the right type and mark as asked for."""
    goal, able = room.goal, None
    if goal.mark:
        able = next(room.able[f"{verb}able"] for verb, treatment in TREATMENT_OF.items() if treatment.mark == goal.mark)
    counts = Counter(
        place
        for thing, place in world.inside
        if room.object_types[thing] == goal.thing and room.receptacle_types[place] == goal.place
        if able is None or (thing in able and (goal.mark, thing) in world.marks)
    )
    return max(counts.values(), default=0) >= goal.count
