"""What is true of a kitchen at the start, and what may yet come into being."""

import itertools
from collections.abc import Mapping

from stgrpo.envs.robotouille.kitchen.domain import PREDICATE
from stgrpo.envs.robotouille.kitchen.kitchen import Kitchen, Thing

Atom = tuple[str, tuple[str, ...]]
Things = tuple[tuple[str, str, Thing], ...]


def meals_possible(kitchen: Kitchen) -> int:
    """Returns a bound on the meals there can ever be: the given ones, and what the sinks can still fill.

    A pot can be set to fill at each sink while it is empty, and is empty again only once its water is in a bowl, which
    stays full: so there are at most as many fillings at a sink as pots and bowls.
    """
    sinks = sum(station.kind == "sink" for station in kitchen.stations)
    pots = any(container.kind == "pot" for container in kitchen.containers)
    return len(kitchen.meals) + (sinks * len(kitchen.containers) if pots else 0)


def start_atoms(kitchen: Kitchen) -> set[Atom]:
    """Returns all atoms true at the start."""
    things = kitchen.things()
    by_cell = {(t.x, t.y): name for name, type_, t in things if type_ == "station"}
    robot = next(name for name, type_, _ in things if type_ == "player")
    facts: set[Atom] = {("loc", (robot, by_cell[kitchen.facing]))}
    for name, type_, thing in things:
        if f"is{thing.kind}" in PREDICATE:
            facts.add((f"is{thing.kind}", (name,)))
        facts.update((predicate, (name,)) for predicate in thing.predicates)
        if type_ == "item" and (thing.x, thing.y) in by_cell:
            facts.add(("item_at", (name, by_cell[thing.x, thing.y])))
        elif type_ == "container" and (thing.x, thing.y) in by_cell:
            facts.add(("container_at", (name, by_cell[thing.x, thing.y])))
    facts |= _start_stacks(things, by_cell) | _start_meals(things) | {_start_hand(things, kitchen.robot, robot)}
    used = {args[-1] for name, args in facts if name in ("item_at", "container_at")}
    facts |= {("station_empty", (s,)) for s in by_cell.values() if s not in used}
    facts |= {("vacant", (s,)) for s in by_cell.values() if s != by_cell[kitchen.facing]}
    return facts


def _start_hand(things: Things, robot: Thing, name: str) -> Atom:
    """Returns what the robot holds: the first item in its cell, else the first container, and of others nothing."""
    cell = (robot.x, robot.y)
    for wanted in ("item", "container"):
        for held, type_, thing in things:
            if type_ == wanted and (thing.x, thing.y) == cell:
                return f"has_{type_}", (name, held)
    return "nothing", (name,)


def _start_stacks(things: Things, by_cell: Mapping[tuple[int, int], str]) -> set[Atom]:
    facts: set[Atom] = set()
    stacks: dict[str, list[tuple[int, str]]] = {}
    for name, type_, thing in things:
        if type_ == "item" and (thing.x, thing.y) in by_cell:
            stacks.setdefault(by_cell[thing.x, thing.y], []).append((thing.level, name))
    for station, stack in stacks.items():
        names = [name for _, name in sorted(stack, key=lambda pair: pair[0])]
        facts |= {("item_on", (names[0], station)), ("clear", (names[-1],))}
        facts |= {("atop", (above, below)) for below, above in itertools.pairwise(names)}
    return facts


def _start_meals(things: Things) -> set[Atom]:
    containers = [(name, (t.x, t.y)) for name, type_, t in things if type_ == "container"]
    meals = [(name, (t.x, t.y)) for name, type_, t in things if type_ == "meal"]
    facts: set[Atom] = {("in", (meal, container)) for meal, cell in meals for container, at in containers if at == cell}
    filled = {args[1] for _, args in facts}
    return facts | {("container_empty", (name,)) for name, _ in containers if name not in filled}
