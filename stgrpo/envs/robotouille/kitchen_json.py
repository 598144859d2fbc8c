"""A kitchen in the benchmark's own notation, which its builder reads: the way back from `kitchen_from_json`."""

from stgrpo.envs.robotouille.kitchen import Kitchen, Thing

Entry = dict[str, object]


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
