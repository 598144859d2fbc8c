"""A kitchen in the benchmark's own notation, its environment JSON: read, checked and written."""

import random
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from stgrpo.envs.robotouille.kitchen.domain import KINDS, PREDICATE
from stgrpo.envs.robotouille.kitchen.kitchen import Goal, GoalAtom, Kitchen, Thing, one_kind_an_id
from stgrpo.errors import UserError, nearest
from stgrpo.files import from_json

Entry = dict[str, object]
FIELDS = {"station": "stations", "item": "items", "player": "players", "container": "containers", "meal": "meals"}
EXAMPLES = "see the benchmark's environments/env_generator/examples"


def kitchen_from_json(source: Mapping | str | Path, *, seed: int = 0) -> Kitchen:
    """Reads an environment in the benchmark's JSON format, from a dict or a file.

    Args:
        source: its content, or the path of the file.
        seed: of the kinds of wildcards; without them it has no effect.

    Raises:
        UserError: it is not such an environment, or needs what this engine does not have (a second player).
    """
    where = "environment JSON" if isinstance(source, Mapping) else f"environment {str(source)!r}"
    try:
        return _kitchen(source if isinstance(source, Mapping) else _read(source), seed)
    except KeyError as error:
        raise UserError(f"{where}: {error} is missing; {EXAMPLES}") from error
    except (TypeError, AttributeError, ValueError) as error:
        raise UserError(f"{where}: malformed ({error}); {EXAMPLES}") from error
    except OSError as error:
        raise UserError(f"{where}: {error.strerror}; give the path of an environment JSON") from error
    except _Mistake as error:
        raise UserError(f"{where}: {error}") from error


class _Mistake(Exception):
    """What is wrong with an environment, and the fix."""


def _kitchen(data: Mapping, seed: int) -> Kitchen:
    fields = {type_: tuple(map(_thing, data.get(name) or ())) for type_, name in FIELDS.items()}
    turned = [_direction(entry) for entry in data["players"]]
    atoms = [GoalAtom(g["predicate"], tuple(g["args"]), tuple(map(str, g["ids"]))) for g in data["goal"]]
    if len(turned) != 1:
        raise _Mistake(f"{len(turned)} players, but exactly 1 is supported; leave one")
    fields, text = _draw_wildcards(fields, seed), data["goal_description"]
    for mistake in (*_things_mistakes(fields), *_goal_mistakes(atoms, text, fields)):
        raise _Mistake(mistake)
    (robot,), ((dx, dy),) = fields["player"], turned
    facing, goal = (robot.x + dx, robot.y + dy), Goal(text, one_kind_an_id(atoms))
    if facing not in {(station.x, station.y) for station in fields["station"]}:
        raise _Mistake(f"the robot faces {facing}, where no station is; turn or move it")
    return Kitchen(fields["station"], fields["item"], robot, facing, goal, fields["container"], fields["meal"])


def _read(path: str | Path) -> Mapping:
    data = from_json(Path(path).read_text(encoding="utf-8"))
    if not isinstance(data, Mapping):
        raise TypeError(f"a {type(data).__name__}, not an object")
    return data


def _thing(entry: Mapping) -> Thing:
    level = entry.get("stack-level") or 0
    if not all(type(number) is int for number in (entry["x"], entry["y"], level)):
        raise TypeError(f"x, y and stack-level of {entry['name']!r} must be whole numbers")
    predicates = tuple(entry.get("predicates") or ())
    return Thing(entry["name"], entry["x"], entry["y"], level, predicates, str(entry.get("id", "")))


def _direction(entry: Mapping) -> tuple[int, int]:
    x, y = entry["direction"]
    if not type(x) is type(y) is int:
        raise TypeError(f"the direction of {entry['name']!r} must be two whole numbers")
    return x, y


def _draw_wildcards(fields: Mapping[str, tuple[Thing, ...]], seed: int) -> dict[str, tuple[Thing, ...]]:
    """Makes each thing that is called by its type alone ("station", "item", "container") one of a kind of this type."""
    rng = random.Random(f"wildcards/{seed}")  # a string seeds alike on every platform
    return {
        type_: tuple(replace(t, kind=rng.choice(KINDS[type_])) if t.kind == type_ else t for t in things)
        for type_, things in fields.items()
    }


def _things_mistakes(fields: Mapping[str, tuple[Thing, ...]]) -> Iterator[str]:
    for type_, things in fields.items():
        unary = [predicate.name for predicate in PREDICATE.values() if predicate.types == (type_,)]
        for thing in things:
            where = f"at ({thing.x}, {thing.y})"
            if thing.kind not in KINDS[type_]:
                yield f"{thing.kind!r} {where} is no {type_}; {nearest(thing.kind, KINDS[type_])}"
            for predicate in thing.predicates:
                if predicate not in unary:
                    yield f"{thing.kind} {where}: unknown predicate {predicate!r}; {nearest(predicate, unary)}"
    cells = Counter((station.x, station.y) for station in fields["station"])
    yield from (f"{count} stations at {cell}; leave one" for cell, count in cells.items() if count > 1)


def _goal_mistakes(atoms: list[GoalAtom], text: object, fields: Mapping[str, tuple[Thing, ...]]) -> Iterator[str]:
    if not isinstance(text, str):
        yield f"goal_description {text!r} is no text; say in words what the goal is"
    types = {kind: type_ for type_, kinds in KINDS.items() for kind in (type_, *kinds)}
    for atom in atoms:
        predicate = PREDICATE.get(atom.predicate)
        if predicate is None:
            yield f"goal: unknown predicate {atom.predicate!r}; {nearest(atom.predicate, PREDICATE)}"
        elif not len(atom.kinds) == len(atom.ids) == len(predicate.types):
            yield (
                f"goal: {atom.predicate} has {len(atom.kinds)} args and {len(atom.ids)} ids; "
                f"give {len(predicate.types)} of each ({', '.join(predicate.types)})"
            )
        for kind, id_ in zip(atom.kinds, atom.ids, strict=False):
            if kind not in types:
                yield f"goal: unknown kind {kind!r} in {atom.predicate}; {nearest(kind, types)}"
                continue
            owners = [t for things in fields.values() for t in things if t.id == id_]
            if not id_.isdigit() and (len(owners) != 1 or owners[0] not in fields[types[kind]]):
                yield f"goal: {len(owners)} things have the id {id_!r}; give it to exactly one {types[kind]}"


def kitchen_to_json(kitchen: Kitchen) -> dict[str, object]:
    """Returns the environment JSON of a kitchen; `kitchen_from_json` of it is the same kitchen.

    Every list is there, also an empty one: the benchmark's builder asks for some without looking.
    """
    robot, (x, y) = kitchen.robot, kitchen.facing
    cells = [(thing.x, thing.y) for thing in (*kitchen.stations, *kitchen.items, *kitchen.containers, robot)]
    return {
        "version": "1.0.0",
        "width": 1 + max(x for x, _ in cells),
        "height": 1 + max(y for _, y in cells),
        "stations": [_entry(thing) for thing in kitchen.stations],
        "items": [{**_entry(thing), "stack-level": thing.level} for thing in kitchen.items],
        "players": [{**_entry(robot), "direction": [x - robot.x, y - robot.y]}],
        "containers": [_entry(thing) for thing in kitchen.containers],
        "meals": [_entry(thing) for thing in kitchen.meals],
        "goal_description": kitchen.goal.text,
        "goal": [
            {"predicate": atom.predicate, "args": list(atom.kinds), "ids": list(atom.ids)}
            for atom in kitchen.goal.atoms
        ],
    }


def _entry(thing: Thing) -> Entry:
    entry: Entry = {"name": thing.kind, "x": thing.x, "y": thing.y}
    if thing.predicates:
        entry["predicates"] = list(thing.predicates)
    if thing.id:
        entry["id"] = thing.id
    return entry
