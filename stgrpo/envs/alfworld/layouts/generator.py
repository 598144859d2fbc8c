"""Rooms of our own making, written as the facts and the goal of game files are; the package plays them as well.

What is where follows the shares of real rooms (`usual_places`), so an expert that knows where things usually lie knows
it here too. A room is a function of task, family and seed.
"""

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from stgrpo.envs.alfworld.game.room import LOOK, TASKS
from stgrpo.envs.alfworld.layouts.usual_places import usual_places
from stgrpo.files import to_json

_OPENABLE = ("fridge", "microwave", "safe", "cabinet", "drawer")
LAMPS = ("desklamp", "floorlamp")
ABLE: Mapping[str, Sequence[str]] = {
    "cleanable": "apple bowl butterknife cloth cup dishsponge egg fork kettle knife ladle lettuce mug pan plate pot "
    "potato soapbar spatula spoon tomato".split(),
    "heatable": "apple bread cup egg mug plate potato tomato".split(),
    "coolable": "apple bowl bread cup egg lettuce mug pan plate pot potato tomato winebottle".split(),
    "sliceable": "apple bread egg lettuce potato tomato".split(),
    "isReceptacleObject": "bowl box cup mug pan plate pot".split(),
    "toggleable": LAMPS,
}
ROOMS: Mapping[str, Mapping[str, tuple[int, int]]] = {  # types of receptacles, with how few and how many there may be
    "kitchen": {
        "sinkbasin": (1, 1),
        "microwave": (1, 1),
        "fridge": (1, 1),
        "countertop": (1, 3),
        "cabinet": (3, 14),
        "drawer": (2, 7),
        "stoveburner": (2, 4),
        "coffeemachine": (1, 1),
        "toaster": (1, 1),
        "garbagecan": (1, 1),
        "diningtable": (0, 1),
        "shelf": (0, 3),
    },
    "bedroom": {
        "bed": (1, 1),
        "desk": (1, 1),
        "garbagecan": (1, 1),
        "drawer": (2, 8),
        "shelf": (0, 6),
        "dresser": (0, 1),
        "sidetable": (0, 2),
        "safe": (0, 1),
        "armchair": (0, 2),
        "laundryhamper": (0, 1),
    },
    "livingroom": {
        "sofa": (1, 2),
        "armchair": (1, 2),
        "coffeetable": (1, 1),
        "sidetable": (1, 3),
        "garbagecan": (1, 1),
        "drawer": (0, 6),
        "dresser": (0, 1),
        "tvstand": (0, 1),
        "diningtable": (0, 1),
        "shelf": (0, 5),
    },
    "bathroom": {
        "sinkbasin": (1, 2),
        "toilet": (1, 1),
        "toiletpaperhanger": (1, 1),
        "handtowelholder": (1, 2),
        "towelholder": (1, 1),
        "garbagecan": (1, 1),
        "countertop": (1, 1),
        "cabinet": (0, 5),
        "drawer": (0, 5),
        "bathtubbasin": (0, 1),
    },
}
THINGS: Mapping[str, Sequence[str]] = {
    "kitchen": "apple bowl bread butterknife cup dishsponge egg fork kettle knife ladle lettuce mug pan papertowelroll "
    "peppershaker plate pot potato saltshaker soapbottle spatula spoon tomato winebottle".split(),
    "bedroom": "alarmclock baseballbat book bowl box cd cellphone creditcard keychain laptop mug pen pencil pillow "
    "teddybear".split(),
    "livingroom": "book box creditcard keychain laptop newspaper pillow plate remotecontrol statue tissuebox vase "
    "watch wateringcan".split(),
    "bathroom": "candle cloth handtowel soapbar soapbottle spraybottle tissuebox toiletpaper towel".split(),
}
LAMP = "desklamp"
_LAMP_ROOMS = ("bedroom", "livingroom")
_FITS = 0.01  # the share of receptacles with a thing, from which on others of the type accept it
_TOGETHER = 0.2  # of the receptacles, which are where the one before is; in real rooms it is as common
_START = "loc_bar_0_bar_0_bar_0_bar_30"


@dataclass(frozen=True)
class TaskForm:
    """How a task is stated.

    Attributes:
        sentences: in words.
        able: what the thing has to be; "" for anything.
        goal: in PDDL, with {thing} and {place} for types.
    """

    sentences: tuple[str, str]
    able: str
    goal: str


def _placed(able: str = "", mark: str = "") -> str:
    conditions = [f"({able} ?o)", f"({mark} ?o)"] if able else []
    conditions += ["(objectType ?o {thing}Type)", "(receptacleType ?r {place}Type)", "(inReceptacle ?o ?r)"]
    return f"(exists (?r - receptacle) (exists (?o - object) (and {' '.join(conditions)})))"


_TWO = (
    "(exists (?r - receptacle) (exists (?o1 - object) (and (objectType ?o1 {thing}Type) (receptacleType ?r {place}Type)"
    " (inReceptacle ?o1 ?r) (exists (?o2 - object) (and (not (= ?o1 ?o2)) (objectType ?o2 {thing}Type)"
    " (receptacleType ?r {place}Type) (inReceptacle ?o2 ?r))))))"
)
_LOOKED_AT = (
    "(exists (?ot - object ?r - receptacle ?a - agent ?l - location) (and (objectType ?ot {place}Type) (toggleable ?ot)"
    " (isToggled ?ot) (receptacleAtLocation ?r ?l) (atLocation ?a ?l) (inReceptacle ?ot ?r)))"
    " (exists (?o - object ?a - agent) (and (objectType ?o {thing}Type) (holds ?a ?o)))"
)
FORMS: Mapping[str, TaskForm] = {
    TASKS[0]: TaskForm(("put a {thing} in {place}", "put some {thing} on {place}"), "", _placed()),
    TASKS[1]: TaskForm(("look at {thing} under the {place}", "examine the {thing} with the {place}"), "", _LOOKED_AT),
    TASKS[2]: TaskForm(
        ("put a clean {thing} in {place}", "clean some {thing} and put it in {place}"),
        "cleanable",
        _placed("cleanable", "isClean"),
    ),
    TASKS[3]: TaskForm(
        ("put a hot {thing} in {place}", "heat some {thing} and put it in {place}"),
        "heatable",
        _placed("heatable", "isHot"),
    ),
    TASKS[4]: TaskForm(
        ("put a cool {thing} in {place}", "cool some {thing} and put it in {place}"),
        "coolable",
        _placed("coolable", "isCool"),
    ),
    TASKS[5]: TaskForm(("put two {thing} in {place}", "find two {thing} and put them in {place}"), "", _TWO),
}


@dataclass(frozen=True)
class Family:
    """A size of rooms.

    Attributes:
        most: receptacles of a type, where the room allows more.
        optional: whether there are receptacles that a room need not have.
        things: of other types than the goal's, fewest and most.
    """

    most: int
    optional: bool
    things: tuple[int, int]


FAMILIES: Mapping[str, Family] = {
    "made": Family(most=20, optional=True, things=(8, 24)),
    "small": Family(most=2, optional=False, things=(2, 5)),
}
_SMALL_KITCHEN = ("sinkbasin", "microwave", "fridge", "countertop", "cabinet", "drawer")


def made_game(task: str, family: str, seed: int) -> dict[str, str]:
    """Returns a game, as `load` takes it.

    Args:
        task: one of the six types.
        family: a key of FAMILIES.
        seed: any; another seed is another room.
    """
    return _Maker(task, family, seed).game()


class _Maker:
    """Draws one room."""

    def __init__(self, task: str, family: str, seed: int):
        self._rng = random.Random(f"{task}/{family}/{seed}")
        self._task, self._form, self._family = task, FORMS[task], FAMILIES[family]
        self._kind = self._rng.choice(self._kinds())
        self._receptacles = self._draw_receptacles()
        self._thing, self._place = self._draw_goal()
        self._things = self._draw_things()

    def _kinds(self) -> Sequence[str]:
        """The kinds of rooms in which the task can be done."""
        if self._form.able:
            return ("kitchen",)
        return _LAMP_ROOMS if self._task == LOOK else tuple(ROOMS)

    def _draw_receptacles(self) -> dict[str, str]:
        """Types of the receptacles, by id."""
        found = {}
        for kind, (fewest, most) in ROOMS[self._kind].items():
            if self._family.optional or (kind in _SMALL_KITCHEN if self._kind == "kitchen" else fewest):
                few = min(fewest, self._family.most)
                for _ in range(self._rng.randint(few, min(most, self._family.most))):
                    found[self._id(kind)] = kind
        return found

    def _id(self, kind: str) -> str:
        """A name as the package has them: the kind, and a point in the room that nothing depends on."""
        coordinates = (self._rng.uniform(-3, 3) for _ in range(3))
        point = "_bar_".join(
            f"{'minus' if value < 0 else 'plus'}_{abs(value):05.2f}".replace(".", "_dot_") for value in coordinates
        )
        return f"sink_bar__{point}_bar_sinkbasin" if kind == "sinkbasin" else f"{kind}_bar__{point}"

    def _homes(self, thing: str) -> list[str]:
        """The receptacles that accept a thing."""
        shares = usual_places()
        return [name for name, kind in self._receptacles.items() if shares.get((thing, kind), 0) >= _FITS]

    def _draw_goal(self) -> tuple[str, str]:
        """The type of the thing, and that of where it is to be: one where it is not from the start."""
        able = ABLE[self._form.able] if self._form.able else THINGS[self._kind]
        found = []
        for thing in THINGS[self._kind]:
            homes = sorted({self._receptacles[name] for name in self._homes(thing)})
            if thing not in able or not homes:
                continue
            if self._task == LOOK:
                found.append((thing, LAMP))
            elif len(homes) > 1:
                found += [(thing, place) for place in homes]
        return self._rng.choice(found)

    def _draw_things(self) -> list[tuple[str, str, str]]:
        """(id, type, the receptacle it is in) of each object."""
        count = 2 if self._task == TASKS[5] else 1
        wanted = [self._thing] * (count + (self._rng.random() < 0.3))
        others = [thing for thing in THINGS[self._kind] if thing != self._thing]
        number = self._rng.randint(*self._family.things)
        drawn = [*wanted, *self._rng.choices(others, k=number), *([self._place] if self._task == LOOK else [])]
        return [(self._id(kind), kind, home) for kind in drawn if (home := self._draw_home(kind))]

    def _draw_home(self, thing: str) -> str:
        """A receptacle for a thing, as likely as in real rooms; "" where none accepts it."""
        homes = self._homes(thing)
        if thing == self._thing:
            homes = [name for name in homes if self._receptacles[name] != self._place]
        weights = [usual_places()[thing, self._receptacles[name]] for name in homes]
        return self._rng.choices(homes, weights)[0] if homes else ""

    def game(self) -> dict[str, str]:
        words = {"thing": self._thing, "place": self._place}
        sentence = self._rng.choice(self._form.sentences).format(**words)
        places = self._locations()
        facts = "\n".join(f"({fact})" for fact in [*self._receptacle_facts(places), *self._object_facts(places)])
        problem = f"(:init\n{facts}\n(atLocation agent1 {_START})\n)\n(:goal (and {self._form.goal.format(**words)})))"
        return {"pddl_problem": problem, "grammar": '"rhs": ' + to_json(f"Your task is to: {sentence}.")}

    def _locations(self) -> dict[str, str]:
        """The location of each receptacle; some share one."""
        found: dict[str, str] = {}
        for number, name in enumerate(self._receptacles):
            shared = list(found.values())[-1:] if self._rng.random() < _TOGETHER else []
            found[name] = shared[0] if shared else f"loc_bar_{number + 1}_bar_1_bar_0_bar_45"
        return found

    def _receptacle_facts(self, places: Mapping[str, str]) -> Iterator[str]:
        for name, kind in self._receptacles.items():
            yield f"receptacleType {name} {kind}Type"
            yield f"receptacleAtLocation {name} {places[name]}"
            if kind in _OPENABLE:
                yield f"openable {name}"
        for place in sorted(set(self._receptacles.values())):
            for thing in sorted({kind for _, kind, _ in self._things}):
                if usual_places().get((thing, place), 0) >= _FITS:
                    yield f"canContain {place}Type {thing}Type"

    def _object_facts(self, places: Mapping[str, str]) -> Iterator[str]:
        for name, kind, home in self._things:
            yield f"objectType {name} {kind}Type"
            yield f"inReceptacle {name} {home}"
            yield f"objectAtLocation {name} {places[home]}"
            yield from (f"{able} {name}" for able, kinds in ABLE.items() if kind in kinds)
            if kind not in LAMPS:
                yield f"pickupable {name}"
            if self._receptacles[home] == "fridge" and kind in ABLE["coolable"]:
                yield f"isCool {name}"
