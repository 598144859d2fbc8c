"""What the game says: commands and feedback, byte for byte the package's, faults of its grammar included.

It always says "a apple 1"; a cool thing is "cold" by itself and "cool" beside another word; whoever has gone nowhere
yet and looks around sees "nothing", though the game begins by naming every receptacle.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from stgrpo.envs.alfworld.game.room import CLEAN, COOL, HOT, NOTHING, SLICED, TOGGLED, TREATMENT_OF, Action, Room, World

UNKNOWN = "Nothing happens."
_WELCOME = "-= Welcome to TextWorld, ALFRED! =-"
_HELP = (
    ("look", "look around your current location"),
    ("inventory", "check your current inventory"),
    ("go to (receptacle)", "move to a receptacle"),
    ("open (receptacle)", "open a receptacle"),
    ("close (receptacle)", "close a receptacle"),
    ("take (object) from (receptacle)", "take an object from a receptacle"),
    ("move (object) to (receptacle)", "place an object in or on a receptacle"),
    ("examine (something)", "examine a receptacle or an object"),
    ("use (object)", "use an object"),
    ("heat (object) with (receptacle)", "heat an object using a receptacle"),
    ("clean (object) with (receptacle)", "clean an object using a receptacle"),
    ("cool (object) with (receptacle)", "cool an object using a receptacle"),
    ("slice (object) with (object)", "slice an object using a sharp object"),
)


def _help() -> str:
    """Returns the package's help: explanations stand in one column, but that of "move" two before it."""
    lines = (f"  {f'{command}:':<{32 if command.startswith('move') else 34}}{said}\n" for command, said in _HELP)
    return "Available commands:\n" + "".join(lines)


@dataclass(frozen=True)
class Wording:
    """Where versions of the package differ in what they say.

    Attributes:
        move: the command that puts a thing down.
        moved: what it answers.
        names_location: whether one arrives at "loc 7" and not at the receptacle.
        help: the answer to "help"; "" where there is no such command.
    """

    move: str
    moved: str
    names_location: bool
    help: str


WORDINGS = {
    "0.4": Wording("move {} to {}", "You move the {} to the {}.", names_location=False, help=_help()),
    "0.3": Wording("put {} in/on {}", "You put the {} in/on the {}.", names_location=True, help=""),
}


def listed(items: Iterable[str]) -> str:
    """Returns an enumeration in words."""
    items = list(items)
    if len(items) < 2:
        return items[0] if items else "nothing"
    return ", ".join(items[:-1]) + ", and " + items[-1]


def command(room: Room, action: Action, wording: Wording) -> str:
    """Returns the words that do an action."""
    return _COMMANDS[action.verb](room, action, wording)


_COMMANDS: Mapping[str, Callable[[Room, Action, Wording], str]] = {
    "go": lambda room, action, _: f"go to {room.receptacles[action.place]}",
    "open": lambda room, action, _: f"open {room.receptacles[action.place]}",
    "close": lambda room, action, _: f"close {room.receptacles[action.place]}",
    "take": lambda room, action, _: f"take {room.objects[action.thing]} from {room.receptacles[action.place]}",
    "move": lambda room, action, said: said.move.format(room.objects[action.thing], room.receptacles[action.place]),
    "use": lambda room, action, _: f"use {room.objects[action.thing]}",
    "slice": lambda room, action, _: f"slice {room.objects[action.thing]} with {room.objects[action.place]}",
    "search": lambda room, action, _: f"examine {room.receptacles[action.place]}",
    "inspect": lambda room, action, _: f"examine {room.objects[action.thing]}",
    **dict.fromkeys(
        TREATMENT_OF,
        lambda room, action, _: f"{action.verb} {room.objects[action.thing]} with {room.receptacles[action.place]}",
    ),
}


def feedback(room: Room, world: World, action: Action, wording: Wording) -> str:
    """Returns what the game says after an action.

    Args:
        room: of the game.
        world: after the action.
        action: which was possible before.
        wording: of a version.
    """
    return _FEEDBACK[action.verb](room, world, action, wording)


def _begin(room: Room, world: World, action: Action, wording: Wording) -> str:
    return f"{_WELCOME}\n\n{_middle(listed(f'a {name}' for name in room.receptacles))}\n\n{room.task_line}"


def _arrive(room: Room, world: World, action: Action, wording: Wording) -> str:
    where = room.locations[world.at] if wording.names_location else room.receptacles[action.place]
    return f"You arrive at {where}. {content(room, world, action.place)}"


def _opened(room: Room, world: World, action: Action, wording: Wording) -> str:
    return f"You open the {room.receptacles[action.place]}. {content(room, world, action.place)}"


def _treated(room: Room, world: World, action: Action, wording: Wording) -> str:
    return f"You {action.verb} the {room.objects[action.thing]} using the {room.receptacles[action.place]}."


def _taken(room: Room, world: World, action: Action, wording: Wording) -> str:
    return f"You pick up the {room.objects[action.thing]} from the {room.receptacles[action.place]}."


def _moved(room: Room, world: World, action: Action, wording: Wording) -> str:
    return wording.moved.format(room.objects[action.thing], room.receptacles[action.place])


def _carried(room: Room, world: World, action: Action, wording: Wording) -> str:
    if world.held == NOTHING:
        return "You are not carrying anything."
    return f"You are carrying: a {room.objects[world.held]}."


def _look(room: Room, world: World, action: Action, wording: Wording) -> str:
    here = room.at_location[world.at]
    if not here:
        return _middle("nothing")
    facing = listed(room.receptacles[receptacle] for receptacle in here)
    lying = [thing for thing, location in sorted(world.near) if location == world.at]
    floor = (f"a {room.objects[thing]}" for thing in lying for place in here if (thing, place) in world.left)
    return f"You are facing the {facing}. Next to it, you see {listed(floor)}."


def _middle(seen: str) -> str:
    return f"You are in the middle of a room. Looking quickly around you, you see {seen}."


def content(room: Room, world: World, receptacle: int) -> str:
    """Returns what is said of a receptacle and what is in it."""
    name = room.receptacles[receptacle]
    if room.is_closed(world, receptacle):
        return f"The {name} is closed."
    seen = listed(f"a {room.objects[thing]}" for thing in room.objects_in(world, receptacle))
    if receptacle in room.openable:
        return f"The {name} is open. In it, you see {seen}."
    return f"On the {name}, you see {seen}."


def _inspected(room: Room, world: World, action: Action, wording: Wording) -> str:
    thing, name = action.thing, room.objects[action.thing]
    if thing in room.able["isreceptacleobject"]:
        inner = listed(f"a {room.objects[other]}" for other in room.contents.get(thing, ()))
        return f"This is a normal {name}. In it, you see {inner}."
    marks = {mark for mark, other in world.marks if other == thing}
    if condition := _condition(marks):
        return f"This is a {condition} {name}."
    if TOGGLED in marks and thing in room.able["toggleable"]:
        return f"This {name} is on."
    if SLICED in marks:
        return f"This is a sliced {name}."
    return f"There's nothing special about {name}."


def _condition(marks: set[str]) -> str:
    """Returns how clean and warm a thing is, in the words of the grammar; "" for nothing to say."""
    warmth = next((mark for mark in (HOT, COOL) if mark in marks), "")
    words = [word for word in (warmth, CLEAN if CLEAN in marks else "") if word]
    if SLICED in marks:
        return f"{' and '.join(words)} sliced" if words else ""
    return "cold" if words == [COOL] else " and ".join(words)


_FEEDBACK: Mapping[str, Callable[[Room, World, Action, Wording], str]] = {
    "begin": _begin,
    "unknown": lambda room, world, action, wording: UNKNOWN,
    "go": _arrive,
    "open": _opened,
    "close": lambda room, world, action, wording: f"You close the {room.receptacles[action.place]}.",
    "take": _taken,
    "move": _moved,
    "use": lambda room, world, action, wording: f"You turn on the {room.objects[action.thing]}.",
    "slice": lambda room, world, action, wording: (
        f"You sliced the {room.objects[action.thing]} with the {room.objects[action.place]}."
    ),
    "search": lambda room, world, action, wording: content(room, world, action.place),
    "inspect": _inspected,
    "inventory": _carried,
    "look": _look,
    "help": lambda room, world, action, wording: wording.help,
    **dict.fromkeys(TREATMENT_OF, _treated),
}
