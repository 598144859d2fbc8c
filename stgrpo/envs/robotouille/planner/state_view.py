"""A planner's view of a state: objects by index, stacks as tuples, and what is under way.

The engine's bits are exact but flat; bounds and symmetries need to know which item lies on which.
"""

import re
from typing import NamedTuple

from stgrpo.envs.robotouille.kitchen.domain import CUTS, DELAY
from stgrpo.envs.robotouille.kitchen.engine import State
from stgrpo.envs.robotouille.kitchen.grounding import Grounding

CUT, COOK, FRY, FILL, BOIL = "cut", "cook", "fry", "fill", "boil"
_RESULTS = {"iscut": CUT, "iscooked": COOK, "isfried": FRY, "iswater": FILL, "isboiling": BOIL}
_EFFECT = re.compile(r"(\w+) (\S*)\s.*?(?P<result>iscut|iscooked|isfried|iswater|isboiling)\(")
_PLACE = re.compile(r"(item_on|container_at)\((\w+),(\w+)\)")


class Timer(NamedTuple):
    """A lasting effect under way.

    Attributes:
        kind: what is being done.
        thing: the item, the container that is filled, or the meal that is boiled.
        station: where; -1 for cuts, which are done anywhere.
        left: cuts or ticks until it completes.
        vessel: the container that must stand there, -1 if it is an item. Water boils as long as the pot in which it was
            set to boil stands on its stove, wherever the water is.
    """

    kind: str
    thing: int
    station: int
    left: int
    vessel: int = -1

    def runs(self, view: "View") -> bool:
        """Says whether time brings it nearer to its end."""
        if self.station < 0:
            return False
        if self.vessel >= 0:
            return view.stands[self.vessel] == self.station
        stack = view.stacks[self.station]
        return bool(stack) and stack[0] == self.thing


class View(NamedTuple):
    """One state, by indices into the grounding's lists of items, stations, containers and meals.

    Attributes:
        robot: the station at which the robot is.
        held: the item in its hand or -1.
        carried: the container in its hand or -1.
        stacks: the items of each station from bottom to top.
        stands: the station at which each container is, -1 if held.
        inside: the container that each meal is in, -1 for meals that do not exist.
        added: the items added to each meal, as bits.
        boiling: the meals that boil, as bits.
        cut: the items that are cut, as bits; likewise `cooked`, `fried`.
        timers: what is under way, in the engine's order.
    """

    robot: int
    held: int
    carried: int
    stacks: tuple[tuple[int, ...], ...]
    stands: tuple[int, ...]
    inside: tuple[int, ...]
    added: tuple[int, ...]
    boiling: int
    cut: int
    cooked: int
    fried: int
    timers: tuple[Timer, ...]


class Viewer:
    """Makes views of one kitchen's states."""

    def __init__(self, grounding: Grounding):
        objects = grounding.objects
        self.items, self.stations = objects["item"], objects["station"]
        self.containers, self.meals = objects["container"], objects["meal"]
        self.index = {name: i for names in objects.values() for i, name in enumerate(names)}
        self._atoms = [self._by_index(name, args) for name, args in grounding.atoms]
        seen = ("loc", "has_item", "has_container", "item_on", "atop", "container_at", "in", "addedto", "isboiling")
        seen = {*seen, "iscut", "iscooked", "isfried"}
        self._mask = sum(bit for (name, _), bit in grounding.bits.items() if name in seen)
        self._fixed = {  # an item may be cut, cooked or fried from the start without the kitchen ever changing it
            quality: sum(1 << self.index[args[0]] for name, args in grounding.static if name == quality)
            for quality in ("iscut", "iscooked", "isfried")
        }
        self._effects: dict[str, Timer | None] = {}

    def _by_index(self, name: str, args: tuple[str, ...]) -> tuple[str, int, int]:
        """Returns an atom with its one or two arguments as indices, -1 for no second."""
        first, *rest = (self.index[arg] for arg in args)
        return name, first, rest[0] if rest else -1

    def view(self, state: State) -> View:
        """Returns the view of a state."""
        robot = held = carried = -1
        bottom: dict[int, int] = {}
        above: dict[int, int] = {}
        stands, inside = [-1] * len(self.containers), [-1] * len(self.meals)
        added, boiling, qualities = [0] * len(self.meals), 0, dict(self._fixed)
        facts, atoms = state.facts & self._mask, self._atoms
        while facts:
            low = facts & -facts
            facts ^= low
            name, first, second = atoms[low.bit_length() - 1]
            if name == "item_on":
                bottom[second] = first
            elif name == "atop":
                above[second] = first
            elif name == "loc":
                robot = second
            elif name == "has_item":
                held = second
            elif name == "has_container":
                carried = second
            elif name == "container_at":
                stands[first] = second
            elif name == "in":
                inside[first] = second
            elif name == "addedto":
                added[second] |= 1 << first
            elif name == "isboiling":
                boiling |= 1 << first
            else:
                qualities[name] |= 1 << first
        stacks: list[tuple[int, ...]] = []
        for station in range(len(self.stations)):
            if station not in bottom:
                stacks.append(())
                continue
            stack = [bottom[station]]
            while stack[-1] in above:
                stack.append(above[stack[-1]])
            stacks.append(tuple(stack))
        timers = []
        for pending in state.pending:
            timer = self._timer(pending.effect)
            if timer is not None:
                timers.append(timer._replace(left=timer.left - pending.count))
        return View(
            robot,
            held,
            carried,
            tuple(stacks),
            tuple(stands),
            tuple(inside),
            tuple(added),
            boiling,
            qualities["iscut"],
            qualities["iscooked"],
            qualities["isfried"],
            tuple(timers),
        )

    def _timer(self, effect: str) -> Timer | None:
        """Reads an effect's name; None for the one that makes what is cut fryable, which has no duration."""
        if effect not in self._effects:
            match = _EFFECT.match(effect)
            self._effects[effect] = None
            if match is not None:
                kind = _RESULTS[match["result"]]
                place = _PLACE.match(match[2])
                station = self.index[place[3]] if place else -1
                vessel = self.index[place[2]] if place and place[1] == "container_at" else -1
                duration = CUTS if kind == CUT else DELAY
                self._effects[effect] = Timer(kind, self.index[match[1]], station, duration, vessel)
        return self._effects[effect]
