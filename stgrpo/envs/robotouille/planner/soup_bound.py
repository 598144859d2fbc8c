"""What is left to do with water: drawing it, boiling it, serving it. The part of the bound that is about containers.

A pot is filled while it stands on a sink and boils while it stands on a stove; a bowl is filled from a pot in the hand.
Of several meals or pots that may become the soup, each number is that of the one with the least.
"""

from collections.abc import Mapping
from typing import NamedTuple

from stgrpo.envs.robotouille.kitchen.domain import DELAY, PREDICATE
from stgrpo.envs.robotouille.kitchen.kitchen import Goal
from stgrpo.envs.robotouille.planner.state_view import BOIL, FILL, View, Viewer

HELD = -1
"""The station of a container that the robot carries."""


class Soup(NamedTuple):
    """What is left to do with water and its vessels.

    Attributes:
        operations: lifts and puts of containers, and fillings of bowls.
        steps: other steps.
        merges: lifts of a pot that can follow an addition without a move.
        chain: the shortest time it takes.
        bowl: how many of the operations bring a bowl to where it is wanted.
        route: where the pot is taken, if it is known which: "sink", "stove", "serve", or what is left of that.
    """

    operations: int
    steps: int
    merges: int
    chain: int
    bowl: int = 0
    route: tuple[str, ...] = ()


NOTHING = Soup(0, 0, 0, 0)


class Vessels(NamedTuple):
    """What the goal asks of water, and where it can be had.

    Attributes:
        meal: whether it asks for water at all.
        container: the kind of the container the water must be in; "" for any.
        boiling: whether it must boil.
        stations: where the container of kind `placed` must be.
        placed: the kind of the container that must be somewhere; "" for none.
        pots: all pots.
        some: the containers of kind `placed`.
        sinks: all sinks; likewise `stoves`.
    """

    meal: bool
    container: str
    boiling: bool
    stations: frozenset[int]
    placed: str
    pots: tuple[int, ...]
    some: tuple[int, ...]
    sinks: frozenset[int]
    stoves: frozenset[int]


def read_vessels(goal: Goal, viewer: Viewer) -> Vessels:
    """Reads what is asked of water, if it is one meal; of several meals the bound knows nothing."""
    meals = {
        (kind, id_)
        for atom in goal.atoms
        for kind, id_, type_ in zip(atom.kinds, atom.ids, PREDICATE[atom.predicate].types, strict=True)
        if type_ == "meal"
    }
    one = len(meals) == 1
    place = next((a for a in goal.atoms if a.predicate == "container_at"), None) if one else None
    at, placed = (place.kinds[1], place.kinds[0]) if place else ("", "")
    return Vessels(
        meal=one,
        container=next((a.kinds[1] for a in goal.atoms if a.predicate == "in"), "") if one else "",
        boiling=one and any(a.predicate == "isboiling" for a in goal.atoms),
        stations=frozenset(i for i, name in enumerate(viewer.stations) if place and at in name),
        placed=placed,
        pots=tuple(i for i, name in enumerate(viewer.containers) if "pot" in name),
        some=tuple(i for i, name in enumerate(viewer.containers) if place and placed in name),
        sinks=frozenset(i for i, name in enumerate(viewer.stations) if "sink" in name),
        stoves=frozenset(i for i, name in enumerate(viewer.stations) if "stove" in name),
    )


class SoupWork:
    """The soup's part of the bound for one view.

    Args:
        vessels: what is asked.
        view: the state.
        left: for each effect under way, by kind and thing, the ticks it still takes.
    """

    def __init__(self, vessels: Vessels, view: View, left: Mapping[tuple[str, int], int]):
        self._vessels, self._view, self._left = vessels, view, left

    def least(self) -> Soup:
        """Returns the least there is to do."""
        vessels, view = self._vessels, self._view
        if not vessels.meal:
            return NOTHING
        options = [self._of_meal(m) for m, c in enumerate(view.inside) if c >= 0]
        options += [self._of_pot(pot) for pot in vessels.pots if pot not in view.inside]
        options = [option for option in options if option is not None]
        if not options:
            return NOTHING
        return Soup(
            min(o.operations for o in options),
            min(o.steps for o in options),
            max(o.merges for o in options),
            min(o.chain for o in options),
            max(o.bowl for o in options),
            options[0].route if len(options) == len(vessels.pots) == 1 else (),
        )

    def _of_pot(self, pot: int) -> Soup:
        """Water has yet to be drawn into this pot."""
        stands, left = self._view.stands[pot], self._left.get((FILL, pot))
        operations, steps, chain = 0, int(left is None), DELAY if left is None else left
        route: tuple[str, ...] = ()
        if stands in self._vessels.sinks:
            steps += left is None
        else:
            route = ("sink",)
            operations = 1 if stands == HELD else 2
            chain += operations if left is None else 0
        if self._vessels.boiling:
            operations, steps, chain = operations + 2, steps + 1, chain + 3 + DELAY
            route = (*route, "stove")
        return self._serve(Soup(operations, steps, 2 if self._vessels.boiling else 1, chain, route=route))

    def _of_meal(self, meal: int) -> Soup | None:
        """Water that is there already."""
        vessels, view = self._vessels, self._view
        vessel = view.inside[meal]
        boil = vessels.boiling and not view.boiling >> meal & 1
        if boil and (BOIL, meal) in self._left:
            return self._interrupted(meal, vessel)
        if vessel not in vessels.pots:
            return None if boil else self._bring(Soup(0, 0, 0, 0), vessel)
        stands = view.stands[vessel]
        if not boil:
            if vessels.container == "bowl":
                operations = 1 if stands == HELD else 2
                return self._bring(Soup(operations, 0, int(stands != HELD), operations, route=("serve",)))
            return NOTHING
        if stands in vessels.stoves:
            return self._serve(Soup(0, 2, 2, DELAY))
        operations = 1 if stands == HELD else 2
        return self._serve(Soup(operations, 1, operations + 1, DELAY + operations, route=("stove",)))

    def _interrupted(self, meal: int, vessel: int) -> Soup:
        """Water that was set to boil: it goes on as long as that pot is on that stove, even when served already."""
        vessels, view = self._vessels, self._view
        timers = [t for t in view.timers if t.kind == BOIL and t.thing == meal]
        back = min(0 if t.runs(view) else 1 if view.stands[t.vessel] == HELD else 2 for t in timers)
        chain = self._left[BOIL, meal]
        if vessel not in vessels.pots:
            return self._bring(Soup(back, 0, 0, chain), vessel)
        if vessels.container != "bowl":
            return self._bring(Soup(0, 0, 0, chain))
        serve = 1 if view.stands[vessel] == HELD else 2
        # Either it boils first and is served then, or it is served now and the pot put back.
        return self._bring(Soup(min(back + 2, serve + 1), 0, 3, chain))

    def _serve(self, soup: Soup) -> Soup:
        """Adds what it takes to fill a bowl, if one is wanted, and to have it in its place."""
        if self._vessels.container != "bowl":
            return self._bring(soup)
        route = (*soup.route, "serve")
        return self._bring(soup._replace(operations=soup.operations + 2, chain=soup.chain + 3, route=route))

    def _bring(self, soup: Soup, vessel: int = -1) -> Soup:
        """Adds what brings the bowl to its place."""
        bowl = self._bowl(vessel)
        return soup._replace(operations=soup.operations + bowl, bowl=bowl)

    def _bowl(self, vessel: int = -1) -> int:
        """Returns the manipulations that bring a bowl to where it is wanted: this vessel, or the nearest there is."""
        vessels, view = self._vessels, self._view
        if not vessels.placed:
            return 0
        stands = [view.stands[i] for i in ([vessel] if vessel >= 0 else vessels.some)]
        return min((0 if s in vessels.stations else 1 if s == HELD else 2 for s in stands), default=0)
