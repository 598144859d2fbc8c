"""The rules of a single-player Robotouille kitchen, as data.

Source: the domain description of the benchmark (github.com/portal-cornell/robotouille, MIT) at commit c8236a2. The
order of types, predicates and actions is the order in which they are shown to an agent.

Literals are written `predicate(argument,...)`, a leading `!` negates. A parameter's first letter is its type.
"""

from dataclasses import dataclass, field
from functools import cached_property

TYPES = ("station", "item", "player", "container", "meal")
TYPE_OF_LETTER = {name[0]: name for name in TYPES}

STATIONS = ("table", "stove", "board", "fryer", "sink")
ITEMS = ("bottombun", "topbun", "bread", "lettuce", "tomato", "onion", "patty", "chicken", "cheese", "potato")
CONTAINERS = ("pot", "bowl")
MEALS = ("water",)
KINDS = {"station": STATIONS, "item": ITEMS, "player": ("robot",), "container": CONTAINERS, "meal": MEALS}

WAIT = "Do nothing"
"""The action that only lets time pass."""
CUTS = 3
DELAY = 4


@dataclass(frozen=True)
class Predicate:
    """A predicate, the types of its arguments, and what is said of each argument when it holds."""

    name: str
    types: tuple[str, ...]
    texts: tuple[str, ...]


@dataclass(frozen=True)
class Literal:
    """A predicate over names (parameters or objects), or its negation."""

    predicate: str
    args: tuple[str, ...]
    value: bool = True


def parse_literals(text: str) -> tuple[Literal, ...]:
    """Reads literals separated by blanks, such as `loc(p1,s2) !vacant(s2)`."""
    literals = []
    for word in text.split():
        name, _, args = word.removeprefix("!").rstrip(")").partition("(")
        literals.append(Literal(name, tuple(args.split(",")), not word.startswith("!")))
    return tuple(literals)


@dataclass(frozen=True)
class Special:
    """An effect that lasts: it stays pending in the state and is updated every step.

    While `conditions` hold, `effects` are written, and their negations while they do not. A special with neither
    `repeats` nor `delay` is complete once its conditions hold. Otherwise `results` are written once, when its own
    action was taken `repeats` times, or when its conditions held in `delay` steps (the launching step counts).
    `creates` names a kind of meal that comes into being then, `m1` in the results.
    """

    argument: str
    conditions: str = ""
    effects: str = ""
    results: str = ""
    repeats: int = 0
    delay: int = 0
    creates: str = ""


@dataclass(frozen=True)
class Action:
    """An action: the string an agent writes, its preconditions, immediate and lasting effects."""

    text: str
    requires: str = ""
    effects: str = ""
    specials: tuple[Special, ...] = field(default=())

    @cached_property
    def preconditions(self) -> tuple[Literal, ...]:
        """The preconditions, parsed."""
        return parse_literals(self.requires)

    @cached_property
    def parameters(self) -> tuple[str, ...]:
        """The parameters in the order of their first mention in the preconditions."""
        return tuple(dict.fromkeys(arg for literal in self.preconditions for arg in literal.args))


def _kind(name: str, type_: str, text: str) -> Predicate:
    return Predicate(name, (type_,), ("{0} " + text,))


PREDICATES = (
    _kind("istable", "station", "is a table"),
    _kind("isstove", "station", "is a stove"),
    _kind("isboard", "station", "is a cutting board"),
    _kind("isfryer", "station", "is a fryer"),
    _kind("issink", "station", "is a sink"),
    _kind("isrobot", "player", "is a robot"),
    _kind("istopbun", "item", "is a top bun"),
    _kind("isbottombun", "item", "is a bottom bun"),
    _kind("isbread", "item", "is a bread slice"),
    _kind("islettuce", "item", "is a head of lettuce"),
    _kind("isonion", "item", "is an onion"),
    _kind("istomato", "item", "is a tomato"),
    _kind("ispatty", "item", "is a hamburger patty"),
    _kind("ischicken", "item", "is a chicken breast"),
    _kind("ischeese", "item", "is a cheese slice"),
    _kind("ispotato", "item", "is a potato"),
    _kind("isfryable", "item", "can be fried in a fryer"),
    _kind("isfryableifcut", "item", "can be fried in a fryer after being cut"),
    _kind("isfried", "item", "is fried"),
    _kind("iscookable", "item", "can be cooked on a stove"),
    _kind("iscooking", "item", "is cooking"),
    _kind("iscooked", "item", "is cooked"),
    _kind("iscuttable", "item", "can be cut on a cutting board"),
    _kind("iscut", "item", "is cut"),
    _kind("ispot", "container", "is a pot"),
    _kind("isbowl", "container", "is a bowl"),
    _kind("iswater", "meal", "is water"),
    _kind("isboiling", "meal", "is boiling"),
    Predicate("loc", ("player", "station"), ("{0} is at {1}", "{1} is occupied by {0}")),
    Predicate("item_at", ("item", "station"), ("{0} is at {1}", "{1} has {0}")),
    _kind("nothing", "player", "is holding nothing"),
    _kind("station_empty", "station", "has nothing on it"),
    _kind("container_empty", "container", "has nothing inside it"),
    Predicate("item_on", ("item", "station"), ("{0} is directly on top of {1}", "{1} has {0} directly on top of it")),
    _kind("vacant", "station", "has no players at it"),
    _kind("clear", "item", "has nothing above it"),
    Predicate("atop", ("item", "item"), ("{0} is directly on top of {1}", "{1} is directly under {0}")),
    Predicate("has_item", ("player", "item"), ("{0} is holding {1}", "{1} is held by {0}")),
    Predicate("has_container", ("player", "container"), ("{0} is holding {1}", "{1} is held by {0}")),
    Predicate("in", ("meal", "container"), ("{0} is inside of {1}", "{1} contains {0}")),
    Predicate("addedto", ("item", "meal"), ("{0} is added to {1}", "{1} has {0} added to it")),
    Predicate("container_at", ("container", "station"), ("{0} is at {1}", "{1} has {0}")),
)
PREDICATE = {predicate.name: predicate for predicate in PREDICATES}

ACTIONS = (
    Action(
        "Move {p1} from {s1} to {s2}",
        "loc(p1,s1) vacant(s2)",
        "loc(p1,s2) !loc(p1,s1) vacant(s1) !vacant(s2)",
    ),
    Action(
        "Pick up {i1} from {s1} using {p1}",
        "nothing(p1) item_on(i1,s1) loc(p1,s1) clear(i1)",
        "has_item(p1,i1) station_empty(s1) !nothing(p1) !item_at(i1,s1) !clear(i1) !item_on(i1,s1)",
    ),
    Action(
        "Place {i1} on {s1} using {p1}",
        "has_item(p1,i1) loc(p1,s1) station_empty(s1)",
        "nothing(p1) item_at(i1,s1) clear(i1) item_on(i1,s1) !has_item(p1,i1) !station_empty(s1)",
    ),
    Action(
        "Pick up {c1} from {s1} using {p1}",
        "nothing(p1) container_at(c1,s1) loc(p1,s1)",
        "has_container(p1,c1) !container_at(c1,s1) !nothing(p1) station_empty(s1)",
    ),
    Action(
        "Place {c1} on {s1} using {p1}",
        "has_container(p1,c1) loc(p1,s1) station_empty(s1)",
        "nothing(p1) container_at(c1,s1) !has_container(p1,c1) !station_empty(s1)",
    ),
    Action(
        "Cook {i1} on {s1} using {p1}",
        "isstove(s1) iscookable(i1) !iscooking(i1) item_on(i1,s1) loc(p1,s1) clear(i1) nothing(p1)",
        specials=(Special("i1", "item_on(i1,s1)", "iscooking(i1)", "iscooked(i1) !iscooking(i1)", delay=DELAY),),
    ),
    Action(
        "Cut {i1} on {s1} using {p1}",
        "isboard(s1) iscuttable(i1) item_on(i1,s1) loc(p1,s1) clear(i1) nothing(p1)",
        specials=(
            Special("i1", results="iscut(i1)", repeats=CUTS),
            Special("i1", "isfryableifcut(i1) iscut(i1)", "isfryable(i1)"),
        ),
    ),
    Action(
        "Fry {i1} on {s1} using {p1}",
        "isfryer(s1) isfryable(i1) item_on(i1,s1) loc(p1,s1) clear(i1) nothing(p1)",
        specials=(Special("i1", "item_on(i1,s1)", results="isfried(i1)", delay=DELAY),),
    ),
    Action(
        "Fill {c1} with water from {s1} using {p1}",
        "ispot(c1) issink(s1) loc(p1,s1) container_at(c1,s1) container_empty(c1) nothing(p1)",
        specials=(
            Special(
                "c1",
                "container_at(c1,s1)",
                results="iswater(m1) in(m1,c1) !container_empty(c1)",
                delay=DELAY,
                creates="water",
            ),
        ),
    ),
    Action(
        "Boil {c1}'s contents on {s1} using {p1}",
        "ispot(c1) iswater(m1) in(m1,c1) isstove(s1) container_at(c1,s1) loc(p1,s1) nothing(p1)",
        specials=(Special("m1", "container_at(c1,s1)", results="isboiling(m1)", delay=DELAY),),
    ),
    Action(
        "Add {i1} into {c1} using {p1}",
        "ispot(c1) !addedto(i1,m1) in(m1,c1) loc(p1,s1) container_at(c1,s1) has_item(p1,i1)",
        "addedto(i1,m1) !has_item(p1,i1) nothing(p1)",
    ),
    Action(
        "Fill {c1} with {c2}'s contents using {p1}",
        "isbowl(c1) ispot(c2) container_at(c1,s1) in(m1,c2) loc(p1,s1) container_empty(c1) has_container(p1,c2)",
        "in(m1,c1) !in(m1,c2) !container_empty(c1) container_empty(c2)",
    ),
    Action(
        "Stack {i1} on top of {i2} using {p1}",
        "has_item(p1,i1) clear(i2) loc(p1,s1) item_at(i2,s1)",
        "nothing(p1) item_at(i1,s1) atop(i1,i2) clear(i1) !clear(i2) !has_item(p1,i1)",
    ),
    Action(
        "Unstack {i1} from {i2} using {p1}",
        "nothing(p1) clear(i1) atop(i1,i2) loc(p1,s1) item_at(i1,s1) item_at(i2,s1)",
        "has_item(p1,i1) clear(i2) !nothing(p1) !atop(i1,i2) !clear(i1) !item_at(i1,s1)",
    ),
    Action(WAIT),
)


def _written(actions: tuple[Action, ...]) -> frozenset[str]:
    texts = [action.effects for action in actions]
    texts += [part for a in actions for special in a.specials for part in (special.effects, special.results)]
    return frozenset(literal.predicate for text in texts for literal in parse_literals(text))


CHANGING = _written(ACTIONS)
"""Predicates that some action can change; all others are facts of the kitchen for good."""
