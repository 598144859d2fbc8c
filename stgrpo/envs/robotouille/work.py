"""A lower bound on the steps to any goal: manipulations, their moves, cuts, launches, and what cannot overlap.

It extends the bound of `requirements.py` to food that is prepared on the way, to soups, and to time.

Lifts. Let an item need some processes (cut on a board, cook on a stove, fry in a fryer) before it is put where it is
wanted. Each needs it alone on a station of its kind: every one but that of the station where it lies now costs one put
and one lift. With its final put it is thus lifted at least (processes elsewhere) + 1 times, one less if it is in the
hand now or need not leave its last station. The bounds of M and D (see `requirements.py`) hold beside this; the
greatest counts. Putting an item into a pot counts as its last put.

Moves. Between two manipulations there is a move, but for: put on a board, cut, lift; put an item into a pot, lift the
pot. Lifting at once what was just put down, or putting back what was just lifted, is worth no more than waiting. To put
something on a stove, launch and lift it there without leaving takes at least three steps of waiting for the move it
saves; only an effect that was interrupted one tick before its end completes as its item is put back, which saves a
move. A launch where the thing stands already is a visit of its own unless it is lifted in the same visit, which takes
more waiting than a move.

Time. A process under way or to come has steps that must be done before it starts and steps that can only follow; its
duration lies between them. The bound is the greater of the work and the longest of these chains, and the least over all
bindings of the goal's variables to objects.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from stgrpo.envs.robotouille.domain import CUTS, DELAY, PREDICATE
from stgrpo.envs.robotouille.grounding import Grounding
from stgrpo.envs.robotouille.kitchen import Goal, GoalAtom
from stgrpo.envs.robotouille.requirements import (
    PLACES,
    UNREACHABLE,
    Config,
    Wanted,
    compile_requirements,
    places_of,
    spots_of,
)
from stgrpo.envs.robotouille.views import BOIL, COOK, CUT, FILL, FRY, View, Viewer

_QUALITIES = {"iscut": 1, "iscooked": 2, "isfried": 4}
_CUT, _COOK, _FRY = 1, 2, 4
_STATIONS = {_CUT: "board", _COOK: "stove", _FRY: "fryer"}
HELD = -1
"""The station of a container that the robot carries."""
Binding = dict[int, int]
"""For variables of the goal, by index, the items and stations they stand for."""


class _Step(NamedTuple):
    """One requirement in the order of binding: a wanted place, or an item without one (predicate "")."""

    predicate: str
    item: int
    support: int
    new: tuple[int, ...]


class _Soup(NamedTuple):
    """What is left to do with water and its vessels: manipulations, other steps, pot lifts that can follow an
    addition without a move, and the shortest time it takes."""

    operations: int
    steps: int
    merges: int
    chain: int


class Vessels(NamedTuple):
    """What the goal asks of water: the kind of its container ("" for any), to boil, where that container is to be."""

    meal: bool
    container: str
    boiling: bool
    stations: frozenset[int]
    placed: str


class WorkBound:
    """The lower bound of this module for one kitchen. Parts of a goal that it does not know are left out of it.

    Attributes:
        useful: for each process, the items to which some binding of the goal may ask it to be done.
        item_classes: for each item, which variables it may stand for and how it can be prepared.
        station_classes: for each station the same: its part in the goal, and its kind if something is prepared there.
    """

    def __init__(self, goal: Goal, grounding: Grounding, viewer: Viewer):
        self._viewer, self.items = viewer, len(viewer.items)
        known = tuple(a for a in goal.atoms if a.predicate in PLACES or a.predicate in _QUALITIES)
        requirements = compile_requirements(Goal(goal.text, known), tuple(_QUALITIES))
        self._variables = list(requirements.variables)
        added = [(a.kinds[0], a.ids[0]) for a in goal.atoms if a.predicate == "addedto"]
        self._variables += [v for v in dict.fromkeys(added) if v not in self._variables]
        self._added = frozenset(self._variables.index(v) for v in added)
        supports = {w.support for w in requirements.wanted if w.predicate in ("item_on", "item_at")}
        self._supports = supports
        self._is_item = [v not in supports for v in range(len(self._variables))]
        self._candidates = [self._find_candidates(v, grounding) for v in range(len(self._variables))]
        self._demands = [
            sum(_QUALITIES[q] for q in requirements.qualities[v]) if v < len(requirements.variables) else 0
            for v in range(len(self._variables))
        ]
        self._below = requirements.below
        self._clear = [w for w in requirements.wanted if w.predicate == "clear"]
        self._wanted = requirements.wanted
        self._steps = self._in_order(requirements.wanted)
        self._groups = [self._grouped(self._steps[i:]) for i in range(len(self._steps) + 1)]
        self._rivals = [
            [u for u, other in enumerate(self._variables) if other[0] == kind and u != v]
            for v, (kind, _) in enumerate(self._variables)
        ]
        self._twins = _twins(goal, self._variables)
        self._pairs = [[pair for pair in self._below if v in pair] for v in range(len(self._variables))]
        self._above_of = {v: sum(1 for low, _ in self._below if low == v) for v in range(len(self._variables))}
        self._kinds = [next((k for k in _STATIONS.values() if k in name), "") for name in viewer.stations]
        self._sinks = frozenset(i for i, name in enumerate(viewer.stations) if "sink" in name)
        self._stoves = frozenset(i for i, kind in enumerate(self._kinds) if kind == "stove")
        self._pots = [i for i, name in enumerate(viewer.containers) if "pot" in name]
        self._read_items(grounding)
        self._vessels = self._read_vessels(goal)
        self._classify()

    def _find_candidates(self, variable: int, grounding: Grounding) -> tuple[int, ...]:
        kind, id_ = self._variables[variable]
        names = self._viewer.items if self._is_item[variable] else self._viewer.stations
        return tuple(
            i for i, name in enumerate(names) if (kind in name if id_.isdigit() else grounding.ids.get(id_) == name)
        )

    def _in_order(self, wanted: Sequence[Wanted]) -> list[_Step]:
        bound: set[int] = set()
        steps = []
        for place in wanted:
            mentioned = (place.item,) if place.support < 0 else (place.item, place.support)
            new = tuple(v for v in mentioned if v not in bound)
            steps.append(_Step(place.predicate, place.item, place.support, new))
            bound.update(mentioned)
        rest = [v for v in range(len(self._variables)) if v not in bound]
        return steps + [_Step("", v, -1, (v,)) for v in rest]

    def _grouped(self, steps: Sequence[_Step]) -> tuple[tuple[_Step, ...], ...]:
        """The requirements that bind an item, by the kind of that item."""
        groups: dict[str, list[_Step]] = {}
        for step in steps:
            if step.item in step.new:
                groups.setdefault(self._variables[step.item][0], []).append(step)
        return tuple(map(tuple, groups.values()))

    def _read_items(self, grounding: Grounding) -> None:
        def having(predicate: str) -> int:
            names = {args[0] for name, args in grounding.static if name == predicate}
            names |= {args[0] for name, args in grounding.true_atoms(grounding.start) if name == predicate}
            return sum(1 << i for i, item in enumerate(self._viewer.items) if item in names)

        kinds = set(self._kinds)
        self._cuttable = having("iscuttable") if "board" in kinds else 0
        self._cookable = having("iscookable") if "stove" in kinds else 0
        self._fryable = having("isfryable") if "fryer" in kinds else 0
        self._fryable_if_cut = having("isfryableifcut") if "fryer" in kinds else 0
        self.useful = {CUT: 0, COOK: 0, FRY: 0}
        for v, demands in enumerate(self._demands):
            if self._is_item[v]:
                mask = sum(1 << i for i in self._candidates[v])
                if demands & _COOK:
                    self.useful[COOK] |= mask & self._cookable
                if demands & _FRY:
                    self.useful[FRY] |= mask
                    self.useful[CUT] |= mask & self._fryable_if_cut & self._cuttable
                if demands & _CUT:
                    self.useful[CUT] |= mask & self._cuttable

    def _read_vessels(self, goal: Goal) -> Vessels:
        """Reads what is asked of water, if it is one meal; of several meals this bound knows nothing."""
        meals = {
            (kind, id_)
            for atom in goal.atoms
            for kind, id_, type_ in zip(atom.kinds, atom.ids, PREDICATE[atom.predicate].types, strict=True)
            if type_ == "meal"
        }
        if len(meals) != 1:
            return Vessels(False, "", False, frozenset(), "")
        container = next((a.kinds[1] for a in goal.atoms if a.predicate == "in"), "")
        boiling = any(a.predicate == "isboiling" for a in goal.atoms)
        place = next((a for a in goal.atoms if a.predicate == "container_at"), None)
        if place is None:
            return Vessels(True, container, boiling, frozenset(), "")
        stations = frozenset(i for i, name in enumerate(self._viewer.stations) if place.kinds[1] in name)
        return Vessels(True, container, boiling, stations, place.kinds[0])

    def _classify(self) -> None:
        variables = range(len(self._variables))
        item_sets = [frozenset(self._candidates[v]) for v in variables if self._is_item[v]]
        abilities = (self._cuttable, self._cookable, self._fryable, self._fryable_if_cut)
        self.item_classes = _numbers(
            (*(i in members for members in item_sets), *(bool(mask >> i & 1) for mask in abilities))
            for i in range(self.items)
        )
        station_sets = [frozenset(self._candidates[v]) for v in variables if not self._is_item[v]]
        station_sets.append(self._vessels.stations)
        processes = {"board": self.useful[CUT], "stove": self.useful[COOK] or self._pots, "fryer": self.useful[FRY]}
        self.station_classes = _numbers(
            (
                *(s in members for members in station_sets),
                self._kinds[s] if processes.get(self._kinds[s]) else "",
                bool(self._pots) and s in self._sinks,
            )
            for s in range(len(self._viewer.stations))
        )

    def __call__(
        self, view: View, *, moved: bool, floor: int = 0, hint: Binding | None = None
    ) -> tuple[int, Binding | None]:
        """Returns the bound for a state that is not a goal.

        Args:
            view: the state.
            moved: the next manipulation is at another station than the robot is.
            floor: a bound known already; the search ends as soon as it can give no more than that.
            hint: a binding that is likely to be good, such as the best one of the state before.

        Returns:
            The bound and the binding it is of.
        """
        call = _Call(self, view, moved, floor)
        if hint is not None:
            call.try_binding(hint)
        call.descend(0, {}, (0, 0, 0, 0))
        return max(call.best, floor), call.binding

    def need(self, item: int, demands: int, view: View) -> int:
        """Returns the processes this item still needs, -1 if it can never fulfil the demands."""
        bit, need = 1 << item, 0
        if demands & _CUT and not view.cut & bit:
            if not self._cuttable & bit:
                return -1
            need |= _CUT
        if demands & _COOK and not view.cooked & bit:
            if not self._cookable & bit:
                return -1
            need |= _COOK
        if demands & _FRY and not view.fried & bit:
            if self._fryable & bit or self._fryable_if_cut & view.cut & bit:
                need |= _FRY
            elif self._fryable_if_cut & self._cuttable & bit:
                need |= _FRY | _CUT
            else:
                return -1
        return need

    def fryable(self, item: int, view: View) -> bool:
        """Says whether an item may be fried as it is."""
        return bool((self._fryable | self._fryable_if_cut & view.cut) >> item & 1)


class _Call:
    """Branch and bound over the bindings for one view."""

    def __init__(self, bound: WorkBound, view: View, moved: bool, floor: int):
        self._b, self._view, self._moved, self._floor = bound, view, moved, floor
        self._own: dict[tuple[_Step, ...], list[tuple]] = {}
        self._held = 1 << view.held if view.held >= 0 else 0
        self._processes: dict[tuple[int, int, int], tuple[int, int, int]] = {}
        self._where = places_of(Config(view.held, view.stacks), bound.items)
        self._gone = 0
        for mask in view.added:
            self._gone |= mask
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
        self._candidates = self._choices()
        self._soup = self._read_soup() if bound._vessels.meal else _Soup(0, 0, 0, 0)
        self._saved = self._first_move_saved() + interrupted
        soup = self._soup
        self._floor = max(floor, soup.chain)
        merges = min(soup.merges, len(bound._added))
        self._base = 2 * soup.operations + soup.steps - merges - self._saved
        covered = any(self._where.above[i] for w in bound._clear for i in bound._candidates[w.item])
        self._slack = 2 if covered else 0
        self.best, self.binding = UNREACHABLE, None

    def try_binding(self, binding: Binding) -> None:
        """Takes the bound of one binding as the least so far."""
        sums = (0, 0, 0, 0)
        bound: Binding = {}
        for step in self._b._steps:
            bound = bound | {v: binding[v] for v in step.new}
            after = self._place(step, bound, sums)
            if after is None:
                return
            sums = after
        self.best, self.binding = self._total(bound, sums), bound

    def _choices(self) -> list[Sequence[int]]:
        """Of empty stations only as many as there are station variables: the others are the same."""
        b, choices = self._b, list(self._b._candidates)
        taken = set(self._view.stands)
        for v in b._supports:
            empty = [s for s in choices[v] if not self._view.stacks[s] and s not in taken][len(b._supports) :]
            choices[v] = [s for s in choices[v] if s not in empty]
        return choices

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

    def descend(self, index: int, bound: Binding, sums: tuple[int, int, int, int]) -> None:
        b = self._b
        if index == len(b._steps):
            total = self._total(bound, sums)
            if total < self.best:
                self.best, self.binding = total, bound
            return
        step = b._steps[index]
        options = []
        for number, binding in enumerate(self._bindings(step.new, bound)):
            after = self._place(step, binding, sums)
            if after is not None:
                options.append((_count(after), number, after, binding))
        options.sort(key=lambda option: option[:2])
        for cost, _, after, binding in options:
            if cost + self._base - self._slack >= self.best or self.best <= self._floor:
                return
            least = cost + self._base - self._last_lift(binding, after[0])
            if self._held and cost:
                least += 2
            if least >= self.best or least + self._rest(index + 1, binding, after) >= self.best:
                continue
            self.descend(index + 1, binding, after)

    def _last_lift(self, binding: Binding, once: int) -> int:
        """Returns 2 if a plan may end with a lift that uncovers what has to be clear, which saves the move and put."""
        above = self._where.above
        for wanted in self._b._clear:
            item = binding.get(wanted.item, -1)
            if item < 0:
                if self._slack:
                    return 2
            elif above[item] and not once >> item & 1:
                return 2
        return 0

    def _rest(self, index: int, binding: Binding, sums: tuple[int, int, int, int]) -> int:
        """Returns a lower bound on what the requirements from `index` on will add: distinct items, each at its least.

        Variables of one kind share their candidates: the cheapest of these, as many as there are variables, are summed.
        """
        once, twice, thrice, _ = sums
        total = 0
        for group in self._b._groups[index]:
            costs, wanted = [], len(group)
            taken = [binding.get(rival) for rival in self._b._rivals[group[0].item]]
            for item, bit, steps, options in self._owns(group):
                if item in taken:
                    continue
                least = UNREACHABLE
                for support, lifts, unmet, places in options:
                    place = binding.get(support, -1)
                    if place >= 0:
                        moves = unmet != place
                    else:
                        moves = unmet not in places
                    least = min(least, max(lifts, 1) if moves and not bit & self._held else lifts)
                extra = least - (once >> item & 1) - (twice >> item & 1) - (thrice >> item & 1)
                costs.append(steps + 4 * extra if extra > 0 else steps)
            if len(costs) < wanted:
                return UNREACHABLE
            costs.sort()
            total += sum(costs[:wanted])
        return total

    def _owns(self, group: tuple[_Step, ...]) -> list[tuple]:
        """For each item that one of these requirements may bind: what it needs at the least, whatever the rest."""
        known = self._own.get(group)
        if known is None:
            found: dict[int, list] = {}
            for step in group:
                for item in self._candidates[step.item]:
                    own = self._own_cost(step, item)
                    if own is not None:
                        found.setdefault(item, []).append(own)
            known = self._own[group] = [
                (item, 1 << item, min(own[0] for own in owns), [own[1] for own in owns]) for item, owns in found.items()
            ]
        return known

    def _own_cost(self, step: _Step, item: int) -> tuple[int, tuple] | None:
        b, where = self._b, self._where
        adds = step.item in b._added
        gone = self._gone >> item & 1
        need = b.need(item, b._demands[step.item], self._view)
        if need < 0 or (gone and (need or step.predicate or not adds)):
            return None
        leaves = 1 if adds or step.predicate == "atop" else 0
        if step.predicate in ("item_on", "item_at"):
            kinds = {b._kinds[s] for s in b._candidates[step.support]}
            leaves = int(not any(need & p and name in kinds for p, name in _STATIONS.items()))
        lifts, steps = 0, 0
        if need:
            lifts, steps, _ = self._process(item, need, leaves)
        if step.predicate == "atop":
            spot, places = where.support[item], frozenset(b._candidates[step.support])
        elif step.predicate in ("item_on", "item_at"):
            spot, places = where.station[item], frozenset(b._candidates[step.support])
            if step.predicate == "item_on" and spot >= 0 and where.bottom[spot] != item:
                spot = -1
        else:
            spot, places = (0, frozenset((0,))) if gone or not adds else (-1, frozenset())
        return steps, (step.support, lifts, spot, places)

    def _bindings(self, new: tuple[int, ...], bound: Binding) -> list[Binding]:
        bindings = [bound]
        for variable in new:
            rivals = self._b._rivals[variable]
            bindings = [
                {**binding, variable: value}
                for binding in bindings
                for value in self._candidates[variable]
                if not any(binding.get(rival) == value for rival in rivals)
            ]
            twin = self._b._twins.get(variable)
            if twin is not None:
                bindings = [b for b in bindings if b.get(twin, -1) < b[variable]]
        return bindings

    def _place(
        self, step: _Step, binding: Binding, sums: tuple[int, int, int, int]
    ) -> tuple[int, int, int, int] | None:
        """Adds what one requirement gives rise to: items lifted at least once, twice, three times; further steps."""
        once, twice, thrice, steps = sums
        b, where, view = self._b, self._where, self._view
        item, bit = binding[step.item], 1 << binding[step.item]
        adds = step.item in b._added
        if self._gone & bit and not (adds and not step.predicate):
            return None
        if step.predicate and step.predicate != "clear":
            support = binding[step.support]
            if step.predicate == "atop":
                if self._gone >> support & 1:
                    return None
                met, in_the_way = where.support[item] == support, where.above[support]
            elif step.predicate == "item_on":
                met, in_the_way = where.bottom[support] == item, where.stack[support]
            else:
                met, in_the_way = bool(where.stack[support] >> item & 1), 0
            if not met:
                once |= in_the_way
                if item == view.held:
                    once |= bit if in_the_way else 0
                else:
                    once |= bit | where.above[item]
                    twice |= bit & in_the_way
        elif step.predicate == "clear":
            once |= where.above[item]
        if step.item in step.new:
            need = b.need(item, b._demands[step.item], view)
            if need < 0 or (need and self._gone & bit):
                return None
            if adds and not self._gone & bit:
                if item != view.held:
                    once |= bit | where.above[item]
            if need:
                leaves = self._leaves(need, step, binding)
                lifts, more, uncover = self._process(item, need, leaves)
                steps += more
                once |= uncover
                if lifts >= 1:
                    once |= bit
                    if item != view.held:
                        once |= where.above[item]
                if lifts >= 2:
                    twice |= bit
                if lifts >= 3:
                    thrice |= bit
            once, twice = self._order(b._pairs[step.item], binding, once | twice, twice)
        return once | twice | thrice, twice | thrice, thrice, steps

    def _order(self, pairs: Iterable[tuple[int, int]], binding: Binding, once: int, twice: int) -> tuple[int, int]:
        """Adds what follows from who ends up below whom, for pairs of which both are bound."""
        where, held = self._where, self._held
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
        b, where, view = self._b, self._where, self._view
        station = where.station[item]
        here = 0
        if station >= 0 and where.bottom[station] == item:
            kind = b._kinds[station]
            here = next((p for p, name in _STATIONS.items() if name == kind and need & p), 0)
            if here == _FRY and not b.fryable(item, view):
                here = 0
        elsewhere = (need & ~here).bit_count()
        lifts = elsewhere + leaves - (item == view.held)
        steps = 0
        if need & _CUT:
            steps += self._left.get((CUT, item), CUTS) - (0 if here == _CUT else 1)
            if here == _CUT and lifts == 0:
                steps += 1
        for process, name in ((_COOK, COOK), (_FRY, FRY)):
            if need & process and (name, item) not in self._left:
                steps += 2 if here == process else 1
        return max(lifts, 0), steps, where.above[item] if here else 0

    def _leaves(self, need: int, step: _Step, binding: Binding) -> int:
        """Says whether the item must be lifted once more after its last process: 1 or 0."""
        b = self._b
        if step.item in b._added or step.predicate == "atop":
            return 1
        if step.predicate in ("item_on", "item_at"):
            kind = b._kinds[binding[step.support]]
            return int(not any(need & p and name == kind for p, name in _STATIONS.items()))
        return 0

    def _total(self, bound: Binding, sums: tuple[int, int, int, int]) -> int:
        b, where, view, held = self._b, self._where, self._view, self._held
        once, twice, thrice, steps = sums
        spots = spots_of(b._wanted, where, bound)
        for low, high in b._below:
            bit = 1 << bound[high]
            if (once | held) >> bound[low] & 1 and not bit & held and spots.get(low, 0) & bit:
                twice |= bit
                once |= bit
        for _ in range(2):
            once, twice = self._order(b._below, bound, once, twice)
        once |= twice
        lifts = once.bit_count() + twice.bit_count() + thrice.bit_count()
        adds = sum(1 for v in b._added if not self._gone >> bound[v] & 1)
        soup = self._soup
        wants_hand = bool(lifts or steps or soup.operations or soup.steps or adds)
        operations = 2 * lifts + soup.operations
        if held and (wants_hand or self._held_is_wanted(bound)):
            operations += 1
        for wanted in b._clear:
            item = bound[wanted.item]
            if where.above[item] and not once >> item & 1:
                operations -= 1
                break
        if view.carried >= 0 and lifts and not soup.operations:
            operations += 1
        work = 2 * operations + steps + soup.steps - min(adds, soup.merges)
        if operations or steps or soup.steps:
            work -= self._saved
        return max(work, soup.chain, self._chain(bound), 1)

    def _held_is_wanted(self, bound: Binding) -> bool:
        held = self._view.held
        return any(self._b._is_item[v] and value == held for v, value in bound.items())

    def _chain(self, bound: Binding) -> int:
        """Returns the longest of the times that the items' processes take with what must be before and after them."""
        b, where, view, longest = self._b, self._where, self._view, 0
        for v, item in bound.items():
            if not b._is_item[v] or not b._demands[v] & (_COOK | _FRY):
                continue
            need = b.need(item, b._demands[v], view)
            for process, name in ((_COOK, COOK), (_FRY, FRY)):
                if not need & process:
                    continue
                time = self._left.get((name, item), DELAY)
                if (name, item) not in self._active:
                    station = where.station[item]
                    there = station >= 0 and where.bottom[station] == item and b._kinds[station] == _STATIONS[process]
                    if item == view.held:
                        time += 1 if (name, item) in self._left else 2
                        time -= not self._moved and b._kinds[view.robot] == _STATIONS[process]
                    elif not there:
                        time += 2 if (name, item) in self._left else 3
                    if process == _FRY and need & _CUT:
                        time += self._left.get((CUT, item), CUTS)
                if self._leaves_after(v, process, bound):
                    time += 3 + 4 * b._above_of[v]
                longest = max(longest, time)
        return longest

    def _leaves_after(self, variable: int, process: int, bound: Binding) -> bool:
        b = self._b
        if variable in b._added:
            return True
        for wanted in b._wanted:
            if wanted.item == variable and wanted.predicate != "clear":
                if wanted.predicate == "atop" or b._kinds[bound[wanted.support]] != _STATIONS[process]:
                    return True
        return False

    def _read_soup(self) -> _Soup:
        b, view = self._b, self._view
        options = [self._of_meal(m) for m, c in enumerate(view.inside) if c >= 0]
        options += [self._of_pot(pot) for pot in b._pots if pot not in view.inside]
        options = [option for option in options if option is not None]
        if not options:
            return _Soup(0, 0, 0, 0)
        return _Soup(
            min(o.operations for o in options),
            min(o.steps for o in options),
            max(o.merges for o in options),
            min(o.chain for o in options),
        )

    def _of_pot(self, pot: int) -> _Soup:
        """Water has yet to be drawn into this pot."""
        b, view = self._b, self._view
        stands, left = view.stands[pot], self._left.get((FILL, pot))
        operations, steps, chain = 0, int(left is None), DELAY if left is None else left
        if stands in b._sinks:
            steps += left is None
        else:
            operations = 1 if stands == HELD else 2
            chain += operations if left is None else 0
        if b._vessels.boiling:
            operations, steps, chain = operations + 2, steps + 1, chain + 3 + DELAY
        return self._serve(operations, steps, 2 if b._vessels.boiling else 1, chain)

    def _of_meal(self, meal: int) -> _Soup | None:
        """Water that is there already."""
        b, view = self._b, self._view
        vessel = view.inside[meal]
        boil = b._vessels.boiling and not view.boiling >> meal & 1
        if boil and (BOIL, meal) in self._left:
            return self._interrupted(meal, vessel)
        if vessel not in b._pots:
            return None if boil else _Soup(self._bowl(vessel), 0, 0, 0)
        stands = view.stands[vessel]
        if not boil:
            if b._vessels.container == "bowl":
                operations = 1 if stands == HELD else 2
                return _Soup(operations + self._bowl(), 0, int(stands != HELD), operations)
            return _Soup(0, 0, 0, 0)
        if stands in b._stoves:
            return self._serve(0, 2, 2, DELAY)
        operations = 1 if stands == HELD else 2
        return self._serve(operations, 1, operations + 1, DELAY + operations)

    def _interrupted(self, meal: int, vessel: int) -> _Soup:
        """Water that was set to boil: it goes on as long as that pot is on that stove, even when served already."""
        b, view = self._b, self._view
        timers = [t for t in view.timers if t.kind == BOIL and t.thing == meal]
        back = min(0 if t.runs(view) else 1 if view.stands[t.vessel] == HELD else 2 for t in timers)
        chain = self._left[BOIL, meal]
        if vessel not in b._pots:
            return _Soup(back + self._bowl(vessel), 0, 0, chain)
        if b._vessels.container != "bowl":
            return _Soup(self._bowl(), 0, 0, chain)
        serve = 1 if view.stands[vessel] == HELD else 2
        # Either it boils first and is served then, or it is served now and the pot put back.
        operations = min(back + 2, serve + 1)
        return _Soup(operations + self._bowl(), 0, 3, chain)

    def _serve(self, operations: int, steps: int, merges: int, chain: int) -> _Soup:
        """Adds what it takes to fill a bowl, if one is wanted, and to have it in its place."""
        if self._b._vessels.container == "bowl":
            operations, chain = operations + 2, chain + 3
        return _Soup(operations + self._bowl(), steps, merges, chain)

    def _bowl(self, vessel: int = -1) -> int:
        """Returns the manipulations that bring a bowl to where it is wanted: this vessel, or the nearest there is."""
        b, view = self._b, self._view
        if not b._vessels.placed:
            return 0
        some = [i for i, name in enumerate(b._viewer.containers) if b._vessels.placed in name]
        stands = [view.stands[i] for i in ([vessel] if vessel >= 0 else some)]
        return min((0 if s in b._vessels.stations else 1 if s == HELD else 2 for s in stands), default=0)


def _twins(goal: Goal, variables: list[tuple[str, str]]) -> dict[int, int]:
    """Maps station variables to those of an earlier part of the goal that is the same but for names.

    Exchanging the two parts turns bindings into bindings of the same bound: one order of the stations is enough.
    """
    parts: list[tuple[set, list]] = []
    for atom in goal.atoms:
        mine = set(zip(atom.kinds, atom.ids, strict=True))
        joined = [part for part in parts if part[0] & mine]
        parts = [part for part in parts if part not in joined]
        parts.append((mine.union(*(p[0] for p in joined)), [a for p in joined for a in p[1]] + [atom]))
    twins: dict[int, int] = {}
    seen: dict[tuple, tuple[str, str]] = {}
    for _, atoms in parts:
        names: dict[tuple[str, str], int] = {}
        signature = []
        for atom in atoms:
            keys = list(zip(atom.kinds, atom.ids, strict=True))
            if not all(id_.isdigit() for _, id_ in keys):
                break
            signature.append((atom.predicate, *((k[0], names.setdefault(k, len(names))) for k in keys)))
        else:
            stations = [k for k in names if k in variables and _is_station(k, atoms)]
            if len(stations) == 1:
                earlier = seen.get(tuple(signature))
                if earlier is not None:
                    twins[variables.index(stations[0])] = variables.index(earlier)
                seen[tuple(signature)] = stations[0]
    return twins


def _is_station(variable: tuple[str, str], atoms: Sequence[GoalAtom]) -> bool:
    return any(
        type_ == "station" and (kind, id_) == variable
        for atom in atoms
        for kind, id_, type_ in zip(atom.kinds, atom.ids, PREDICATE[atom.predicate].types, strict=True)
    )


def _numbers(signatures: Iterable[tuple]) -> list[int]:
    """Numbers the members so that two have the same number if they have the same signature."""
    known: dict[tuple, int] = {}
    return [known.setdefault(signature, len(known)) for signature in signatures]


def _count(sums: tuple[int, int, int, int]) -> int:
    once, twice, thrice, steps = sums
    return 4 * (once.bit_count() + twice.bit_count() + thrice.bit_count()) + steps
