"""Tests a goal with variables against a set of facts.

The benchmark expands a goal into all its bindings (up to billions); here each atom has one mask of all its possible
groundings, which rejects nearly every state at once, and only states that pass it are joined atom by atom.

What a variable may stand for is settled at the start, as in the benchmark: the things of its kind that the kitchen
starts with or, where it has none, the first that will be made, as many as the goal has variables of this kind. A goal
that wants water in a bowl thus means `water1`; water that is filled after it does not count.
"""

from collections.abc import Iterator, Sequence
from itertools import product

from stgrpo.envs.robotouille.domain import CHANGING
from stgrpo.envs.robotouille.grounding import Grounding
from stgrpo.envs.robotouille.kitchen import Goal, GoalAtom

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


def _variables(atom: GoalAtom) -> tuple[Variable, ...]:
    return tuple(zip(atom.kinds, atom.ids, strict=True))


def _candidates(variables: Sequence[Variable], grounding: Grounding) -> dict[Variable, tuple[str, ...]]:
    """Returns the objects that each variable may stand for."""
    found = {}
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
    """Returns the binding with these variables too, or None where it contradicts.

    Numbers of one kind are different objects; a thing that the goal calls by its own id may be one of them.
    """
    extended = dict(bound)
    for variable, value in zip(variables, args, strict=True):
        if extended.get(variable, value) != value:
            return None
        kind, id_ = variable
        rivals = (k for k, v in extended.items() if v == value and k[0] == kind and k != variable)
        if id_.isdigit() and any(other.isdigit() for _, other in rivals):
            return None
        extended[variable] = value
    return extended
