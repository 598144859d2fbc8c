"""The kitchen read back from the text, against the predicates that the benchmark recorded beside it."""

import collections
import itertools
import re
import xml.etree.ElementTree as ET

import pytest

from stgrpo.envs.robotouille.draw.observation import KitchenView, Robot, Station, Thing, read_observation
from stgrpo.envs.robotouille.draw.svg import draw_kitchen, symbols

OBSERVATION = """\
Station table1:
table1 is a table
table1 is occupied by robot1
table1 has patty1
table1 has bottombun1
table1 has bottombun1 directly on top of it

Station stove1:
stove1 is a stove
stove1 has nothing on it
stove1 has no players at it

Item bottombun1:
bottombun1 is a bottom bun
bottombun1 is at table1
bottombun1 is directly on top of table1
bottombun1 is directly under patty1

Item patty1:
patty1 is a hamburger patty
patty1 is cooked
patty1 is at table1
patty1 has nothing above it
patty1 is directly on top of bottombun1

Item topbun1:
topbun1 is a top bun
topbun1 is held by robot1

Player robot1:
robot1 is a robot
robot1 is at table1
robot1 is holding topbun1

Valid Actions:
Move robot1 from table1 to stove1
Stack topbun1 on top of patty1 using robot1
Do nothing

Goal: Prepare a hamburger on a table"""

KITCHEN = KitchenView(
    stations=(Station("table1", (Thing("bottombun1"), Thing("patty1", ("cooked",)))), Station("stove1")),
    robots=(Robot("robot1", "table1", Thing("topbun1")),),
    goal="Prepare a hamburger on a table",
)


def test_an_observation_is_read_back():
    assert read_observation(OBSERVATION) == KITCHEN


def test_other_texts_are_no_kitchens_and_damaged_ones_end():
    assert read_observation("You are in a maze.") is None
    circle = "Station table1:\n\nItem a1:\na1 is directly on top of table1\nb1 is directly on top of a1\n"
    parsed = read_observation(circle + "a1 is directly on top of b1")
    assert [thing.name for thing in parsed.stations[0].stack] == ["a1", "b1"]


def relations(predicates: list[str]) -> dict[str, set[tuple[str, ...]]]:
    found = collections.defaultdict(set)
    for predicate in predicates:
        name, arguments = re.fullmatch(r"(\w+)\((.*)\)", predicate).groups()
        found[name].add(tuple(arguments.split(",")))
    return found


@pytest.mark.parametrize("file", ["expert", "layouts", "chef", "synchronous"])
def test_every_recorded_observation_agrees_with_its_predicates(recordings, file):
    for row in itertools.islice(recordings.lines(file), 0, None, 3):
        kitchen, true = read_observation(row["obs"]), relations(row["preds"])
        items = [s.stack[: len(s.stack) - sum(t.kind in ("pot", "bowl") for t in s.stack)] for s in kitchen.stations]
        on = {(stack[0].name, s.name) for s, stack in zip(kitchen.stations, items, strict=True) if stack}
        atop = {(upper.name, lower.name) for stack in items for lower, upper in itertools.pairwise(stack)}
        containers = {(t.name, s.name) for s in kitchen.stations for t in s.stack if t.kind in ("pot", "bowl")}
        assert on == true["item_on"] and atop == true["atop"] and containers == true["container_at"]
        assert {(r.name, r.station) for r in kitchen.robots} == true["loc"]
        assert {(r.name, r.held.name) for r in kitchen.robots if r.held} == true["has_item"] | true["has_container"]
        things = [t for s in kitchen.stations for t in s.stack] + [r.held for r in kitchen.robots if r.held]
        seen = {(t.name,) for t in things}  # what is in a soup is not drawn by itself
        assert {(t.name,) for t in things if "cooked" in t.marks} == true["iscooked"] & seen
        assert {(t.name,) for t in things if "cut" in t.marks} == true["iscut"] & seen


def texts(svg: str) -> list[str]:
    return [element.text for element in ET.fromstring(svg).iter("text")]


def test_a_picture_names_everything_and_says_it_in_words():
    svg = draw_kitchen(KITCHEN)
    assert texts(svg) == ["table1", "bottombun1", "patty1", "stove1", "topbun1"]
    label = ET.fromstring(svg).get("aria-label")
    assert label == "table1: bottombun1, patty1 (cooked); stove1: empty; robot1 at table1 holding topbun1"


def test_a_picture_uses_only_shapes_that_exist():
    shapes = {element.get("id") for element in ET.fromstring(symbols()).iter("symbol")}
    strange = KitchenView(
        (Station("oven1", (Thing("fish1"), Thing("chicken1", ("cooked",)))),), (Robot("r1", "oven1"),)
    )
    for kitchen in (KITCHEN, strange):
        used = {element.get("href")[1:] for element in ET.fromstring(draw_kitchen(kitchen)).iter("use")}
        assert used <= shapes
    assert "food-patty-cooked" in {e.get("href")[1:] for e in ET.fromstring(draw_kitchen(KITCHEN)).iter("use")}


def test_the_action_is_shown_as_an_arrow_or_a_ring():
    assert 'class="way"' in draw_kitchen(KITCHEN, action="Move robot1 from table1 to stove1")
    assert 'class="way"' not in draw_kitchen(KITCHEN, action="Move robot1 from table1 to the moon")
    assert draw_kitchen(KITCHEN, action="Stack topbun1 on top of patty1 using robot1").count('class="focus"') == 2
    assert 'class="focus"' not in draw_kitchen(KITCHEN)


def test_pictures_of_an_episode_can_have_one_size():
    empty = KitchenView(tuple(Station(f"table{i}") for i in range(1, 12)), ())
    full = KitchenView((Station("table1", tuple(Thing(f"patty{i}") for i in range(5))), *empty.stations[1:]), ())
    assert len({ET.fromstring(draw_kitchen(k, tallest=5)).get("viewBox") for k in (empty, full)}) == 1
    assert len({ET.fromstring(draw_kitchen(k)).get("viewBox") for k in (empty, full)}) == 2
