"""Pictures of states: everything is in them, inside their frame, and nothing covers anything else."""

import collections
import itertools
import xml.etree.ElementTree as ET

import pytest

from stgrpo.envs.robotouille import make
from stgrpo.envs.robotouille.draw.observation import KitchenView, Robot, Station, Thing, read_observation
from stgrpo.envs.robotouille.draw.svg import draw_kitchen, draw_lines, draw_state, read_state
from stgrpo.errors import UserError

SVG = "{http://www.w3.org/2000/svg}"
POTATO = Thing("potato2", ("cut", "fried"))
SOUP = KitchenView(
    stations=(
        Station("table1", (Thing("bowl1"),)),
        Station("stove1", (Thing("pot1", ("boiling",), ("water1", "onion1", "potato1")),)),
        Station(
            "board1", (Thing("tomato1", ("cut",)), Thing("chicken1", ("cooked",)), Thing("potato2", ("cut", "fried")))
        ),
    ),
    robots=(Robot("robot1", "board1", Thing("pot2", (), ("water2",))),),
)
BIG = KitchenView(
    stations=tuple(Station(f"table{i}", tuple(Thing(f"patty{i}{j}") for j in range(i % 10))) for i in range(1, 15)),
    robots=(Robot("robot1", "table14", Thing("pot1")),),
)


class Text:
    """A problem of which only the text matters."""

    def __init__(self, text: str, task: str = ""):
        self.text, self.task = text, task

    def observation(self, state):
        return self.text


def shapes(svg: str) -> collections.Counter:
    uses = [use.get("href")[1:] for use in ET.fromstring(svg).iter() if use.tag.removeprefix(SVG) == "use"]
    return collections.Counter(uses)


def boxes(svg: str) -> list[tuple[str, float, float, float, float]]:
    """What is placed in a picture, without the marks on food: name of the shape, left, top, right, bottom."""
    found = []
    for use in ET.fromstring(svg).iter("use"):
        x, y, width, height = (float(use.get(key)) for key in ("x", "y", "width", "height"))
        if not use.get("href").startswith("#mark"):
            found.append((use.get("href"), x, y, x + width, y + height))
    return found


def things(kitchen: KitchenView) -> list[Thing]:
    return [t for s in kitchen.stations for t in s.stack] + [r.held for r in kitchen.robots if r.held]


def check(kitchen: KitchenView) -> None:
    svg = draw_kitchen(kitchen, tallest=1)
    placed = boxes(svg)
    assert len(placed) == len(kitchen.stations) + len(things(kitchen)) + len(kitchen.robots)
    _, _, width, height = map(float, ET.fromstring(svg).get("viewBox").split())
    assert all(0 <= left < right <= width and 0 <= top < bottom <= height for _, left, top, right, bottom in placed)
    for (one, a, b, c, d), (other, e, f, g, h) in itertools.combinations(placed, 2):
        assert c <= e or g <= a or d <= f or h <= b, f"{one} covers {other}"
    names = [text.text for text in ET.fromstring(svg).iter("text")]
    assert sorted(names) == sorted([s.name for s in kitchen.stations] + [t.name for t in things(kitchen)])
    marks = collections.Counter(f"mark-{m}" for t in things(kitchen) for m in t.marks if m != "boiling")
    assert collections.Counter({k: n for k, n in shapes(svg).items() if k.startswith("mark")}) == marks


@pytest.mark.parametrize("kitchen", [SOUP, BIG, KitchenView(SOUP.stations[1:2], (Robot("robot1", "stove1", POTATO),))])
def test_everything_is_in_the_picture_and_nothing_is_covered(kitchen):
    check(kitchen)


@pytest.mark.parametrize("file", ["chef", "asynchronous", "layouts"])
def test_every_kitchen_on_record_can_be_drawn(recordings, file):
    for line in itertools.islice(recordings.lines(file), 0, None, 11):
        check(read_observation(line["obs"]))


def test_what_is_in_a_pot_is_seen():
    svg = ET.fromstring(draw_kitchen(SOUP))
    groups = {group.find("title").text: group for group in svg.iter("g")}
    boiling, still = groups["pot1 (boiling; water1, onion1, potato1)"], groups["pot2 (water2)"]
    empty = groups["bowl1"]
    assert [len(list(group.iter("circle"))) for group in (boiling, still, empty)] == [2, 0, 0]
    assert [len(list(group.iter("path"))) for group in (boiling, still, empty)] == [2, 1, 0]  # water, steam
    water = [next(group.iter("path")).get("fill") for group in (boiling, still)]
    assert water[0] != water[1]


def test_cooked_and_fried_food_has_another_colour():
    kinds = [
        Thing("chicken1"),
        Thing("chicken1", ("cooked",)),
        Thing("chicken1", ("fried",)),
        Thing("chicken1", ("cut",)),
    ]
    drawn = [set(shapes(draw_kitchen(KitchenView((Station("table1", (thing,)),), ())))) for thing in kinds]
    foods = [next(shape for shape in one if shape.startswith("food")) for one in drawn]
    assert foods == ["food-chicken", "food-chicken-cooked", "food-chicken-fried", "food-chicken"]


@pytest.mark.parametrize(("task", "layout"), [("burger", "default"), ("double_cheese_burger", "test:42")])
def test_a_state_is_a_document_of_its_own(task, layout):
    problem = make(task, layout)
    state = problem.initial_state()
    for action in ("", *problem.valid_actions(state)):
        root = ET.fromstring(draw_state(problem, state, action=action))
        ids = {symbol.get("id") for symbol in root.iter(f"{SVG}symbol")}
        assert {use.get("href")[1:] for use in root.iter(f"{SVG}use")} == ids
        shown = {text.text for text in root.iter(f"{SVG}text")}
        assert shown == {*problem.grounding.objects["station"], *problem.grounding.objects["item"]}
        focused = any("way" in path.get("class", "") for path in root.iter(f"{SVG}path"))
        assert focused == action.startswith("Move")


def test_only_kitchens_can_be_drawn():
    with pytest.raises(UserError, match="maze"):
        draw_state(Text("You are at a fork.", task="maze"), ())


def test_a_state_in_lines():
    problem = make("burger", "default")
    state = problem.step(problem.initial_state(), "Pick up bottombun1 from table1 using robot1")
    lines = draw_lines(read_state(problem, state)).splitlines()
    assert lines == ["> table1   -", "  table2   topbun1", "  table3   patty1 (cooked)", "  in hand  bottombun1"]
    assert draw_lines(SOUP).splitlines()[1].split(maxsplit=1) == ["stove1", "pot1 (boiling; water1, onion1, potato1)"]
