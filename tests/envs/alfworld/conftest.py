"""Games for the tests: a room written by hand, and the real ones where they are at hand."""

import gzip
import json
import pathlib

import pytest

SHARED = pathlib.Path(__file__).resolve().parents[4] / "shared" / "alfworld"
PACK = SHARED / "alfworld_games.jsonl.xz"
SPOTS = {"Desk": 1, "Drawer": 1, "Shelf": 2, "SinkBasin": 3, "Fridge": 4, "Microwave": 5, "GarbageCan": 6}
THINGS = {"Mug": "Desk", "Apple": "Fridge", "Knife": "Shelf", "DeskLamp": "Drawer", "Statue": "Shelf", "Bowl": "Desk"}
ABLE = {
    "pickupable": "Mug Apple Knife Statue Bowl",
    "toggleable": "DeskLamp",
    "sliceable": "Apple",
    "cleanable": "Mug Apple Bowl",
    "heatable": "Mug Apple",
    "coolable": "Mug Apple",
    "isReceptacleObject": "Bowl",
}
PLACED = """(exists (?r - receptacle) (exists (?o - object)
    (and {able}(objectType ?o {thing}Type) (receptacleType ?r {place}Type) {mark}(inReceptacle ?o ?r))))"""


def _id(kind: str) -> str:
    return "Sink_bar__plus_01_dot_00_bar_SinkBasin" if kind == "SinkBasin" else f"{kind}_bar__plus_01_dot_00"


def hand_game(
    goal: str = PLACED.format(able="", thing="Mug", place="Shelf", mark=""), said: str = "put a mug in shelf"
):
    """A room of seven receptacles; desk and drawer are at one location, and nothing takes the statue."""
    facts = ["(atLocation agent1 loc_bar_0)"]
    for kind, spot in SPOTS.items():
        facts += [f"(receptacleType {_id(kind)} {kind}Type)", f"(receptacleAtLocation {_id(kind)} loc_bar_{spot})"]
        facts += [f"(canContain {kind}Type {thing}Type)" for thing in THINGS if thing != "Statue"]
    facts += [f"(openable {_id(kind)})" for kind in ("Drawer", "Fridge", "Microwave")]
    for thing, place in THINGS.items():
        facts += [f"(objectType {_id(thing)} {thing}Type)", f"(inReceptacle {_id(thing)} {_id(place)})"]
        facts += [f"(objectAtLocation {_id(thing)} loc_bar_{SPOTS[place]})"]
    facts += [f"({able} {_id(thing)})" for able, things in ABLE.items() for thing in things.split()]
    facts += [f"(isCool {_id('Apple')})"]
    problem = "(define (problem p) (:init " + "\n".join(facts) + f")\n(:goal (and {goal})))"
    return {"pddl_problem": problem, "grammar": '"rhs": "Your task is to: ' + said + '."'}


@pytest.fixture(scope="session")
def make_game():
    """`make_game(goal, said)`: the content of a game file, see `hand_game`."""
    return hand_game


@pytest.fixture(scope="session")
def placed():
    """The form of a goal, with the words able, thing, place and mark to be filled in."""
    return PLACED


@pytest.fixture(scope="session")
def pack() -> pathlib.Path:
    """All games of the data set in one file; it lives beside the project, not in it."""
    if not PACK.is_file():
        pytest.skip("the games are not at hand (../shared/alfworld)")
    return PACK


@pytest.fixture(scope="session")
def real_traces() -> list[dict]:
    """Games played in the real package, step by step."""
    if not (SHARED / "traces.jsonl.gz").is_file():
        pytest.skip("the recorded games are not at hand (../shared/alfworld)")
    with gzip.open(SHARED / "traces.jsonl.gz", "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]
