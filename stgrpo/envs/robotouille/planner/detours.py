"""Transfers that wait for each other in a circle: something must be put aside once more.

Let every object be lifted exactly as often as counted. Then each of its lifts goes with the put that follows, for one
hand holds one thing: a transfer. Where it leads is known if the processes and the final place account for the number.
Some transfers must come before others:

- what lies above an object is transferred before it is first; what is in the hand is put down before all else;
- what ends up below an object has its last transfer before the object has its last;
- what is at a station now is first transferred before anything is put there to be processed, to stand at the bottom, or
  to stay (what is put on top of it would have to be lifted again); likewise before a pot is put on a sink or stove;
- water is drawn before anything is added to it, and served after.

If these form a circle, no plan lifts each of its objects just as often as counted: one is lifted and put down once
more. Circles that have no object in common need one such each.

Where a process has several stations and none of them is free, one has to be cleared; each choice is counted, and the
least is the bound. If two of them are cleared, nothing is said of what is put on which.
"""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations, product
from typing import NamedTuple

from stgrpo.envs.robotouille.planner.goal_bindings import STATIONS, TO_CUT, TO_FRY, GoalBindings
from stgrpo.envs.robotouille.planner.requirements import Places
from stgrpo.envs.robotouille.planner.soup_bound import HELD, Soup
from stgrpo.envs.robotouille.planner.state_view import View

_MOST_CHOICES = 12


class Errand(NamedTuple):
    """An item that needs processes.

    Attributes:
        item: the item.
        elsewhere: those that it needs at another station than where it is, as bits.
        here: the one that it can have where it is, or 0.
        leaves: 1 if it leaves the last of their stations, else 0.
    """

    item: int
    elsewhere: int
    here: int
    leaves: int


class Clearing(NamedTuple):
    """Stations that are cleared, as the items and containers on them, in bits.

    `before` has, for each kind of station, those after which anything can be put there.
    """

    items: int
    containers: int
    before: Mapping[str, tuple[int, int]]


class Lifts(NamedTuple):
    """The items lifted at least once, twice, three times, as bits."""

    once: int
    twice: int
    thrice: int

    def of(self, item: int) -> int:
        """Returns how often an item is lifted at least."""
        return (self.once >> item & 1) + (self.twice >> item & 1) + (self.thrice >> item & 1)


class Transfers:
    """The transfers in one view.

    A node is three times the number of the object plus 0 for its first transfer, 2 for its last if that is another one,
    1 for one between them. After the items comes the pot, whose transfers are those of its route.
    """

    def __init__(self, asked: GoalBindings, view: View, where: Places, soup: Soup):
        self._asked, self._view, self._where, self._soup = asked, view, where, soup
        self._held = 1 << view.held if view.held >= 0 else 0
        self._pot = asked.vessels.pots[0] if soup.route else -1
        self._pot_nodes = {place: 3 * asked.items + n for n, place in enumerate(soup.route)}
        self._contents = [0] * len(view.stacks)
        for container, station in enumerate(view.stands):
            if station != HELD:
                self._contents[station] |= 1 << container

    def clearings(self, errands: Sequence[Errand]) -> list[Clearing]:
        """Returns the ways to clear stations of which one is necessary."""
        options = []
        for kind, stations in self._asked.of_kind.items():
            users = [e.item for e in errands if any(e.elsewhere & p and name == kind for p, name in STATIONS.items())]
            users += [-1] if kind in self._soup.route else []
            if users and stations:
                only = users[0] if len(users) == 1 else None
                options.append(self._options(kind, stations, only, len(users)))
        options = [option for option in options if option]
        while _count(options) > _MOST_CHOICES:
            options.remove(max(options, key=len))
        return [_join(choice) for choice in product(*options)]

    def _options(self, kind: str, stations: Sequence[int], only: int | None, users: int) -> list[Clearing]:
        single = []
        for station in stations:
            items, containers = self._where.stack[station], self._contents[station]
            if only is not None and only >= 0:
                items &= ~(1 << only)
            if only == -1 and self._pot >= 0:
                containers &= ~(1 << self._pot)
            if not (items or containers):
                return []
            single.append(Clearing(items, containers, {kind: (items, containers)}))
        if users == 1:
            return single
        both = [Clearing(a.items | b.items, a.containers | b.containers, {}) for a, b in combinations(single, 2)]
        return single + both

    def circles(
        self, bound: Mapping[int, int], lifts: Lifts, errands: Sequence[Errand], clearing: Clearing
    ) -> list[set[int]]:
        """Returns the objects of circles that have none in common, if every item is lifted just so often."""
        items = self._asked.items
        self._lifts, moving = lifts, lifts.once | self._held
        before = {}
        for item in range(items):
            if moving >> item & 1:
                before[3 * item] = 0
                before[self._last(item)] = 1 << 3 * item if self._last(item) != 3 * item else 0
        for number, node in enumerate(self._pot_nodes.values()):
            before[node] = 1 << node - 1 if number else 0
        self._stacked(before)
        self._placed(before, bound, moving)
        self._processed(before, errands, clearing)
        self._souped(before, bound, moving, clearing)
        start = 3 * self._view.held if self._view.held >= 0 else -1
        if self._pot >= 0 and self._view.stands[self._pot] == HELD:
            start = 3 * items
        if start >= 0:
            for node in before:
                before[node] |= 1 << start if node != start else 0
        return _circles(before)

    def _last(self, item: int) -> int:
        once, twice, _ = self._lifts
        again = twice if item != self._view.held else once
        return 3 * item + 2 if again >> item & 1 else 3 * item

    def _firsts(self, items: int, containers: int = 0) -> int:
        """Returns the nodes of the first transfers of these."""
        nodes, items = 0, items & (self._lifts.once | self._held)
        while items:
            low = items & -items
            items ^= low
            nodes |= 1 << 3 * (low.bit_length() - 1)
        if self._pot >= 0 and containers >> self._pot & 1:
            nodes |= 1 << 3 * self._asked.items
        return nodes

    def _stacked(self, before: dict[int, int]) -> None:
        for stack in self._view.stacks:
            for lower, upper in itertools.pairwise(stack):
                if 3 * lower in before:
                    before[3 * lower] |= 1 << 3 * upper

    def _placed(self, before: dict[int, int], bound: Mapping[int, int], moving: int) -> None:
        for low, high in self._asked.below:
            y, x = bound[low], bound[high]
            if moving >> y & 1 and moving >> x & 1:
                before[self._last(x)] |= 1 << self._last(y)
        for place in self._asked.wanted:
            x = bound[place.item]
            if place.predicate == "clear" or not moving >> x & 1:
                continue
            support, containers = bound[place.support], 0
            if place.predicate == "atop":
                items = self._where.above[support]
            else:
                items, containers = self._where.stack[support], self._contents[support]
            before[self._last(x)] |= self._firsts(items & ~(1 << x), containers)

    def _processed(self, before: dict[int, int], errands: Sequence[Errand], clearing: Clearing) -> None:
        for x, elsewhere, _, leaves in errands:
            if 3 * x not in before:
                continue
            puts = self._lifts.of(x) + (self._held >> x & 1)
            nodes = [self._last(x)] * 2
            if puts == elsewhere.bit_count() + leaves:
                if puts - leaves == 1:
                    nodes = [3 * x] * 2
                elif elsewhere == TO_CUT | TO_FRY and not self._asked.fryable(x, self._view):
                    nodes = [3 * x, 3 * x + 1 if leaves else self._last(x)]
                    if leaves:
                        before[3 * x + 1] = 1 << 3 * x
                        before[self._last(x)] |= 1 << 3 * x + 1
            processes = [p for p in STATIONS if elsewhere & p]
            for process in processes:
                items, containers = clearing.before.get(STATIONS[process], (0, 0))
                node = nodes[0] if process != TO_FRY or len(processes) == 1 else nodes[1]
                before[node] |= self._firsts(items & ~(1 << x), containers)

    def _souped(self, before: dict[int, int], bound: Mapping[int, int], moving: int, clearing: Clearing) -> None:
        for place, node in self._pot_nodes.items():
            items, containers = clearing.before.get(place, (0, 0))
            before[node] |= self._firsts(items, containers & ~(1 << self._pot))
        drawn, served = self._pot_nodes.get("sink"), self._pot_nodes.get("serve")
        for v in self._asked.added:
            x = bound[v]
            if moving >> x & 1:
                if drawn is not None:
                    before[self._last(x)] |= 1 << drawn
                if served is not None:
                    before[served] |= 1 << self._last(x)


def _join(choice: Iterable[Clearing]) -> Clearing:
    items, containers, before = 0, 0, {}
    for part in choice:
        items, containers = items | part.items, containers | part.containers
        before.update(part.before)
    return Clearing(items, containers, before)


def _count(options: Sequence[Sequence[Clearing]]) -> int:
    number = 1
    for some in options:
        number *= len(some)
    return number


def _circles(before: Mapping[int, int]) -> list[set[int]]:
    """Finds circles without a common object among nodes, each with those that must come before it, as bits."""
    found = []
    left = sum(1 << node for node in before)
    while True:
        free = -1
        while free:
            free = sum(1 << node for node, others in before.items() if left >> node & 1 and not others & left)
            left &= ~free
        if not left:
            return found
        node, path = (left & -left).bit_length() - 1, []
        while node not in path:
            path.append(node)
            waits = before[node] & left
            node = (waits & -waits).bit_length() - 1
        objects = {n // 3 for n in path[path.index(node) :]}
        found.append(objects)
        left = sum(1 << n for n in before if left >> n & 1 and n // 3 not in objects)
