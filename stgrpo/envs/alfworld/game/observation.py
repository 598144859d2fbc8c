"""What an agent is shown: the game's last words, and what its earlier ones have told.

The game's own text says what the last command did, and is gone with the next. An agent that is asked one turn at a time
has no memory, so the observation keeps one for it, of nothing but what was shown to it: the receptacles it has looked
into, what it has done to things, where it stands and what it holds.
"""

from collections.abc import Iterator, Sequence

from stgrpo.envs.alfworld.game.room import NOTHING, TOGGLED, Room, World
from stgrpo.envs.alfworld.game.text import listed


def observation(room: Room, world: World, seen: frozenset[int], *, said: str, commands: Sequence[str]) -> str:
    """Returns the whole text.

    Args:
        room: of the game.
        world: as it is.
        seen: receptacles that were looked into.
        said: the feedback to the last command.
        commands: that are possible.
    """
    memory = list(_memory(room, world, seen))
    return "\n".join([*memory, said.strip(), "", "Valid Actions:", *commands, "", f"Goal: {room.goal_in_words}"])


def _memory(room: Room, world: World, seen: frozenset[int]) -> Iterator[str]:
    if seen:
        yield "You have seen:"
        yield from (_content(room, world, receptacle) for receptacle in sorted(seen))
    yield from _conditions(room, world, known_things(world, seen))
    here = room.at_location[world.at]
    place = f"at {listed(room.receptacles[receptacle] for receptacle in here)}" if here else "in the middle of the room"
    carried = "nothing" if world.held == NOTHING else room.objects[world.held]
    yield f"You are {place} and carry {carried}."


def known_things(world: World, seen: frozenset[int]) -> set[int]:
    """Returns the objects that an agent knows of: those in receptacles that it has looked into, and what it holds."""
    return {thing for thing, place in world.inside if place in seen} | ({world.held} - {NOTHING})


def _content(room: Room, world: World, receptacle: int) -> str:
    inside = listed(room.objects[thing] for thing in room.objects_in(world, receptacle))
    return f"{room.receptacles[receptacle]}: {inside}"


def _conditions(room: Room, world: World, known: set[int]) -> Iterator[str]:
    """What was done to things, and that those are cool which lay in a fridge: no other has a mark from the start."""
    for mark, thing in sorted(world.marks):
        if thing in known:
            yield f"{room.objects[thing]} is {'on' if mark == TOGGLED else mark}."
