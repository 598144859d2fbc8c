"""What one binding of the goal's variables still asks to be done in one state. See `work.py` for why it is a bound."""

from collections.abc import Iterable
from typing import NamedTuple

from stgrpo.envs.robotouille.kitchen.domain import CUTS, DELAY
from stgrpo.envs.robotouille.planner.detours import Clearing, Errand, Lifts, Transfers
from stgrpo.envs.robotouille.planner.goal_bindings import STATIONS, TO_COOK, TO_CUT, TO_FRY, GoalBindings, Requirement
from stgrpo.envs.robotouille.planner.requirements import Config, places_of, spots_of
from stgrpo.envs.robotouille.planner.soup_bound import SoupWork
from stgrpo.envs.robotouille.planner.state_view import COOK, CUT, FRY, View

Binding = dict[int, int]
"""For variables of the goal, by index, the items and stations they stand for."""
_TIMED = ((TO_COOK, COOK), (TO_FRY, FRY))


class Sums(NamedTuple):
    """The items lifted at least once, twice, three times, as bits, and the number of further steps."""

    once: int
    twice: int
    thrice: int
    steps: int

    @property
    def cost(self) -> int:
        """The steps they take: each lift goes with a put and two moves."""
        return 4 * (self.once.bit_count() + self.twice.bit_count() + self.thrice.bit_count()) + self.steps


NO_SUMS = Sums(0, 0, 0, 0)


class RemainingWork:
    """The work left in one view, binding by binding.

    Attributes:
        asked: the goal.
        held: the item in the hand as a bit, 0 if there is none.
        gone: the items in a pot, as bits.
        where: where the other items are.
        soup: what is left to do with water.
        base: the steps that any binding takes beside its sums; negative if more is saved.
        slack: the steps that a plan may save that ends with a lift.
    """

    def __init__(self, asked: GoalBindings, view: View, *, moved: bool):
        self.asked, self._view, self._moved = asked, view, moved
        self.held = 1 << view.held if view.held >= 0 else 0
        self.where = places_of(Config(view.held, view.stacks), asked.items)
        self.gone = 0
        for mask in view.added:
            self.gone |= mask
        self._processes: dict[tuple[int, int, int], tuple[int, int, int]] = {}
        self._left: dict[tuple[str, int], int] = {}
        self._active: set[tuple[str, int]] = set()
        interrupted = 0
        for timer in view.timers:
            key = timer.kind, timer.thing
            self._left[key] = min(timer.left, self._left.get(key, timer.left))
            if timer.runs(view):
                self._active.add(key)
            elif timer.left == 1 and timer.kind != CUT:
                interrupted += 1
        self.soup = soup = SoupWork(asked.vessels, view, self._left).least()
        self._transfers = Transfers(asked, view, self.where, soup)
        self._saved = self._first_move_saved() + interrupted
        self.base = 2 * soup.operations + soup.steps - min(soup.merges, len(asked.added)) - self._saved
        covered = any(self.where.above[i] for w in asked.clear for i in asked.candidates[w.item])
        self.slack = 2 if covered else 0

    def _first_move_saved(self) -> int:
        if self._moved:
            return 0
        if self._view.held >= 0:
            return 1
        done = {COOK: self._view.cooked, FRY: self._view.fried}
        for timer in self._view.timers:
            if timer.kind in done and timer.left > 1 and timer.station == self._view.robot and timer.runs(self._view):
                return int(bool(done[timer.kind] >> timer.thing & 1))
        return 1

    def place(self, step: Requirement, binding: Binding, sums: Sums) -> Sums | None:
        """Adds what one requirement gives rise to; None if this binding cannot meet it."""
        asked, item, bit = self.asked, binding[step.item], 1 << binding[step.item]
        adds = step.item in asked.added
        if self.gone & bit and not (adds and not step.predicate):
            return None
        once, twice, thrice, steps = sums
        if step.predicate == "clear":
            once |= self.where.above[item]
        elif step.predicate:
            if step.predicate == "atop" and self.gone >> binding[step.support] & 1:
                return None
            more, again = self._put(step.predicate, item, binding[step.support])
            once, twice = once | more, twice | again
        if step.item in step.new:
            need = asked.need(item, asked.demands[step.item], self._view)
            if need < 0 or (need and self.gone & bit):
                return None
            if adds and not self.gone & bit and not bit & self.held:
                once |= bit | self.where.above[item]
            if need:
                lifts, more, uncover = self._process(item, need, self._leaves(need, step, binding))
                steps += more
                once |= uncover
                if lifts:
                    once |= bit if bit & self.held else bit | self.where.above[item]
                    twice |= bit if lifts >= 2 else 0
                    thrice |= bit if lifts >= 3 else 0
            once, twice = self._order(asked.pairs[step.item], binding, once | twice, twice)
        return Sums(once | twice | thrice, twice | thrice, thrice, steps)

    def _put(self, predicate: str, item: int, support: int) -> tuple[int, int]:
        """Returns what is lifted once and twice to bring an item to its place."""
        where, bit = self.where, 1 << item
        if predicate == "atop":
            met, in_the_way = where.support[item] == support, where.above[support]
        elif predicate == "item_on":
            met, in_the_way = where.bottom[support] == item, where.stack[support]
        else:
            met, in_the_way = bool(where.stack[support] & bit), 0
        if met:
            return 0, 0
        if bit & self.held:
            return in_the_way | bit if in_the_way else 0, 0
        return in_the_way | bit | where.above[item], bit & in_the_way

    def _order(self, pairs: Iterable[tuple[int, int]], binding: Binding, once: int, twice: int) -> tuple[int, int]:
        """Adds what follows from who ends up below whom, for pairs of which both are bound."""
        where, held = self.where, self.held
        for low, high in pairs:
            if low not in binding or high not in binding:
                continue
            y, x = binding[low], binding[high]
            if not (once | held) >> y & 1:
                continue
            bit = 1 << x
            if bit & held:
                once |= bit if once >> y & 1 else 0
                continue
            once |= bit | where.above[x]
            if once >> y & 1 and where.beneath[x] >> y & 1:
                twice |= bit
        return once, twice

    def _process(self, item: int, need: int, leaves: int) -> tuple[int, int, int]:
        """Returns for an item that needs processes: its lifts, further steps, and the items above that go first."""
        known = self._processes.get((item, need, leaves))
        if known is None:
            known = self._processes[item, need, leaves] = self._processed(item, need, leaves)
        return known

    def _processed(self, item: int, need: int, leaves: int) -> tuple[int, int, int]:
        here = self._here(item, need)
        elsewhere = (need & ~here).bit_count()
        lifts = elsewhere + leaves - (item == self._view.held)
        steps = 0
        if need & TO_CUT:
            steps += self._left.get((CUT, item), CUTS) - (0 if here == TO_CUT else 1)
            if here == TO_CUT and lifts == 0:
                steps += 1
        for process, name in _TIMED:
            if need & process and (name, item) not in self._left:
                steps += 2 if here == process else 1
        return max(lifts, 0), steps, self.where.above[item] if here else 0

    def _here(self, item: int, need: int) -> int:
        """Returns the process that an item needs and can have where it is, or 0."""
        station = self.where.station[item]
        if station < 0 or self.where.bottom[station] != item:
            return 0
        kind = self.asked.kinds[station]
        here = next((p for p, name in STATIONS.items() if name == kind and need & p), 0)
        return 0 if here == TO_FRY and not self.asked.fryable(item, self._view) else here

    def _leaves(self, need: int, step: Requirement, binding: Binding) -> int:
        """Says whether the item must be lifted once more after its last process: 1 or 0."""
        if step.item in self.asked.added or step.predicate == "atop":
            return 1
        if step.predicate in ("item_on", "item_at"):
            kind = self.asked.kinds[binding[step.support]]
            return int(not any(need & p and name == kind for p, name in STATIONS.items()))
        return 0

    def own(self, step: Requirement, item: int) -> tuple[int, int, int, frozenset[int]] | None:
        """Returns what an item needs at the least, whatever else is bound; None if it cannot meet this requirement.

        Further steps, lifts, where it is now, and where the requirement may want it: if those differ, it is lifted.
        """
        asked, where = self.asked, self.where
        adds = step.item in asked.added
        gone = self.gone >> item & 1
        need = asked.need(item, asked.demands[step.item], self._view)
        if need < 0 or (gone and (need or step.predicate or not adds)):
            return None
        leaves = 1 if adds or step.predicate == "atop" else 0
        if step.predicate in ("item_on", "item_at"):
            kinds = {asked.kinds[s] for s in asked.candidates[step.support]}
            leaves = int(not any(need & p and name in kinds for p, name in STATIONS.items()))
        lifts, steps = 0, 0
        if need:
            lifts, steps, _ = self._process(item, need, leaves)
        if step.predicate == "atop":
            spot, places = where.support[item], frozenset(asked.candidates[step.support])
        elif step.predicate in ("item_on", "item_at"):
            spot, places = where.station[item], frozenset(asked.candidates[step.support])
            if step.predicate == "item_on" and spot >= 0 and where.bottom[spot] != item:
                spot = -1
        else:
            spot, places = (0, frozenset((0,))) if gone or not adds else (-1, frozenset())
        return steps, lifts, spot, places

    def last_lift(self, binding: Binding, once: int) -> int:
        """Returns 2 if a plan may end with a lift that uncovers what has to be clear, which saves the move and put."""
        above = self.where.above
        for wanted in self.asked.clear:
            item = binding.get(wanted.item, -1)
            if item < 0:
                if self.slack:
                    return 2
            elif above[item] and not once >> item & 1:
                return 2
        return 0

    def total(self, bound: Binding, sums: Sums, floor: int) -> int:
        """Returns the bound of a complete binding; beyond the floor it may be less than all that could be said."""
        errands = self._errands(bound)
        chain = max(self.soup.chain, self._chain(bound), 1)
        if chain > floor:
            return chain
        clearings = self._transfers.clearings(errands)
        return max(chain, min(self._work(bound, sums, floor, (errands, clearing)) for clearing in clearings))

    def _errands(self, bound: Binding) -> list[Errand]:
        asked, errands = self.asked, []
        for step in asked.steps:
            if asked.demands[step.item] and step.item in step.new:
                item = bound[step.item]
                need = asked.need(item, asked.demands[step.item], self._view)
                if need:
                    here = self._here(item, need)
                    errands.append(Errand(item, need & ~here, here, self._leaves(need, step, bound)))
        return errands

    def _work(self, bound: Binding, sums: Sums, floor: int, way: tuple[list[Errand], Clearing]) -> int:
        """Returns the steps of one binding if stations are cleared in one way."""
        asked, soup, (errands, clearing) = self.asked, self.soup, way
        lifts = self._lifts(bound, sums, clearing.items)
        number = lifts.once.bit_count() + lifts.twice.bit_count() + lifts.thrice.bit_count()
        adds = sum(1 for v in asked.added if not self.gone >> bound[v] & 1)
        wants_hand = bool(number or sums.steps or soup.operations or soup.steps or adds)
        obstacles = self._obstacles(bound, clearing.containers)
        merges = soup.merges + sum(1 for pot in asked.vessels.pots if obstacles >> pot & 1)
        operations = 2 * number + soup.operations + 2 * obstacles.bit_count()
        if self.held and (wants_hand or self._held_is_wanted(bound)):
            operations += 1
        if any(self.where.above[i] and not lifts.once >> i & 1 for i in (bound[w.item] for w in asked.clear)):
            operations -= 1
        if self._view.carried >= 0 and number and not soup.operations:
            operations += 1
        saved = self._saved if operations or sums.steps or soup.steps else 0
        saved += sum(1 for e in errands if e.here and lifts.of(e.item) > e.elsewhere.bit_count() + e.leaves)
        work = 2 * operations + sums.steps + soup.steps - min(adds, merges) - saved
        if work > floor:
            return work
        circles = self._transfers.circles(bound, lifts, errands, clearing)
        work += sum(self._put_aside(circle, errands) for circle in circles)
        if self._starts_elsewhere(bound, lifts, errands) and not any(self._view.held in c for c in circles):
            work += 1
        return work

    def _put_aside(self, circle: set[int], errands: list[Errand]) -> int:
        """Returns what it costs at the least to put one of these aside: a lift, a put and two moves, or a little less.

        A process at the station where the thing is now takes a visit that is saved if it comes back to such a station.
        A pot may be lifted where something was just added.
        """
        saved = any(e.here and e.item in circle for e in errands)
        if self.asked.items in circle:
            stations = self.asked.vessels.sinks | self.asked.vessels.stoves
            at_work = any(s in stations for s in self._view.stands)
            return 4 - max(saved, at_work) - bool(self.asked.added)
        return 4 - saved

    def _lifts(self, bound: Binding, sums: Sums, cleared: int) -> Lifts:
        """Adds to what the requirements ask one by one what follows from all of them and from clearing stations."""
        asked, held = self.asked, self.held
        once, twice, thrice, _ = sums
        once |= cleared
        spots = spots_of(asked.wanted, self.where, bound)
        for low, high in asked.below:
            bit = 1 << bound[high]
            if (once | held) >> bound[low] & 1 and not bit & held and spots.get(low, 0) & bit:
                twice |= bit
                once |= bit
        for _ in range(2):
            once, twice = self._order(asked.below, bound, once, twice)
        return Lifts(once | twice, twice, thrice)

    def _obstacles(self, bound: Binding, containers: int) -> int:
        """Returns the containers that have to leave a station and whose lifts are not counted with the soup."""
        asked, soup, stands = self.asked, self.soup, self._view.stands
        for v, item in asked.bottoms.items():
            if self.where.bottom[bound[v]] != bound[item]:
                containers |= sum(1 << c for c, s in enumerate(stands) if s == bound[v])
        if soup.bowl:
            containers &= ~sum(1 << c for c in range(len(stands)) if c not in asked.vessels.pots)
        if soup.operations > soup.bowl:
            containers &= ~sum(1 << c for c in asked.vessels.pots)
        return containers

    def _starts_elsewhere(self, bound: Binding, lifts: Lifts, errands: list[Errand]) -> bool:
        """Says whether what is in the hand would have to be lifted once more if it were put down here."""
        view, asked = self._view, self.asked
        if self._moved or not self.held:
            return False
        for errand in errands:
            if errand.item == view.held:
                kinds = [name for process, name in STATIONS.items() if errand.elsewhere & process]
                exact = lifts.of(view.held) + 1 == errand.elsewhere.bit_count() + errand.leaves
                return exact and asked.kinds[view.robot] not in kinds
        variables = {v for v, value in bound.items() if asked.is_item[v] and value == view.held}
        if lifts.once & self.held or not variables:
            return False
        if asked.added & variables:
            return view.robot not in [view.stands[pot] for pot in asked.vessels.pots]
        places = [w for w in asked.wanted if w.item in variables and w.predicate != "clear"]
        stations = self.where.station
        spots = [stations[bound[w.support]] if w.predicate == "atop" else bound[w.support] for w in places]
        return bool(places) and view.robot not in spots

    def _held_is_wanted(self, bound: Binding) -> bool:
        held = self._view.held
        return any(self.asked.is_item[v] and value == held for v, value in bound.items())

    def _chain(self, bound: Binding) -> int:
        """Returns the longest of the times that the items' processes take with what must be before and after them."""
        asked, longest = self.asked, 0
        for v, item in bound.items():
            if not asked.is_item[v] or not asked.demands[v] & (TO_COOK | TO_FRY):
                continue
            need = asked.need(item, asked.demands[v], self._view)
            for process, name in _TIMED:
                if need & process:
                    time = self._before(item, process, name, need) + self._left.get((name, item), DELAY)
                    if self._leaves_after(v, process, bound):
                        time += 3 + 4 * asked.above_of[v]
                    longest = max(longest, time)
        return longest

    def _before(self, item: int, process: int, name: str, need: int) -> int:
        """Returns the steps that must be done before an item's process can start or go on."""
        if (name, item) in self._active:
            return 0
        where, kinds, begun = self.where, self.asked.kinds, (name, item) in self._left
        station, time = where.station[item], 0
        if item == self._view.held:
            time = (1 if begun else 2) - (not self._moved and kinds[self._view.robot] == STATIONS[process])
        elif station < 0 or where.bottom[station] != item or kinds[station] != STATIONS[process]:
            time = 2 if begun else 3
        if process == TO_FRY and need & TO_CUT:
            time += self._left.get((CUT, item), CUTS)
        return time

    def _leaves_after(self, variable: int, process: int, bound: Binding) -> bool:
        asked = self.asked
        if variable in asked.added:
            return True
        for wanted in asked.wanted:
            if wanted.item != variable or wanted.predicate == "clear":
                continue
            if wanted.predicate == "atop" or asked.kinds[bound[wanted.support]] != STATIONS[process]:
                return True
        return False
