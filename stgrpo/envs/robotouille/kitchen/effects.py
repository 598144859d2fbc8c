"""The lasting effects of actions: cutting, cooking, frying, filling and boiling, quirks included.

Every step, an action launches or continues its own effects, and then every effect under way is updated once, in order.
One that completes is removed while the list is walked, so the effect after it misses that step: two patties put on at
once are not done at once.
"""

from functools import reduce
from operator import or_
from typing import NamedTuple

from stgrpo.envs.robotouille.kitchen.grounding import Grounding, GroundSpecial

_REMEMBERED = 1 << 14


class Pending(NamedTuple):
    """A lasting effect under way: which, how far its counter is, and whether it is complete but not yet removed."""

    effect: str
    count: int = 0
    done: bool = False


class _Known(NamedTuple):
    """The bits that an update of certain effects reads or writes, and by them what it led to."""

    touches: int
    results: dict[int, tuple[int, tuple[Pending, ...]]]


class EffectsUnderWay:
    """Updates the effects of one kitchen's states. What one update led to is remembered: it depends on few facts."""

    def __init__(self, grounding: Grounding):
        self._grounding = grounding
        self._known: dict[tuple[tuple[Pending, ...], tuple[GroundSpecial, ...]], _Known] = {}

    def update(
        self, facts: int, pending: tuple[Pending, ...], launched: tuple[GroundSpecial, ...]
    ) -> tuple[int, tuple[Pending, ...]]:
        """Returns the facts and the effects under way after a step.

        Args:
            facts: those after the immediate effects of the step's action.
            pending: the effects under way before it.
            launched: the effects of the action.
        """
        known = self._known.get((pending, launched))
        if known is None:
            known = self._remember(pending, launched)
        touched = facts & known.touches
        result = known.results.get(touched)
        if result is None:
            result = known.results[touched] = self._compute(touched, list(pending), launched)
        written, after = result
        return facts ^ touched | written, after

    def _remember(self, pending: tuple[Pending, ...], launched: tuple[GroundSpecial, ...]) -> _Known:
        if len(self._known) >= _REMEMBERED:
            self._known.clear()
        specials = [*launched, *(self._special(p) for p in pending)]
        known = self._known[pending, launched] = _Known(
            reduce(or_, (special.touches for special in specials), sum(self._grounding.created)), {}
        )
        return known

    def _special(self, pending: Pending) -> GroundSpecial:
        return self._grounding.specials.get(pending.effect) or self._grounding.special(pending.effect)

    def _compute(
        self, facts: int, pending: list[Pending], launched: tuple[GroundSpecial, ...]
    ) -> tuple[int, tuple[Pending, ...]]:
        for special in launched:
            index = next((i for i, p in enumerate(pending) if p.effect == special.name), len(pending))
            if index == len(pending):
                pending.append(Pending(special.name))
            facts, pending[index] = self._advance(facts, pending[index], active=True)
        index = 0
        while index < len(pending):
            facts, pending[index] = self._advance(facts, pending[index], active=False)
            if pending[index].done:
                del pending[index]
            index += 1
        return facts, tuple(pending)

    def _advance(self, facts: int, pending: Pending, *, active: bool) -> tuple[int, Pending]:
        """Updates one effect; `active` while its own action is performed: only repetitions count then."""
        special = self._special(pending)
        if special.repeats:
            if pending.done or not active:
                return facts, pending
            count = pending.count + 1
        else:
            holds = special.possible and facts & special.conditions == special.conditions
            add, delete = special.effects if holds else reversed(special.effects)
            facts = facts & ~delete | add
            if not holds:
                return facts, pending
            if not special.delay:
                return facts, pending._replace(done=True)
            if pending.done or active:
                return facts, pending
            count = pending.count + 1
        done = count == (special.repeats or special.delay)
        if done:
            add, delete = self._results(special, facts)
            facts = facts & ~delete | add
        return facts, Pending(pending.effect, count, done)

    def _results(self, special: GroundSpecial, facts: int) -> tuple[int, int]:
        if len(special.results) == 1:
            return special.results[0]
        return next(r for r, bit in zip(special.results, self._grounding.created, strict=True) if not facts & bit)
