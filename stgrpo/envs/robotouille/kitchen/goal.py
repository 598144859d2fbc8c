"""Tests a goal with variables against a set of facts.

The benchmark expands a goal into all its bindings (up to billions); here each atom has one mask of all its possible
groundings, which rejects nearly every state at once, and only states that pass it are joined atom by atom.

What a variable may stand for is settled at the start, as in the benchmark: the things of its kind that the kitchen
starts with or, where it has none, the first that will be made, as many as the goal has variables of this kind. A goal
that wants water in a bowl thus means `water1`; water that is filled after it does not count.
"""

from collections.abc import Collection, Iterator, Sequence
from itertools import product

from stgrpo.envs.robotouille.kitchen.domain import CHANGING
from stgrpo.envs.robotouille.kitchen.grounding import Grounding
from stgrpo.envs.robotouille.kitchen.kitchen import Goal, GoalAtom

Variable = tuple[str, str]
Option = tuple[tuple[str, ...], int]
_ALWAYS = -1


class GoalTest:
    """The goal of one kitchen."""

    def __init__(self, goal: Goal, grounding: Grounding):
        variables = [_variables(atom) for atom in goal.atoms]
        stand_for = _candidates(dict.fromkeys(pair for pairs in variables for pair in pairs), grounding)
        options: dict[tuple[str | tuple[str, ...], ...], list[Option]] = {}
        self._atoms = []
        for atom, pairs in zip(goal.atoms, variables, strict=True):
            choices = [stand_for[pair] for pair in pairs]
            key = (atom.predicate, *choices)
            if key not in options:
                options[key] = list(_groundings(atom.predicate, choices, grounding))
            self._atoms.append((pairs, options[key]))
        self._atoms.sort(key=lambda atom: len(atom[1]))
        masks = (sum(bit for _, bit in o) for o in options.values() if all(bit != _ALWAYS for _, bit in o))
        self._any = tuple(masks)

    def holds(self, facts: int) -> bool:
        """Says whether some binding of the variables makes every atom true."""
        for mask in self._any:
            if not facts & mask:
                return False
        return self._join(facts, 0, {})

    def _join(self, facts: int, index: int, bound: dict[Variable, str]) -> bool:
        if index == len(self._atoms):
            return True
        variables, options = self._atoms[index]
        for args, bit in options:
            if bit > 0 and not facts & bit:
                continue
            extended = _extend(bound, variables, args)
            if extended is not None and self._join(facts, index + 1, extended):
                return True
        return False


def distinct(a: Variable, b: Variable) -> bool:
    """Whether two variables must stand for different objects: numbers of one kind must, a thing's own id need not."""
    return a != b and a[0] == b[0] and a[1].isdigit() and b[1].isdigit()


def separable(goal: Goal) -> Goal:
    """The part of a goal whose variables of one kind all stand for different objects.

    Where a kind has numbers beside a thing's own id, that thing may be one of the numbered ones, so what is asked of
    these is left out: less is asked, and a bound on it is one on the whole.
    """
    own = {kind for atom in goal.atoms for kind, id_ in _variables(atom) if not id_.isdigit()}
    kept = (a for a in goal.atoms if not any(id_.isdigit() and kind in own for kind, id_ in _variables(a)))
    return Goal(goal.text, tuple(kept))


def _variables(atom: GoalAtom) -> tuple[Variable, ...]:
    return tuple(zip(atom.kinds, atom.ids, strict=True))


def _candidates(variables: Collection[Variable], grounding: Grounding) -> dict[Variable, tuple[str, ...]]:
    """Returns the objects that each variable may stand for."""
    found: dict[Variable, tuple[str, ...]] = {}
    for kind, id_ in variables:
        if not id_.isdigit():
            found[kind, id_] = (grounding.ids[id_],) if id_ in grounding.ids else ()
            continue
        number = sum(other == kind and i.isdigit() for other, i in variables)
        made = tuple(f"{kind}{i + 1}" for i in range(number))
        found[kind, id_] = grounding.given.get(kind, made)
    return found


def _groundings(predicate: str, choices: Sequence[tuple[str, ...]], grounding: Grounding) -> Iterator[Option]:
    """Yields (objects, bit) for each way an atom can be true; `_ALWAYS` for what holds for good."""
    for args in product(*choices):
        if predicate in CHANGING:
            bit = grounding.bits.get((predicate, args), 0)
        else:
            bit = _ALWAYS if (predicate, args) in grounding.static else 0
        if bit:
            yield args, bit


def _extend(
    bound: dict[Variable, str], variables: tuple[Variable, ...], args: tuple[str, ...]
) -> dict[Variable, str] | None:
    """Returns the binding with these variables too, or None where it contradicts."""
    extended = dict(bound)
    for variable, value in zip(variables, args, strict=True):
        if extended.get(variable, value) != value:
            return None
        if any(v == value and distinct(variable, other) for other, v in extended.items()):
            return None
        extended[variable] = value
    return extended
