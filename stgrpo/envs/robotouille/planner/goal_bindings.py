"""What a goal asks for in one kitchen: its variables, what each may stand for, and what can be prepared where."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from stgrpo.envs.robotouille.kitchen.domain import PREDICATE
from stgrpo.envs.robotouille.kitchen.grounding import Grounding
from stgrpo.envs.robotouille.kitchen.kitchen import Goal, GoalAtom
from stgrpo.envs.robotouille.planner.requirements import PLACES, Variable, Wanted, compile_requirements
from stgrpo.envs.robotouille.planner.soup_bound import read_vessels
from stgrpo.envs.robotouille.planner.state_view import COOK, CUT, FRY, View, Viewer

TO_CUT, TO_COOK, TO_FRY = 1, 2, 4
"""Processes that an item needs, as bits."""
STATIONS = {TO_CUT: "board", TO_COOK: "stove", TO_FRY: "fryer"}
_QUALITIES = {"iscut": TO_CUT, "iscooked": TO_COOK, "isfried": TO_FRY}


class Requirement(NamedTuple):
    """One requirement in the order of binding: a wanted place, or an item without one (predicate "").

    `new` are the variables that are bound when it is looked at.
    """

    predicate: str
    item: int
    support: int
    new: tuple[int, ...]


class GoalBindings:
    """A goal in one kitchen. Parts of a goal that are not known here are left out of it.

    Attributes:
        variables: (kind, id) of each variable, items and stations alike.
        is_item: for each variable, whether it stands for an item.
        candidates: for each variable, the indices of the items or stations it may stand for.
        demands: for each variable, the processes that must have been done to it.
        supports: the variables that are stations.
        bottoms: for each of these, the variable of the item that must be at its bottom, if there is one.
        added: the variables that must be added to the soup.
        wanted: the required places.
        steps: these, and the items without one, in the order of binding.
        groups: sets of requirements that each bind an item, of one kind.
        groups_left: for each step, the numbers of the groups that are left from it on, and the variables of their kind.
        rivals: for each variable, those that must stand for something else.
        twins: for the first variable of a part of the goal, that of an earlier part that is the same but for names.
        below: pairs (y, x) such that y ends up somewhere below x; `pairs` are those of each variable.
        kinds: for each station, "board", "stove", "fryer" or "".
        vessels: what is asked of water and its containers.
        useful: for each process, the items to which some binding of the goal may ask it to be done.
        item_classes: for each item, which variables it may stand for and how it can be prepared, as a number.
        station_classes: for each station the same: its part in the goal, and its kind if something is prepared there.
    """

    def __init__(self, goal: Goal, grounding: Grounding, viewer: Viewer):
        self.viewer, self.items = viewer, len(viewer.items)
        known = tuple(a for a in goal.atoms if a.predicate in PLACES or a.predicate in _QUALITIES)
        requirements = compile_requirements(Goal(goal.text, known), tuple(_QUALITIES))
        self.variables = list(requirements.variables)
        added = [(a.kinds[0], a.ids[0]) for a in goal.atoms if a.predicate == "addedto"]
        self.variables += [v for v in dict.fromkeys(added) if v not in self.variables]
        self.added = frozenset(self.variables.index(v) for v in added)
        self.wanted = requirements.wanted
        self.supports = {w.support for w in self.wanted if w.predicate in ("item_on", "item_at")}
        self.bottoms = {w.support: w.item for w in self.wanted if w.predicate == "item_on"}
        self.is_item = [v not in self.supports for v in range(len(self.variables))]
        self.candidates = [self._find_candidates(v, grounding) for v in range(len(self.variables))]
        self.demands = [
            sum(_QUALITIES[q] for q in requirements.qualities[v]) if v < len(requirements.variables) else 0
            for v in range(len(self.variables))
        ]
        self.clear = [w for w in self.wanted if w.predicate == "clear"]
        self.below = requirements.below
        self.pairs = [[pair for pair in self.below if v in pair] for v in range(len(self.variables))]
        self.above_of = {v: sum(1 for low, _ in self.below if low == v) for v in range(len(self.variables))}
        self._order_steps(goal)
        self._read_stations()
        self._read_items(grounding)
        self.vessels = read_vessels(goal, viewer)
        self._classify()

    def _find_candidates(self, variable: int, grounding: Grounding) -> tuple[int, ...]:
        kind, id_ = self.variables[variable]
        names = self.viewer.items if self.is_item[variable] else self.viewer.stations
        return tuple(
            i for i, name in enumerate(names) if (kind in name if id_.isdigit() else grounding.ids.get(id_) == name)
        )

    def _order_steps(self, goal: Goal) -> None:
        self.steps = _in_order(self.wanted, len(self.variables))
        left = [self._grouped(self.steps[i:]) for i in range(len(self.steps) + 1)]
        self.groups = list(dict.fromkeys(group for groups in left for group in groups))
        kinds = [kind for kind, _ in self.variables]
        self.groups_left = [
            [(self.groups.index(g), [v for v, k in enumerate(kinds) if k == kinds[g[0].item]]) for g in groups]
            for groups in left
        ]
        self.rivals = [
            [u for u, other in enumerate(self.variables) if other[0] == kind and u != v]
            for v, (kind, _) in enumerate(self.variables)
        ]
        order = [v for step in self.steps for v in step.new]
        self.twins = _twins(goal, [self.variables[v] for v in order])
        self.twins = {order[v]: order[twin] for v, twin in self.twins.items()}

    def _grouped(self, steps: Sequence[Requirement]) -> tuple[tuple[Requirement, ...], ...]:
        groups: dict[str, list[Requirement]] = {}
        for step in steps:
            if step.item in step.new:
                groups.setdefault(self.variables[step.item][0], []).append(step)
        return tuple(map(tuple, groups.values()))

    def _read_stations(self) -> None:
        names = self.viewer.stations
        self.kinds = [next((k for k in STATIONS.values() if k in name), "") for name in names]
        self.of_kind = {k: [i for i, name in enumerate(names) if k in name] for k in (*STATIONS.values(), "sink")}

    def _read_items(self, grounding: Grounding) -> None:
        def having(predicate: str) -> int:
            names = {args[0] for name, args in grounding.static if name == predicate}
            names |= {args[0] for name, args in grounding.true_atoms(grounding.start) if name == predicate}
            return sum(1 << i for i, item in enumerate(self.viewer.items) if item in names)

        self._cuttable = having("iscuttable") if self.of_kind["board"] else 0
        self._cookable = having("iscookable") if self.of_kind["stove"] else 0
        self._fryable = having("isfryable") if self.of_kind["fryer"] else 0
        self._fryable_if_cut = having("isfryableifcut") if self.of_kind["fryer"] else 0
        self.useful = {CUT: 0, COOK: 0, FRY: 0}
        for v, demands in enumerate(self.demands):
            if self.is_item[v]:
                mask = sum(1 << i for i in self.candidates[v])
                if demands & TO_COOK:
                    self.useful[COOK] |= mask & self._cookable
                if demands & TO_FRY:
                    self.useful[FRY] |= mask
                    self.useful[CUT] |= mask & self._fryable_if_cut & self._cuttable
                if demands & TO_CUT:
                    self.useful[CUT] |= mask & self._cuttable

    def _classify(self) -> None:
        variables = range(len(self.variables))
        item_sets = [frozenset(self.candidates[v]) for v in variables if self.is_item[v]]
        abilities = (self._cuttable, self._cookable, self._fryable, self._fryable_if_cut)
        self.item_classes = _numbers(
            (*(i in members for members in item_sets), *(bool(mask >> i & 1) for mask in abilities))
            for i in range(self.items)
        )
        station_sets = [frozenset(self.candidates[v]) for v in variables if not self.is_item[v]]
        station_sets.append(self.vessels.stations)
        pots = self.vessels.pots
        processes = {"board": self.useful[CUT], "stove": self.useful[COOK] or pots, "fryer": self.useful[FRY]}
        self.station_classes = _numbers(
            (
                *(s in members for members in station_sets),
                self.kinds[s] if processes.get(self.kinds[s]) else "",
                bool(pots) and s in self.of_kind["sink"],
            )
            for s in range(len(self.viewer.stations))
        )

    def need(self, item: int, demands: int, view: View) -> int:
        """Returns the processes this item still needs, -1 if it can never fulfil the demands."""
        bit, need = 1 << item, 0
        if demands & TO_CUT and not view.cut & bit:
            if not self._cuttable & bit:
                return -1
            need |= TO_CUT
        if demands & TO_COOK and not view.cooked & bit:
            if not self._cookable & bit:
                return -1
            need |= TO_COOK
        if demands & TO_FRY and not view.fried & bit:
            if self._fryable & bit or self._fryable_if_cut & view.cut & bit:
                need |= TO_FRY
            elif self._fryable_if_cut & self._cuttable & bit:
                need |= TO_FRY | TO_CUT
            else:
                return -1
        return need

    def fryable(self, item: int, view: View) -> bool:
        """Says whether an item may be fried as it is."""
        return bool((self._fryable | self._fryable_if_cut & view.cut) >> item & 1)


def _in_order(wanted: Sequence[Wanted], variables: int) -> list[Requirement]:
    bound: set[int] = set()
    steps = []
    for place in wanted:
        mentioned = (place.item,) if place.support < 0 else (place.item, place.support)
        new = tuple(v for v in mentioned if v not in bound)
        steps.append(Requirement(place.predicate, place.item, place.support, new))
        bound.update(mentioned)
    rest = [v for v in range(variables) if v not in bound]
    return steps + [Requirement("", v, -1, (v,)) for v in rest]


def _twins(goal: Goal, order: Sequence[Variable]) -> dict[int, int]:
    """Maps the first variable of a part of the goal to that of an earlier part that is the same but for names.

    A plan that achieves a binding achieves the one with the two parts exchanged as well: of the two, the one in which
    the earlier part's first variable stands for the lesser object is enough.

    Args:
        goal: the goal.
        order: the variables in the order in which they are bound; the answer has the indices.
    """
    parts: list[tuple[set, list[GoalAtom]]] = []
    for atom in goal.atoms:
        mine = set(zip(atom.kinds, atom.ids, strict=True))
        joined = [part for part in parts if part[0] & mine]
        parts = [part for part in parts if part not in joined]
        parts.append((mine.union(*(p[0] for p in joined)), [a for p in joined for a in p[1]] + [atom]))
    twins: dict[int, int] = {}
    seen: dict[tuple, int] = {}
    for variables, atoms in parts:
        names: dict[Variable, int] = {}
        signature = tuple(
            (a.predicate, *((k[0], names.setdefault(k, len(names))) for k in zip(a.kinds, a.ids, strict=True)))
            for a in atoms
        )
        types = {t for a in atoms for t in PREDICATE[a.predicate].types}
        if not types <= {"item", "station"} or not all(id_.isdigit() for _, id_ in variables):
            continue
        first = min(order.index(v) for v in variables)
        if signature in seen:
            earlier, later = sorted((first, seen[signature]))
            twins[later] = earlier
        seen[signature] = first
    return twins


def _numbers(signatures: Iterable[tuple]) -> list[int]:
    """Numbers the members so that two have the same number if they have the same signature."""
    known: dict[tuple, int] = {}
    return [known.setdefault(signature, len(known)) for signature in signatures]
