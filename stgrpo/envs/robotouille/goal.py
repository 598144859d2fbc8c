"""Tests a goal with variables against a set of facts.

The benchmark expands a goal into all its bindings (up to tens of thousands); here each atom has one mask of all its
possible groundings, which rejects nearly every state at once, and only states that pass it are joined atom by atom.
"""

from itertools import product

from stgrpo.envs.robotouille.domain import CHANGING, PREDICATE
from stgrpo.envs.robotouille.grounding import Grounding
from stgrpo.envs.robotouille.kitchen import Goal, GoalAtom

Variable = tuple[str, str]
_ALWAYS = -1


class GoalTest:
    """The goal of one kitchen."""

    def __init__(self, goal: Goal, grounding: Grounding):
        self.variables: dict[Variable, tuple[str, ...]] = {}
        for atom in goal.atoms:
            for kind, id_ in zip(atom.kinds, atom.ids, strict=True):
                self.variables[kind, id_] = _candidates(kind, id_, grounding)
        options = [self._groundings(atom, grounding) for atom in goal.atoms]
        self._atoms = sorted(zip(goal.atoms, options, strict=True), key=lambda pair: len(pair[1]))
        self._any = [
            sum({bit for _, bit in option}) for _, option in self._atoms if not any(bit < 0 for _, bit in option)
        ]

    def _groundings(self, atom: GoalAtom, grounding: Grounding) -> list[tuple[tuple[str, ...], int]]:
        """Returns (objects, bit) for each way this atom can be true; `_ALWAYS` for what holds for good."""
        types = PREDICATE[atom.predicate].types
        found = []
        for args in product(*(self.variables[key] for key in zip(atom.kinds, atom.ids, strict=True))):
            if any(grounding.types[arg] != type_ for arg, type_ in zip(args, types, strict=True)):
                continue
            if atom.predicate in CHANGING:
                bit = grounding.bits.get((atom.predicate, args), 0)
            else:
                bit = _ALWAYS if (atom.predicate, args) in grounding.static else 0
            if bit:
                found.append((args, bit))
        return found

    def holds(self, facts: int) -> bool:
        """Says whether some binding of the variables makes every atom true."""
        for mask in self._any:
            if not facts & mask:
                return False
        return self._join(facts, 0, {})

    def _join(self, facts: int, index: int, bound: dict[Variable, str]) -> bool:
        if index == len(self._atoms):
            return True
        atom, options = self._atoms[index]
        for args, bit in options:
            if bit > 0 and not facts & bit:
                continue
            extended = _extend(bound, tuple(zip(atom.kinds, atom.ids, strict=True)), args)
            if extended is not None and self._join(facts, index + 1, extended):
                return True
        return False


def _candidates(kind: str, id_: str, grounding: Grounding) -> tuple[str, ...]:
    """The objects a variable may stand for: those whose name contains the kind, as in the benchmark."""
    if not id_.isdigit():
        return (grounding.ids[id_],) if id_ in grounding.ids else ()
    return tuple(name for name in grounding.types if kind in name)


def _extend(
    bound: dict[Variable, str], variables: tuple[Variable, ...], args: tuple[str, ...]
) -> dict[Variable, str] | None:
    """Returns the binding with these variables too, or None where it contradicts."""
    extended = dict(bound)
    for variable, value in zip(variables, args, strict=True):
        if extended.get(variable, value) != value:
            return None
        if any(v == value and key[0] == variable[0] and key != variable for key, v in extended.items()):
            return None
        extended[variable] = value
    return extended
