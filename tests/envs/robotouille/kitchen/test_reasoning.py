"""Reasonings worked by hand for every situation, and the reasons for the recorded optimal plans."""

from collections.abc import Callable, Sequence

import pytest
from recordings import Recordings

from stgrpo.envs.robotouille.kitchen.reasoning import Scene, explain
from stgrpo.react.response import format_response, parse_response


def scene(station: str, held: str | None, **stacks: str) -> Scene:
    """A kitchen of stations with blank-separated stacks; its lines worded as the benchmark words them."""
    lines = [f"robot1 is at {station}", f"robot1 is holding {held or 'nothing'}"]
    placed = {name: tuple(items.split()) for name, items in stacks.items()}
    for name, items in placed.items():
        lines += [f"{name} has nothing on it"] if not items else [f"{name} has {items[0]} directly on top of it"]
        for below, item in zip((name, *items), items, strict=False):
            lines += [f"{item} is at {name}", f"{item} is directly on top of {below}"]
            lines += [f"{below} is directly under {item}"] if below != name else []
    return Scene(station=station, held=held, stacks=placed, lines=frozenset(lines))


def move(start: str, end: str) -> str:
    return f"Move robot1 from {start} to {end}"


def pick(item: str, station: str) -> str:
    return f"Pick up {item} from {station} using robot1"


def unstack(item: str, below: str) -> str:
    return f"Unstack {item} from {below} using robot1"


def place(item: str, station: str) -> str:
    return f"Place {item} on {station} using robot1"


def stack(item: str, below: str) -> str:
    return f"Stack {item} on top of {below} using robot1"


BURGER = [
    move("table1", "table3"),
    pick("patty1", "table3"),
    move("table3", "table1"),
    stack("patty1", "bottombun1"),
    move("table1", "table2"),
    pick("topbun1", "table2"),
    move("table2", "table1"),
    stack("topbun1", "patty1"),
]
PATTY_ON_BUN = "Next, patty1 must go on top of bottombun1."


def test_the_default_burger_step_by_step() -> None:
    start = {"table1": "bottombun1", "table2": "topbun1", "table3": "patty1"}
    assert explain(scene("table1", None, **start), BURGER) == (
        f"robot1 is at table1. robot1 is holding nothing. {PATTY_ON_BUN} patty1 is at table3. So move there."
    )
    assert explain(scene("table3", None, **start), BURGER[1:]) == (
        f"robot1 is at table3. robot1 is holding nothing. {PATTY_ON_BUN} patty1 is at table3. "
        "patty1 is directly on top of table3. So pick it up."
    )
    start["table3"] = ""
    assert explain(scene("table3", "patty1", **start), BURGER[2:]) == (
        f"robot1 is at table3. robot1 is holding patty1. {PATTY_ON_BUN} bottombun1 is at table1. So move there."
    )
    assert explain(scene("table1", "patty1", **start), BURGER[3:]) == (
        f"robot1 is at table1. robot1 is holding patty1. {PATTY_ON_BUN} bottombun1 is at table1. So stack it."
    )


def test_blockers_are_named_from_the_needed_item_upwards() -> None:
    kitchen = scene("table1", None, table1="bottombun1", table2="patty1 lettuce1 topbun1", table3="", table4="")
    plan = [
        move("table1", "table2"),
        unstack("topbun1", "lettuce1"),
        move("table2", "table3"),
        place("topbun1", "table3"),
        move("table3", "table2"),
        unstack("lettuce1", "patty1"),
        move("table2", "table4"),
        place("lettuce1", "table4"),
        move("table4", "table2"),
        pick("patty1", "table2"),
        move("table2", "table1"),
        stack("patty1", "bottombun1"),
        move("table1", "table3"),
        pick("topbun1", "table3"),
        move("table3", "table1"),
        stack("topbun1", "patty1"),
    ]
    assert explain(kitchen, plan) == (
        f"robot1 is at table1. robot1 is holding nothing. {PATTY_ON_BUN} patty1 is directly under lettuce1. "
        "lettuce1 is directly under topbun1. topbun1 is at table2. So move there."
    )
    held = scene("table2", "topbun1", table1="bottombun1", table2="patty1 lettuce1", table3="", table4="")
    assert explain(held, plan[2:]) == (
        f"robot1 is at table2. robot1 is holding topbun1. {PATTY_ON_BUN} topbun1 must go aside first. "
        "table3 has nothing on it. So move there."
    )


def test_a_held_item_whose_place_is_covered_goes_aside() -> None:
    kitchen = scene("table2", "patty1", table1="bottombun1 topbun1", table2="")
    plan = [
        place("patty1", "table2"),
        move("table2", "table1"),
        unstack("topbun1", "bottombun1"),
        move("table1", "table2"),
        stack("topbun1", "patty1"),
        move("table2", "table1"),
        stack("patty1", "bottombun1"),
    ]
    assert explain(kitchen, plan) == (
        f"robot1 is at table2. robot1 is holding patty1. {PATTY_ON_BUN} bottombun1 is directly under topbun1. "
        "patty1 must go aside first. table2 has nothing on it. So place it."
    )


def test_a_distractor_on_the_only_table_makes_room() -> None:
    kitchen = scene("stove1", None, table1="onion1", stove1="", board1="bottombun1 patty1")
    plan = [
        move("stove1", "table1"),
        pick("onion1", "table1"),
        move("table1", "stove1"),
        place("onion1", "stove1"),
        move("stove1", "board1"),
        unstack("patty1", "bottombun1"),
        move("board1", "stove1"),
        stack("patty1", "onion1"),
        move("stove1", "board1"),
        pick("bottombun1", "board1"),
        move("board1", "table1"),
        place("bottombun1", "table1"),
        move("table1", "stove1"),
        unstack("patty1", "onion1"),
        move("stove1", "table1"),
        stack("patty1", "bottombun1"),
    ]
    on_table = "Next, bottombun1 must go on a table."
    assert explain(kitchen, plan) == (
        f"robot1 is at stove1. robot1 is holding nothing. {on_table} table1 has onion1 directly on top of it. "
        "onion1 is at table1. So move there."
    )
    aside = scene("stove1", "patty1", table1="", stove1="onion1", board1="bottombun1")
    assert explain(aside, plan[7:]) == (
        f"robot1 is at stove1. robot1 is holding patty1. {on_table} patty1 must go aside first. "
        "onion1 is at stove1. So stack it."
    )
    carrying = scene("board1", "bottombun1", table1="", stove1="onion1 patty1", board1="")
    assert explain(carrying, plan[10:]) == (
        f"robot1 is at board1. robot1 is holding bottombun1. {on_table} table1 has nothing on it. So move there."
    )


def test_a_plan_that_ends_by_uncovering() -> None:
    kitchen = scene("table1", None, table1="bottombun1 patty1 cheese1 topbun1 onion1")
    assert explain(kitchen, [unstack("onion1", "topbun1")]) == (
        "robot1 is at table1. robot1 is holding nothing. Next, topbun1 must be free of onion1. onion1 is at table1. "
        "onion1 is directly on top of topbun1. So unstack it."
    )


def test_actions_of_other_tasks_are_explained_too() -> None:
    kitchen = scene("table1", None, table1="", stove1="patty1")
    plan = [move("table1", "stove1"), "Cook patty1 on stove1 using robot1", "Do nothing"]
    assert explain(kitchen, plan) == (
        "robot1 is at table1. robot1 is holding nothing. Next, cook patty1 on stove1. patty1 is at stove1. "
        "So move to stove1."
    )
    assert explain(kitchen, ["Do nothing"]).endswith("Next, wait. So do nothing.")
    then = ["Do nothing", "Do nothing", "Pick up patty1 from stove1 using robot1"]
    assert explain(kitchen, then).endswith("Next, wait for patty1. So do nothing.")


def test_what_will_be_done_to_a_thing_is_said_before_where_it_goes() -> None:
    kitchen = scene("table1", None, table1="patty1", stove1="", table2="")
    plan = ["Pick up patty1 from table1 using robot1", move("table1", "stove1"), "Place patty1 on stove1 using robot1"]
    plan += ["Cook patty1 on stove1 using robot1", "Do nothing", "Do nothing", "Do nothing"]
    plan += ["Pick up patty1 from stove1 using robot1", move("stove1", "table2"), "Place patty1 on table2 using robot1"]
    assert "Next, cook patty1 on stove1." in explain(kitchen, plan)
    assert "Next, patty1 must go on a table." in explain(scene("stove1", None, stove1="patty1"), plan[-3:])


def recorded_plans(recordings: Recordings) -> dict[tuple[object, ...], list[dict[str, object]]]:
    plans: dict[tuple[object, ...], list[dict[str, object]]] = {}
    for name in ("expert", "layouts"):
        for row in recordings.lines(name):
            if row["policy"] == "optimal":
                plans.setdefault(tuple(row[k] for k in ("task", "layout", "seed", "ep")), []).append(row)
    return plans


def recorded_scene(row: dict[str, object]) -> Scene:
    """The scene of a recorded state, from its predicates (not from our own engine)."""
    facts: dict[str, list[Sequence[str]]] = {}
    for predicate in row["preds"]:
        name, _, arguments = predicate.removesuffix(")").partition("(")
        facts.setdefault(name, []).append(arguments.split(","))
    above = {below: item for item, below in [*facts.get("item_on", []), *facts.get("atop", [])]}
    stacks = {}
    for name in ("istable", "isstove", "isboard", "isfryer", "issink"):
        for (station,) in facts.get(name, []):
            stacks[station] = []
            while (top := (stacks[station] or [station])[-1]) in above:
                stacks[station].append(above[top])
    held = facts.get("has_item", [(None, None)])[0][1]
    return Scene(facts["loc"][0][1], held, stacks, frozenset(row["obs"].splitlines()))


def test_recorded_plans_are_explained_by_facts_of_their_observations(
    recordings: Recordings, check_reasoning: Callable[[str, str, str], None]
) -> None:
    explained = 0
    for rows in recorded_plans(recordings).values():
        plan = [row["action"] for row in rows if row["action"]]
        for i, action in enumerate(plan):
            reasoning = explain(recorded_scene(rows[i]), plan[i:])
            check_reasoning(reasoning, rows[i]["obs"], action)
            parsed = parse_response(format_response(reasoning, action), rows[i]["valid"])
            assert (parsed.reasoning, parsed.action, parsed.failure) == (reasoning, action, "")
            explained += 1
    assert explained > 600


@pytest.mark.parametrize("text", ["robot1 is at table9.", "Next, patty1 must go away."])
def test_the_check_itself_refuses(text: str, check_reasoning: Callable[[str, str, str], None]) -> None:
    with pytest.raises(AssertionError):
        check_reasoning(text, "robot1 is at table1", "Do nothing")
