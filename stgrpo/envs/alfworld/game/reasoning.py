"""Why an action is right, in sentences that say no more than the agent knows."""

from collections.abc import Callable, Mapping

from stgrpo.envs.alfworld.game.observation import known_things
from stgrpo.envs.alfworld.game.room import NOTHING, TOGGLED, TREATMENT_OF, Action, Room, World


def explain(room: Room, world: World, seen: frozenset[int], action: Action) -> str:
    """Returns the reason for an action of the expert.

    Args:
        room: of the game.
        world: before the action.
        seen: receptacles that were looked into.
        action: what is about to be done.
    """
    return _REASONS[action.verb](_Knowledge(room, world, seen), action)


class _Knowledge:
    """What the agent knows that matters for its goal."""

    def __init__(self, room: Room, world: World, seen: frozenset[int]):
        self.room, self.world, self.goal = room, world, room.goal
        self.known = known_things(world, seen)
        self.seen = seen

    def name(self, thing: int) -> str:
        return self.room.objects[thing]

    def place(self, place: int) -> str:
        return self.room.receptacles[place]

    def carries_wanted(self) -> bool:
        held = self.world.held
        return held != NOTHING and self.room.object_types[held] == self.goal.thing

    def of_type(self, kind: str, place: int) -> str:
        """A known thing of a type in a receptacle; "" without one."""
        if place not in self.seen:
            return ""
        inside = self.room.objects_in(self.world, place)
        return next((self.name(thing) for thing in inside if self.room.object_types[thing] == kind), "")

    def is_untreated(self) -> bool:
        return bool(self.goal.mark) and (self.goal.mark, self.world.held) not in self.world.marks

    def missing(self) -> str:
        """What is to be found yet."""
        types = [self.room.object_types[thing] for thing in self.known]
        return self.goal.place if self.goal.is_look and self.goal.thing in types else self.goal.thing


def _go(knowledge: _Knowledge, action: Action) -> str:
    place, goal = knowledge.place(action.place), knowledge.goal
    if knowledge.carries_wanted():
        carried = f"I carry {knowledge.name(knowledge.world.held)}"
        if knowledge.is_untreated():
            return f"{carried}, which must be {goal.mark}. {place} does that."
        if lamp := knowledge.of_type(goal.place, action.place):
            return f"{carried}, and {lamp} is at {place}."
        if knowledge.room.receptacle_types[action.place] == goal.place:
            return f"{carried}, which belongs to {place}."
    if thing := knowledge.of_type(goal.thing, action.place):
        return f"I need {goal.thing}, and {thing} is at {place}."
    return f"I have not found {_enough(knowledge)}{knowledge.missing()} yet. It may be at {place}."


def _enough(knowledge: _Knowledge) -> str:
    return "two " if knowledge.goal.count > 1 else ""


def _open(knowledge: _Knowledge, action: Action) -> str:
    place = knowledge.place(action.place)
    if knowledge.carries_wanted() and knowledge.room.receptacle_types[action.place] == knowledge.goal.place:
        return f"{knowledge.name(knowledge.world.held)} belongs to {place}, which is closed."
    if thing := knowledge.of_type(knowledge.goal.thing, action.place):
        return f"{thing} is in {place}, which is closed."
    return f"I have not found {_enough(knowledge)}{knowledge.missing()} yet. {place} is closed."


def _search(knowledge: _Knowledge, action: Action) -> str:
    place = knowledge.place(action.place)
    return f"I have not found {_enough(knowledge)}{knowledge.missing()} yet. I have not looked at {place}."


def _take(knowledge: _Knowledge, action: Action) -> str:
    thing, place = knowledge.name(action.thing), knowledge.place(action.place)
    return f"I need {knowledge.goal.thing}, and {thing} is here at {place}."


def _move(knowledge: _Knowledge, action: Action) -> str:
    if knowledge.carries_wanted():
        return f"{knowledge.name(action.thing)} belongs to {knowledge.place(action.place)}."
    return f"I do not need {knowledge.name(action.thing)}, and must have my hands free."


def _treat(knowledge: _Knowledge, action: Action) -> str:
    mark = TREATMENT_OF[action.verb].mark
    return f"{knowledge.name(action.thing)} must be {mark}. {knowledge.place(action.place)} does that."


def _use(knowledge: _Knowledge, action: Action) -> str:
    state = "is on already" if (TOGGLED, action.thing) in knowledge.world.marks else "must be on"
    return f"{knowledge.name(action.thing)} {state}."


def _other(knowledge: _Knowledge, action: Action) -> str:
    return f"I look for {knowledge.missing()}."


_REASONS: Mapping[str, Callable[[_Knowledge, Action], str]] = {
    "go": _go,
    "open": _open,
    "search": _search,
    "take": _take,
    "move": _move,
    "use": _use,
    **dict.fromkeys(TREATMENT_OF, _treat),
    **dict.fromkeys(("look", "inventory", "help", "close", "slice", "inspect"), _other),
}
