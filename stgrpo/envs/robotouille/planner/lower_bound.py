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
more waiting than a move, or is lifted more often than its processes ask and comes back to such a station. A plan starts
without a move only if its first manipulation is here: if something is in the hand, this puts it down, and where that is
of no use it has to be lifted once more, which costs more than the move.

Stations. To be processed, a thing is put on a station where nothing is: if none of the kind is free, what is on one of
them is lifted; likewise what is where something must stand at the bottom. Containers are lifted for that too, unless
their lifts are counted with the soup. Things that so wait for each other are the business of `transfers.py`.

Time. A process under way or to come has steps that must be done before it starts and steps that can only follow; its
duration lies between them. The bound is the greater of the work and the longest of these chains, and the least over all
bindings of the goal's variables to objects.
"""

from collections.abc import Sequence

from stgrpo.envs.robotouille.kitchen.grounding import Grounding
from stgrpo.envs.robotouille.kitchen.kitchen import Goal
from stgrpo.envs.robotouille.planner.goal_bindings import GoalBindings, Requirement
from stgrpo.envs.robotouille.planner.remaining_work import NO_SUMS, Binding, RemainingWork, Sums
from stgrpo.envs.robotouille.planner.requirements import UNREACHABLE
from stgrpo.envs.robotouille.planner.state_view import View, Viewer

_MOST_NODES = 5000
"""Partial bindings that one question looks at before it gives up and takes the floor for the bound."""


class WorkBound:
    """The lower bound of this module for one kitchen. Parts of a goal that it does not know are left out of it.

    Attributes:
        asked: the goal as the bound sees it.
    """

    def __init__(self, goal: Goal, grounding: Grounding, viewer: Viewer):
        self.asked = GoalBindings(goal, grounding, viewer)

    def __call__(self, view: View, *, moved: bool) -> tuple[int, Binding | None]:
        """Returns the bound for a state that is not a goal, `UNREACHABLE` if it has no plan, and the binding it is of.

        Args:
            view: the state.
            moved: the next manipulation is at another station than the robot is.
        """
        value, binding = 0, None
        while binding is None and value < UNREACHABLE:
            value, binding = self.at_least(view, moved=moved, floor=value)
        return value, binding

    def at_least(
        self, view: View, *, moved: bool, floor: int, hint: Binding | None = None
    ) -> tuple[int, Binding | None]:
        """Asks whether the bound is more than `floor`, which is known to be a bound; that is quick if it is not.

        Args:
            view: the state, not a goal.
            moved: the next manipulation is at another station than the robot is.
            floor: the known bound.
            hint: a binding that is likely to be good, such as that of the state before.

        Returns:
            The floor and a binding that needs no more; or a greater bound, not always the greatest there is, and None;
            or, if there are too many bindings to tell, the floor and an empty binding.
        """
        return _Bindings(RemainingWork(self.asked, view, moved=moved), view, floor).least(hint)

    def shows(self, hint: Binding, view: View, *, moved: bool, floor: int) -> bool:
        """Says whether this binding needs no more than the floor."""
        if not hint:
            return False
        chores = RemainingWork(self.asked, view, moved=moved)
        return chores.soup.chain <= floor and _Bindings(chores, view, floor).shows(hint)


class _Bindings:
    """Branch and bound over the bindings for one view, for one that needs no more than the floor."""

    def __init__(self, chores: RemainingWork, view: View, floor: int):
        self._asked, self._chores, self._view = chores.asked, chores, view
        self._floor, self._pruned = max(floor, chores.soup.chain), UNREACHABLE
        self._found: Binding | None = None
        self._nodes = 0
        self._own: list[list[tuple] | None] = [None] * len(self._asked.groups)

    def least(self, hint: Binding | None) -> tuple[int, Binding | None]:
        """Returns the floor and a binding, or what the bindings need at the least and None."""
        if hint and self.shows(hint):
            return self._floor, hint
        self._candidates = self._choices()
        self._items, self._stations = self._alike()
        self._descend(0, {}, NO_SUMS)
        return (self._pruned, None) if self._found is None else (self._floor, self._found)

    def shows(self, binding: Binding) -> bool:
        """Says whether this binding needs no more than the floor."""
        sums, bound = NO_SUMS, {}
        for step in self._asked.steps:
            for v in step.new:
                bound[v] = binding[v]
            sums = self._chores.place(step, bound, sums)
            if sums is None:
                return False
        return self._chores.total(bound, sums, self._floor) <= self._floor

    def _choices(self) -> list[Sequence[int]]:
        """Leaves out stations whose bottom is of no use where enough are empty: an empty one asks for no more."""
        asked, view = self._asked, self._view
        choices: list[Sequence[int]] = list(asked.candidates)
        for v in asked.supports:
            empty = sum(not view.stacks[s] and s not in view.stands for s in choices[v])
            if v in asked.bottoms and empty >= len(asked.supports):
                fit = asked.candidates[asked.bottoms[v]]
                choices[v] = [s for s in choices[v] if s not in view.stands]
                choices[v] = [s for s in choices[v] if not view.stacks[s] or view.stacks[s][0] in fit]
        return choices

    def _alike(self) -> tuple[dict[int, list[tuple]], dict[int, list[tuple]]]:
        """For items that each stand alone on a station, and these stations: the (item, station) that are the same.

        Exchanging two of them changes the state in nothing but names. Empty stations are listed with item -1. Where the
        robot is matters only for what it holds.
        """
        asked, view = self._asked, self._view
        timed = {t.thing for t in view.timers if t.vessel < 0}
        classes: dict[tuple, list[tuple]] = {}
        for station, stack in enumerate(view.stacks):
            kind = asked.station_classes[station], view.held >= 0 and station == view.robot
            if not stack and station not in view.stands:
                classes.setdefault(kind, []).append((-1, station))
            elif len(stack) == 1 and stack[0] not in timed:
                item = stack[0]
                done = (view.cut >> item & 1, view.cooked >> item & 1, view.fried >> item & 1)
                classes.setdefault((*kind, asked.item_classes[item], *done), []).append((item, station))
        several = [sorted(members) for members in classes.values() if len(members) > 1]
        items = {item: members for members in several for item, _ in members if item >= 0}
        return items, {station: members for members in several for _, station in members}

    def _is_first(self, variable: int, value: int, binding: Binding) -> bool:
        """Says whether all before it of those that are the same are bound already: one order of them is enough."""
        is_item, alike = self._asked.is_item, self._items if self._asked.is_item[variable] else self._stations
        for item, station in alike.get(value, ()):
            if value == (item if is_item[variable] else station):
                return True
            if not any(bound == (item if is_item[v] else station) for v, bound in binding.items()):
                return False
        return True

    def _descend(self, index: int, bound: Binding, sums: Sums) -> None:
        asked, chores, floor = self._asked, self._chores, self._floor
        self._nodes += 1
        if self._nodes > _MOST_NODES:
            self._found = {}
            return
        if index == len(asked.steps):
            total = chores.total(bound, sums, floor)
            if total <= floor:
                self._found = bound
            self._pruned = min(self._pruned, total)
            return
        step = asked.steps[index]
        options = []
        for number, binding in enumerate(self._bindings(step.new, bound)):
            after = chores.place(step, binding, sums)
            if after is None:
                continue
            cost = after.cost
            least = cost + chores.base - chores.last_lift(binding, after.once) + (2 if chores.held and cost else 0)
            if least <= floor:
                least += self._rest(index + 1, binding, after)
            if least <= floor:
                options.append((least, number, binding, after))
            else:
                self._pruned = min(self._pruned, least)
        options.sort(key=lambda option: option[:2])
        for _, _, binding, after in options:
            self._descend(index + 1, binding, after)
            if self._found is not None:
                return

    def _rest(self, index: int, binding: Binding, sums: Sums) -> int:
        """Returns a lower bound on what the requirements from `index` on will add: distinct items, each at its least.

        Variables of one kind share their candidates: the cheapest of these, as many as there are variables, are summed.
        """
        once, twice, thrice, _ = sums
        held, total = self._chores.held, 0
        for group, variables in self._asked.groups_left[index]:
            owns = self._own[group]
            if owns is None:
                owns = self._own[group] = self._owns(self._asked.groups[group])
            costs, wanted = [], len(self._asked.groups[group])
            taken = [binding[v] for v in variables if v in binding]
            for item, bit, steps, options in owns:
                if item in taken:
                    continue
                least = UNREACHABLE
                for support, lifts, unmet, places in options:
                    place = binding.get(support, -1)
                    if lifts < 1 and not bit & held and (unmet != place if place >= 0 else unmet not in places):
                        lifts = 1
                    if lifts < least:
                        least = lifts
                if bit & once:
                    least -= 1 + (twice >> item & 1) + (thrice >> item & 1)
                costs.append(steps + 4 * least if least > 0 else steps)
            if len(costs) < wanted:
                return UNREACHABLE
            if len(costs) > wanted:
                costs.sort()
            total += sum(costs[:wanted])
        return total

    def _owns(self, group: tuple[Requirement, ...]) -> list[tuple]:
        """For each item that one of these requirements may bind: what it needs at the least, whatever the rest."""
        found: dict[int, list] = {}
        for step in group:
            for item in self._candidates[step.item]:
                own = self._chores.own(step, item)
                if own is not None:
                    found.setdefault(item, []).append((own[0], (step.support, *own[1:])))
        return [
            (item, 1 << item, min(own[0] for own in owns), [own[1] for own in owns]) for item, owns in found.items()
        ]

    def _bindings(self, new: tuple[int, ...], bound: Binding) -> list[Binding]:
        bindings = [bound]
        for variable in new:
            rivals = self._asked.rivals[variable]
            bindings = [
                {**binding, variable: value}
                for binding in bindings
                for value in self._candidates[variable]
                if not any(binding.get(rival) == value for rival in rivals) and self._is_first(variable, value, binding)
            ]
            twin = self._asked.twins.get(variable)
            if twin is not None:
                bindings = [b for b in bindings if b.get(twin, -1) < b[variable]]
        return bindings
