"""Which stations a task cannot do without, from its goal, its ingredients and the rules.

What makes an ingredient cooked, cut or fried, or fills and boils a pot, is read off the actions: a quality that some
action at a station brings about needs this station, and whatever that action itself asks for.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from stgrpo.envs.robotouille.kitchen.domain import ACTIONS, STATIONS, Action, parse_literals
from stgrpo.envs.robotouille.kitchen.kitchen import Thing
from stgrpo.envs.robotouille.kitchen.tasks import Task

_STATION_OF = {f"is{kind}": kind for kind in STATIONS}


@dataclass(frozen=True)
class Recipe:
    """How a quality comes about: at which kind of station, and which qualities the action for it asks for."""

    station: str
    needs: tuple[str, ...]


def _recipes(actions: Sequence[Action]) -> Mapping[str, Recipe]:
    recipes = {}
    for action in actions:
        asked = [literal.predicate for literal in action.preconditions if literal.value]
        stations = [_STATION_OF[predicate] for predicate in asked if predicate in _STATION_OF]
        made = [literal for s in action.specials for literal in parse_literals(s.results or s.effects) if literal.value]
        for literal in made:
            recipes[literal.predicate] = Recipe(stations[0], tuple(asked))
    return recipes


RECIPES = _recipes(ACTIONS)
"""Quality -> recipe. A predicate that is not here is given or comes about by carrying things."""


def required_stations(task: Task) -> tuple[str, ...]:
    """Returns the kinds of the stations a kitchen of this task must have, a kind as often as it needs different ones.

    These are the stations that the goal names, and one of each kind at which something has to be made. There is always
    a table.
    """
    default = task.default()
    things = (*default.items, *default.containers, *default.meals)
    pairs = {pair for atom in task.goal.atoms for pair in zip(atom.kinds, atom.ids, strict=True)}
    named = sorted(kind for kind, _ in pairs if kind in STATIONS)
    wanted = Counter((atom.predicate, atom.kinds[0]) for atom in task.goal.atoms)
    used = set().union(*(_made_at(quality, kind, count, things) for (quality, kind), count in wanted.items()))
    return tuple((named or ["table"]) + sorted(used - set(named)))


def _made_at(quality: str, kind: str, count: int, things: Sequence[Thing]) -> set[str]:
    """Returns the stations needed for so many things of a kind to get a quality; none if enough of them have it."""
    recipe = RECIPES.get(quality)
    if recipe is None or sum(t.kind == kind and quality in t.predicates for t in things) >= count:
        return set()
    return {recipe.station}.union(*(_made_at(need, kind, count, things) for need in recipe.needs))
