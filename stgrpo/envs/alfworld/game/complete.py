"""Facts and a goal, made a whole PDDL problem that the package's planner reads: with a declaration of every name."""

import re
from collections.abc import Iterator

from stgrpo.envs.alfworld.game.room import KNIVES, TREATMENTS

_SIGNATURES = {  # the types of a predicate's arguments; all other predicates are of one object
    "receptacletype": ("receptacle", "rtype"),
    "objecttype": ("object", "otype"),
    "receptacleatlocation": ("receptacle", "location"),
    "objectatlocation": ("object", "location"),
    "atlocation": ("agent", "location"),
    "inreceptacle": ("object", "receptacle"),
    "inreceptacleobject": ("object", "object"),
    "cancontain": ("rtype", "otype"),
    "openable": ("receptacle",),
    "opened": ("receptacle",),
}
_TYPE_OF = {"receptacletype": "rtype", "objecttype": "otype"}
_FACT = re.compile(r"\((\w+)((?:\s+[\w.-]+)+)\s*\)")
_OF_GOAL = re.compile(r"(receptacletype|objecttype) \?\w+ (\w+)")


def complete_problem(problem: str) -> str:
    """Returns a whole problem, in small letters.

    Args:
        problem: (:init ...) and (:goal ...), and whatever stands around them.
    """
    init, _, goal = problem.lower().partition("(:init")[2].partition("(:goal")
    declared: dict[str, str] = {}  # a sink is an object too, but its type is that of a receptacle in the rules
    for name, kind in (*_names_of_domain(), *_names_of_facts(init), *_names_of_goal(goal)):
        declared.setdefault(name, kind)
    objects = "\n".join(f"{name} - {kind}" for name, kind in declared.items())
    head = f"(define (problem game)\n(:domain alfred)\n(:objects\n{objects}\n)\n"
    return f"{head}(:init\n(= (total-cost) 0)\n{init.strip().removesuffix(')')}\n)\n(:goal{goal}"


def _names_of_facts(init: str) -> Iterator[tuple[str, str]]:
    for predicate, arguments in _FACT.findall(init):
        yield from zip(arguments.split(), _SIGNATURES.get(predicate, ("object",)), strict=True)


def _names_of_goal(goal: str) -> Iterator[tuple[str, str]]:
    """Types that a goal names, be there anything of them or not."""
    for predicate, name in _OF_GOAL.findall(goal):
        yield name, _TYPE_OF[predicate]


def _names_of_domain() -> Iterator[tuple[str, str]]:
    """Types that the rules name."""
    for treatment in TREATMENTS:
        yield from ((f"{station}type", "rtype") for station in treatment.stations)
    yield from ((f"{knife}type", "otype") for knife in KNIVES)
