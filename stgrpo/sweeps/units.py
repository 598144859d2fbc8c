"""What is done once in a sweep, for which points: a tree of work directories, each begins with what another made."""

import dataclasses
from collections.abc import Mapping, Sequence

from stgrpo.errors import UserError, nearest
from stgrpo.sweeps.plan import Plan
from stgrpo.workdir.keys import IN_SUITES, WITHOUT, counting, stage_key

LEVELS = ("collect", "sft", "grpo")
"""Stages whose outcome several points may have in common, in their order."""


@dataclasses.dataclass(frozen=True)
class Unit:
    """One work directory of a sweep, and what is done in it.

    Attributes:
        name: of its folder: shared/STAGE-KEY, or points/NAME.
        point: whose config it is done by; of one that is shared, the first of its points.
        stages: commands, in order; those before them came from the parent.
        given: stages whose outcome comes from the parent.
        parent: name of the unit that it begins with; empty for none.
        depth: how many units are before it.
    """

    name: str
    point: str
    stages: tuple[str, ...]
    given: tuple[str, ...] = ()
    parent: str = ""
    depth: int = 0


def units_of(plan: Plan) -> list[Unit]:
    """The units of a sweep, parents before their children.

    A stage has a unit of its own where all that it depends on is the same for two points or more, and not for the same
    ones as a later stage.
    """
    fields = {point: plan.fields_of(point) for point in plan.points}
    keys = {point: [stage_key(values, level) for level in LEVELS] for point, values in fields.items()}
    units: list[Unit] = []
    _grow(units, list(plan.points), keys, None)
    return [_with_evaluation(unit, keys, fields) for unit in units]


def find(units: Sequence[Unit], name: str) -> Unit:
    """The unit of a name.

    Raises:
        UserError: there is none.
    """
    found = {unit.name: unit for unit in units}
    if name not in found:
        raise UserError(f"--only={name} is no part of this sweep: {nearest(name, found)}")
    return found[name]


def _grow(units: list[Unit], points: list[str], keys: Mapping[str, list[str]], parent: Unit | None) -> None:
    """Adds the units of some points that have all of `parent` in common, and of what they have in common beyond it."""
    if len(points) == 1:
        units.append(_child(f"points/{points[0]}", points[0], ("run",), parent))
        return
    done = len(parent.given) + len(_trained(parent)) if parent else 0
    most = max((n for n in range(len(LEVELS) + 1) if len({tuple(keys[p][:n]) for p in points}) == 1), default=0)
    if most > done:
        stage = LEVELS[most - 1]
        parent = _child(f"shared/{stage}-{keys[points[0]][most - 1]}", points[0], LEVELS[done:most], parent)
        units.append(parent)
    if most == len(LEVELS):
        units += [_child(f"points/{point}", point, ("run",), parent) for point in points]
        return
    groups: dict[str, list[str]] = {}
    for point in points:
        groups.setdefault(keys[point][most], []).append(point)
    for group in groups.values():
        _grow(units, group, keys, parent)


def _child(name: str, point: str, stages: tuple[str, ...], parent: Unit | None) -> Unit:
    if parent is None:
        return Unit(name, point, stages)
    return Unit(name, point, stages, (*parent.given, *_trained(parent)), parent.name, parent.depth + 1)


def _trained(unit: Unit) -> tuple[str, ...]:
    return tuple(stage for stage in unit.stages if stage in LEVELS)


def _with_evaluation(unit: Unit, keys: Mapping[str, list[str]], fields: Mapping[str, dict]) -> Unit:
    """The same unit; one that trains an SFT policy plays with it too, where all its points would do so alike."""
    if unit.stages[-1] != "sft" or fields[unit.point]["policy"]["kind"] != "checkpoint":
        return unit
    mine = [p for p in keys if keys[p][:2] == keys[unit.point][:2]]
    without = [field for field in WITHOUT["checkpoint"] if field not in IN_SUITES]
    alike = {str(counting(fields[p], without)) for p in mine}
    return dataclasses.replace(unit, stages=(*unit.stages, "evaluate")) if len(alike) == 1 else unit
