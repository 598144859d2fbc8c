"""What a goal asks of the places of items, and a lower bound on the manipulations that bring it about.

A manipulation takes one item from the top of a stack or puts the held one down. For a goal whose variables are bound to
objects, the bound counts items that must be lifted (set M below) and items that must be lifted twice (set D):

    n >= 2 |M| + 2 |D| + (1 if something is held) - (1 if the last manipulation may be a lift)

M. A wanted place that is not yet so comes about only by putting the item there: the item must be lifted (if it is not
   held), and so must all above it, all above the item it goes on, and, where it is to be at the bottom of a station,
   all at that station. If y must end up somewhere below x and y is still to be put down, x is put down after y, so it
   must be lifted too.
D. Let x be put down for the last time after y has been (y ends below x). If y must be lifted and x is above it now,
   x is lifted before y and, since one hand holds one thing, put down before y is lifted: x is lifted twice. A held x
   must likewise be put down before y is lifted. The same holds for z above the spot where x must go, when z ends
   above x, and for x itself when it is above something that must leave that spot.

The last manipulation is a lift only if it uncovers an item that has to be clear and never moves itself. A held item
costs one put. Each count is of different lifts and puts, so the sum is a lower bound for this binding; the minimum over
all bindings is one for the goal. Bindings are enumerated literal by literal, and left as soon as their partial sum,
which only grows, reaches the best complete one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from stgrpo.envs.robotouille.kitchen.kitchen import Goal
from stgrpo.errors import UserError

UNREACHABLE = 1 << 20
PLACES = ("item_on", "atop", "item_at", "clear")
Variable = tuple[str, str]


class Config(NamedTuple):
    """Where the items are: the held one or -1, and each station's stack from bottom to top, as indices."""

    held: int
    stacks: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Wanted:
    """A required place: a predicate over an item and, but for `clear`, what it is on or at (indices of variables)."""

    predicate: str
    item: int
    support: int = -1


@dataclass(frozen=True)
class Requirements:
    """The goal over variables, each with its kind and type.

    Attributes:
        variables: the variables, items and stations alike.
        wanted: the required places, so ordered that chains are bound from the bottom.
        below: pairs (y, x) of item variables such that y ends up somewhere below x; the lower pairs first.
        qualities: for each variable, the unary predicates that must hold of it.
    """

    variables: tuple[Variable, ...]
    wanted: tuple[Wanted, ...]
    below: tuple[tuple[int, int], ...]
    qualities: tuple[frozenset[str], ...]

    @property
    def may_end_with_lift(self) -> bool:
        """Whether the goal can come true by lifting something."""
        return any(wanted.predicate == "clear" for wanted in self.wanted)


def compile_requirements(goal: Goal, qualities: Sequence[str]) -> Requirements:
    """Reads a goal made of places and of unary `qualities`.

    Raises:
        UserError: the goal has another predicate.
    """
    variables: list[Variable] = []
    for atom in goal.atoms:
        variables += [key for key in zip(atom.kinds, atom.ids, strict=True) if key not in variables]
    wanted, demanded = [], [set() for _ in variables]
    for atom in goal.atoms:
        places = [variables.index(key) for key in zip(atom.kinds, atom.ids, strict=True)]
        if atom.predicate in PLACES:
            wanted.append(Wanted(atom.predicate, *places))
        elif atom.predicate in qualities:
            demanded[places[0]].add(atom.predicate)
        else:
            raise UserError(
                f"planner: goals with {atom.predicate!r} are not planned; use {', '.join((*PLACES, *qualities))}"
            )
    below = _below(wanted)
    depth = {x: sum(1 for _, above in below if above == x) for x in range(len(variables))}
    wanted.sort(key=lambda w: (PLACES.index(w.predicate), depth[w.item]))
    pairs = tuple(sorted(below, key=lambda pair: (depth[pair[1]], depth[pair[0]])))
    return Requirements(tuple(variables), tuple(wanted), pairs, tuple(map(frozenset, demanded)))


def _below(wanted: Sequence[Wanted]) -> set[tuple[int, int]]:
    """Which item must end up below which: along `atop`, above a bottom, under one that is clear; transitively."""
    at = {(w.item, w.support) for w in wanted if w.predicate in ("item_on", "item_at")}
    clear = {w.item for w in wanted if w.predicate == "clear"}
    below = {(w.support, w.item) for w in wanted if w.predicate == "atop"}
    for bottom in (w for w in wanted if w.predicate == "item_on"):
        below |= {(bottom.item, x) for x, station in at if station == bottom.support and x != bottom.item}
    below |= {(y, x) for x, station in at if x in clear for y, other in at if other == station and y != x}
    while True:
        more = {(a, d) for a, b in below for c, d in below if b == c and a != d} - below
        if not more:
            return below
        below |= more


class Places(NamedTuple):
    """The masks of one configuration: items above and beneath each item, those of each station, and direct supports.

    `station` is that of each item, -1 for those at none.
    """

    held: int
    above: list[int]
    beneath: list[int]
    stack: list[int]
    support: list[int]
    bottom: list[int]
    station: list[int]

    def manipulations(self, lifted: int, twice: int) -> int:
        """Returns the manipulations for these sets."""
        return 2 * (lifted.bit_count() + twice.bit_count()) + (self.held >= 0)


def places_of(config: Config, items: int) -> Places:
    """Returns the masks of a configuration of so many items."""
    above, beneath, support, station = [0] * items, [0] * items, [-1] * items, [-1] * items
    stack, bottom = [], []
    for index, pile in enumerate(config.stacks):
        mask, below = 0, -1
        for item in pile:
            beneath[item], support[item], station[item] = mask, below, index
            mask |= 1 << item
            below = item
        for item in pile:
            above[item] = mask & ~beneath[item] & ~(1 << item)
        stack.append(mask)
        bottom.append(pile[0] if pile else -1)
    return Places(config.held, above, beneath, stack, support, bottom, station)


def spots_of(wanted: Sequence[Wanted], layout: Places, bound: Mapping[int, int]) -> dict[int, int]:
    """For each item variable whose place is still to be made: the items now where it must go."""
    spots: dict[int, int] = {}
    for place in wanted:
        if place.predicate == "clear":
            continue
        item, support = bound[place.item], bound[place.support]
        if place.predicate == "atop":
            mask = 0 if layout.support[item] == support else layout.above[support]
        elif place.predicate == "item_on":
            mask = 0 if layout.bottom[support] == item else layout.stack[support]
        else:
            mask = 0 if layout.stack[support] >> item & 1 else layout.stack[support]
        spots[place.item] = spots.get(place.item, 0) | mask
    return spots


class ManipulationBound:
    """The lower bound of this module for one kitchen.

    Args:
        requirements: the goal.
        candidates: for each variable, the indices (of items or stations) it may stand for.
        items: the number of items.
        to_cook: items that have to be cooked before they count, as bits. If there are any, only bindings that use
            one of them are looked at.
        stoves: the indices of the stoves.

    An item to cook has to stand alone on a stove before it is put where it is wanted: if it is elsewhere it is lifted
    twice, and if it is held it is put down once more; what is above it on the stove is lifted.
    """

    def __init__(
        self,
        requirements: Requirements,
        candidates: Sequence[Sequence[int]],
        items: int,
        *,
        to_cook: int = 0,
        stoves: frozenset[int] = frozenset(),
    ):
        self._requirements, self._candidates, self.items = requirements, candidates, items
        self._to_cook, self._stoves = to_cook, stoves
        self.may_end_with_lift = requirements.may_end_with_lift
        self.steps = self._plan_steps()
        self.rivals = [
            [u for u, other in enumerate(requirements.variables) if other[0] == kind and u != v]
            for v, (kind, _) in enumerate(requirements.variables)
        ]
        self._supports = {w.support for w in requirements.wanted if w.predicate in ("item_on", "item_at")}

    def _plan_steps(self) -> list[tuple[Wanted, tuple[int, ...]]]:
        """Each required place with the variables that are bound when it is looked at."""
        bound: set[int] = set()
        steps = []
        for wanted in self._requirements.wanted:
            mentioned = (wanted.item,) if wanted.support < 0 else (wanted.item, wanted.support)
            steps.append((wanted, tuple(v for v in mentioned if v not in bound)))
            bound.update(mentioned)
        return steps

    def __call__(self, config: Config, floor: int = 0) -> int:
        """Returns the bound, `UNREACHABLE` if no objects can meet the goal. Not meant for configs that meet it.

        A `floor` is a bound the caller knows already: the search ends as soon as it can give no more than that.
        """
        search = _Search(self, config, floor)
        search.descend(0, {}, 0, 0)
        return max(search.best, floor)

    def candidates(self, config: Config) -> list[Sequence[int]]:
        """For each variable what it may stand for; of empty stations only as many as there are station variables.

        Any further one could be exchanged for one of them without a change of the bound.
        """
        choices = list(self._candidates)
        for variable in self._supports:
            empty = [s for s in choices[variable] if not config.stacks[s]][len(self._supports) :]
            choices[variable] = [s for s in choices[variable] if s not in empty]
        return choices

    def place(self, layout: Places, wanted: Wanted, bound: Mapping[int, int]) -> tuple[int, int]:
        """Returns the sets M and D that one required place gives rise to."""
        item = bound[wanted.item]
        lifted, twice = self._cook(layout, item) if self._to_cook >> item & 1 else (0, 0)
        if wanted.predicate == "clear":
            return lifted | layout.above[item], twice
        support = bound[wanted.support]
        if wanted.predicate == "atop":
            met, in_the_way = layout.support[item] == support, layout.above[support]
        elif wanted.predicate == "item_on":
            met, in_the_way = layout.bottom[support] == item, layout.stack[support]
        else:
            met, in_the_way = bool(layout.stack[support] >> item & 1), 0
        if met:
            return lifted, twice
        if item == layout.held:
            return lifted | in_the_way, twice | (1 << item if in_the_way else 0)
        return lifted | 1 << item | layout.above[item] | in_the_way, twice | 1 << item & in_the_way

    def _cook(self, layout: Places, item: int) -> tuple[int, int]:
        if item == layout.held:
            return 0, 1 << item
        lifted = 1 << item | layout.above[item]
        on_stove = any(layout.bottom[stove] == item for stove in self._stoves)
        return lifted, 0 if on_stove else 1 << item

    def total(self, layout: Places, bound: Mapping[int, int], lifted: int, twice: int) -> int:
        """Returns the bound of a complete binding; `UNREACHABLE` if nothing in it is to be cooked but should be."""
        if self._to_cook and not any(self._to_cook >> bound[step.item] & 1 for step, _ in self.steps):
            return UNREACHABLE
        held = 1 << layout.held if layout.held >= 0 else 0
        spots = spots_of(self._requirements.wanted, layout, bound)
        for _ in range(2):
            for low, high in self._requirements.below:
                y, x = bound[low], bound[high]
                if not (lifted | held) >> y & 1:
                    continue
                if x != layout.held:
                    lifted |= 1 << x | layout.above[x]
                if lifted >> y & 1 and (x == layout.held or layout.beneath[x] >> y & 1):
                    twice |= 1 << x
                if spots.get(low, 0) >> x & 1:
                    twice |= 1 << x
        total = layout.manipulations(lifted, twice)
        for wanted in self._requirements.wanted:
            if wanted.predicate == "clear":
                item = bound[wanted.item]
                if layout.above[item] and not lifted >> item & 1:
                    return total - 1
        return total


class _Search:
    """Branch and bound over the bindings of one configuration."""

    def __init__(self, bound: ManipulationBound, config: Config, floor: int):
        self._bound, self._floor = bound, floor
        self._places = places_of(config, bound.items)
        self._candidates = bound.candidates(config)
        self.best = UNREACHABLE

    def descend(self, index: int, bound: dict[int, int], lifted: int, twice: int) -> None:
        """Binds the variables of the required places from `index` on, the cheapest first."""
        steps = self._bound.steps
        if index == len(steps):
            self.best = min(self.best, self._bound.total(self._places, bound, lifted, twice))
            return
        wanted, new = steps[index]
        options = []
        for number, binding in enumerate(self._bindings(new, bound)):
            more_lifted, more_twice = self._bound.place(self._places, wanted, binding)
            more_lifted, more_twice = lifted | more_lifted, twice | more_twice
            cost = self._places.manipulations(more_lifted, more_twice)
            options.append((cost, number, more_lifted, more_twice, binding))
        options.sort()
        for cost, _, more_lifted, more_twice, binding in options:
            if cost - self._bound.may_end_with_lift >= self.best or self.best <= self._floor:
                return
            self.descend(index + 1, binding, more_lifted, more_twice)

    def _bindings(self, new: tuple[int, ...], bound: dict[int, int]) -> list[dict[int, int]]:
        bindings = [bound]
        for variable in new:
            rivals = self._bound.rivals[variable]
            bindings = [
                {**binding, variable: value}
                for binding in bindings
                for value in self._candidates[variable]
                if not any(binding.get(rival) == value for rival in rivals)
            ]
        return bindings
