"""A kitchen read back from the text of its observation, so that any stored episode can be drawn."""

import dataclasses
import re

_HEADER = re.compile(r"^(Station|Item|Player|Container|Meal) (\w+):$")
_FACT = re.compile(r"^(\w+) is (directly on top of|at|holding|inside of|added to) (\w+)$")
_MARK = re.compile(r"^(\w+) is (cooked|cooking|cut|fried|boiling)$")


@dataclasses.dataclass(frozen=True)
class Thing:
    """An item or container: its name, its kind ("patty"), what was done to it ("cooked"), what is in it."""

    name: str
    marks: tuple[str, ...] = ()
    contents: tuple[str, ...] = ()

    @property
    def kind(self) -> str:
        """The name without its number."""
        return self.name.rstrip("0123456789")


@dataclasses.dataclass(frozen=True)
class Station:
    """A station and what stands on it, lowest first."""

    name: str
    stack: tuple[Thing, ...] = ()

    @property
    def kind(self) -> str:
        """The name without its number."""
        return self.name.rstrip("0123456789")


@dataclasses.dataclass(frozen=True)
class Robot:
    """A player: where it stands and what it holds."""

    name: str
    station: str
    held: Thing | None = None


@dataclasses.dataclass(frozen=True)
class KitchenView:
    """What an observation shows."""

    stations: tuple[Station, ...]
    robots: tuple[Robot, ...]
    goal: str = ""


class _Facts:
    """The relations that the lines of an observation state."""

    def __init__(self, text: str) -> None:
        self.names: dict[str, list[str]] = {kind: [] for kind in ("Station", "Item", "Player", "Container", "Meal")}
        self.at: dict[str, str] = {}
        self.above: dict[str, str] = {}
        self.held: dict[str, str] = {}
        self.inside: dict[str, list[str]] = {}
        self.marks: dict[str, list[str]] = {}
        for line in text.splitlines():
            self._read(line)

    def _read(self, line: str) -> None:
        if header := _HEADER.match(line):
            self.names[header[1]].append(header[2])
        elif mark := _MARK.match(line):
            _append(self.marks, mark[1], mark[2])
        elif fact := _FACT.match(line):
            self._relate(*fact.groups())

    def _relate(self, subject: str, relation: str, other: str) -> None:
        if relation == "directly on top of":
            self.above[other] = subject
        elif relation == "at":
            self.at[subject] = other
        elif relation == "holding" and other != "nothing":
            self.held[subject] = other
        elif relation in ("inside of", "added to"):
            _append(self.inside, other, subject)

    def thing(self, name: str) -> Thing:
        contents = [part for meal in self.inside.get(name, ()) for part in (meal, *self.inside.get(meal, ()))]
        marks = [mark for owner in (name, *self.inside.get(name, ())) for mark in self.marks.get(owner, ())]
        return Thing(name, tuple(marks), tuple(contents))

    def stack(self, station: str) -> tuple[Thing, ...]:
        stack, seen, top = [], {station}, self.above.get(station)
        while top is not None and top not in seen:  # a damaged text could go round in a circle
            stack.append(self.thing(top))
            seen.add(top)
            top = self.above.get(top)
        on_it = [c for c in self.names["Container"] if self.at.get(c) == station and c not in seen]
        return tuple(stack) + tuple(self.thing(container) for container in on_it)


def _append(lists: dict[str, list[str]], key: str, value: str) -> None:
    values = lists.setdefault(key, [])
    if value not in values:  # each fact stands in the block of both its objects
        values.append(value)


def read_observation(observation: str) -> KitchenView | None:
    """Reads an observation of the Robotouille family; None for the text of another environment."""
    body, _, tail = observation.partition("\nValid Actions:\n")
    facts = _Facts(body)
    if not facts.names["Station"]:
        return None
    stations = tuple(Station(name, facts.stack(name)) for name in facts.names["Station"])
    held = {player: facts.thing(name) for player, name in facts.held.items()}
    robots = tuple(Robot(name, facts.at.get(name, ""), held.get(name)) for name in facts.names["Player"])
    return KitchenView(stations, robots, tail.rpartition("Goal: ")[2].strip())
