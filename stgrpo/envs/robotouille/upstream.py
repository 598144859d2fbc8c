"""The benchmark's own engine behind our protocol: the same kitchens, played by the unmodified package.

It serves to check ours and to publish numbers that nobody has to take our word for; it is hundreds of times slower.
Planners and layouts are ours: its states are translated, hidden counters included.

Of the package only the engine is imported, which needs nothing but `gym`. Its `robotouille/__init__.py` would also
import a renderer, a simulator and the clients of three language-model services, none of which decide what a step does;
its modules have names like `utils` and `domain`, so they are imported aside and leave no trace in `sys.modules`.
"""

import contextlib
import copy
import importlib
import importlib.util
import io
import math
import sys
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property, lru_cache
from pathlib import Path
from types import ModuleType
from typing import NamedTuple, Protocol

from stgrpo.envs.robotouille.environment import Robotouille
from stgrpo.envs.robotouille.kitchen.domain import ACTIONS, WAIT, Special, parse_literals
from stgrpo.envs.robotouille.kitchen.effects import Pending
from stgrpo.envs.robotouille.kitchen.engine import RobotouilleProblem, State
from stgrpo.envs.robotouille.kitchen.grounding import effect_name, write_atom
from stgrpo.envs.robotouille.kitchen.initial_state import Atom
from stgrpo.envs.robotouille.kitchen.kitchen import Kitchen
from stgrpo.envs.robotouille.kitchen.kitchen_json import kitchen_to_json
from stgrpo.envs.robotouille.planner.planner import RobotouillePlanner
from stgrpo.errors import UserError
from stgrpo.files import from_json
from stgrpo.protocol import InvalidAction

COMMIT = "c8236a2e3afa75354475ade9147dc38a7e589944"
INSTALL = (
    "pip install gym==0.26.2 && git clone https://github.com/portal-cornell/robotouille && "
    f"git -C robotouille checkout {COMMIT[:7]} && pip install --no-deps -e robotouille"
)
_PACKAGES = ("backend", "domain", "environments", "robotouille", "utils")
_CACHED_STATES = 1 << 10
MOST_CONJUNCTIONS = 100_000


class Named(Protocol):
    """An object of the package, or a parameter of an action."""

    name: str


class Predicate(Named, Protocol):
    """A predicate of the package, over objects or parameters."""

    params: Sequence[Named]


class LiveEffect(Protocol):
    """An effect under way in the package; by its kind it has counters and a condition too."""

    arg: object
    completed: bool
    effects: Mapping[Predicate, bool]
    special_effects: Sequence["LiveEffect"]


class Definition(Protocol):
    """An action of the package, whatever it is done to."""

    precons: Sequence[Predicate]


Arguments = dict[str, Named]


class LiveState(Protocol):
    """The part of the package's `backend.state.State` that is used here."""

    objects: list[Named]
    predicates: dict[Predicate, bool]
    actions: dict[Definition, list[Arguments]]
    special_effects: list[LiveEffect]

    def get_valid_actions_and_str(self) -> tuple[list[tuple[Definition, Arguments]], list[str]]:
        """Returns the valid actions, and their texts in the same order."""
        ...

    def step(self, actions: list[tuple[Definition, Arguments]]) -> object:
        """Does one action a player, in place."""
        ...

    def is_goal_reached(self) -> bool:
        """Says whether the goal holds."""
        ...


class Effect(NamedTuple):
    """An effect under way, as a value: its counter, what it waits for, what it writes, and those within it."""

    kind: str
    argument: str
    completed: bool
    counter: int
    conditions: tuple[Atom, ...]
    written: tuple[tuple[Atom, bool], ...]
    nested: tuple["Effect", ...]


@dataclass(frozen=True)
class UpstreamEngine:
    """The parts of the package that decide and describe what happens.

    Attributes:
        builder: the module that names the objects of an environment JSON.
        env: the module that makes a state of it, and text of a state.
        domain: the content of the domain JSON.
    """

    builder: ModuleType
    env: ModuleType
    domain: dict

    def start(self, environment_json: dict) -> LiveState:
        """Returns the package's state of an environment JSON, its bindings in an order that no hash decides."""
        _, named = self.builder.build_objects(environment_json)
        state = self.env.build_state(self.domain, named)
        state.special_effects = []  # else all states share one list, a default argument
        _order_bindings(state)
        return state

    def describe(self, state: LiveState) -> str:
        """Returns the text the package shows its agents."""
        return self.env.LanguageSpace.state_to_language_description(state)


def checkout() -> Path:
    """Returns the folder of the installed package's sources.

    Raises:
        UserError: it is not installed, or without the files that only an editable install has.
    """
    spec = importlib.util.find_spec("robotouille")
    if spec is None or importlib.util.find_spec("gym") is None:
        missing = "robotouille" if spec is None else "gym"
        raise UserError(f"env.engine='upstream' needs {missing}, which is not installed: {INSTALL}")
    folders = [Path(folder) for folder in spec.submodule_search_locations or ()]
    for root in (root for folder in folders for root in (folder.parent, folder)):
        if (root / "domain" / "robotouille.json").is_file() and (root / "backend" / "state.py").is_file():
            return root
    raise UserError(f"env.engine='upstream': the robotouille in {folders[0]} lacks its domain and backend: {INSTALL}")


@cache
def load_engine() -> UpstreamEngine:
    """Imports the engine of the installed package.

    Raises:
        UserError: it is not installed.
    """
    root = checkout()
    with contextlib.redirect_stderr(io.StringIO()):  # gym says on import that it is no longer maintained
        importlib.import_module("gym")
    with _aside(root):
        builder = importlib.import_module("environments.env_generator.builder")
        env = importlib.import_module("robotouille.env")
    return UpstreamEngine(builder, env, from_json((root / "domain" / "robotouille.json").read_text("utf-8")))


@contextlib.contextmanager
def _aside(root: Path) -> Generator[None]:
    """Makes the package's modules importable, without their `__init__.py`, and forgets them afterwards."""
    hidden = {name: sys.modules.pop(name) for name in list(sys.modules) if name.partition(".")[0] in _PACKAGES}
    for name in _PACKAGES:
        sys.modules[name] = ModuleType(name)
        sys.modules[name].__path__ = [str(root / name)]
    sys.modules["utils.pddlgym_interface"] = ModuleType("utils.pddlgym_interface")
    try:
        yield
    finally:
        for name in [name for name in sys.modules if name.partition(".")[0] in _PACKAGES]:
            del sys.modules[name]
        sys.modules.update(hidden)


def _order_bindings(live: LiveState) -> None:
    """Sorts the bindings of each action by its parameters in the order of their mention, each by the list of objects.

    The package makes them from a set of parameters, whose order changes with `PYTHONHASHSEED`.
    """
    position = {obj.name: index for index, obj in enumerate(live.objects)}
    for action, bindings in live.actions.items():
        names = dict.fromkeys(param.name for literal in action.precons for param in literal.params)
        bindings.sort(key=lambda args, names=tuple(names): [position[args[name].name] for name in names])


def _branch(live: LiveState) -> LiveState:
    """Copies what a step changes; domain, goal and ground actions are only ever replaced as a whole."""
    other = copy.copy(live)
    other.objects, other.predicates = list(live.objects), dict(live.predicates)
    other.special_effects = copy.deepcopy(live.special_effects)
    return other


@dataclass(frozen=True)
class UpstreamState:
    """A state as a value: two are equal if the same is true and the same effects are as far under way.

    Attributes:
        facts: the true atoms.
        pending: the package's pending effects in its order, with their counters.
        live: the package's own object; never changed once it is here.
    """

    facts: frozenset[Atom]
    pending: tuple[Effect, ...]
    live: LiveState = field(compare=False, repr=False)


def _freeze(live: LiveState) -> UpstreamState:
    true = (predicate for predicate, value in live.predicates.items() if value)
    return UpstreamState(frozenset(map(_atom, true)), tuple(map(_effect, live.special_effects)), live)


def _atom(predicate: Predicate) -> Atom:
    return predicate.name, tuple(param.name for param in predicate.params)


def _effect(effect: LiveEffect) -> Effect:
    counter = getattr(effect, "current_time", 0) + getattr(effect, "current_repetitions", 0)
    conditions = tuple(_atom(predicate) for predicate in getattr(effect, "condition", ()))
    written = tuple((_atom(predicate), value) for predicate, value in effect.effects.items())
    nested = tuple(map(_effect, effect.special_effects))
    kind = type(effect).__name__.removesuffix("Effect").lower()
    return Effect(kind, str(effect.arg), effect.completed, counter, conditions, written, nested)


def goal_conjunctions(kitchen: Kitchen) -> int:
    """Returns into how many conjunctions the package expands a goal: one for each choice of objects for its ids."""
    ids: dict[str, set[str]] = {}
    for atom in kitchen.goal.atoms:
        for kind, id_ in zip(atom.kinds, atom.ids, strict=True):
            if id_.isdigit():
                ids.setdefault(kind, set()).add(id_)
    names = [name for name, _, _ in kitchen.things()]
    found = {kind: sum(kind in name for name in names) for kind in ids}
    return math.prod(math.perm(found[kind] or len(ids[kind]), len(ids[kind])) for kind in ids)


class UpstreamProblem:
    """One kitchen played by the package, behind the protocol `stgrpo.protocol.Problem`.

    Args:
        kitchen: start and goal.
        task: the name of the task, for records.
        layout: the id of the layout, for records.
        max_steps: the cap on the steps of an episode.

    Raises:
        UserError: the package is not installed, or could not hold the goal in memory.
    """

    wait = WAIT

    def __init__(self, kitchen: Kitchen, *, task: str = "", layout: str = "", max_steps: int = 0):
        self.kitchen, self.task, self.layout, self.max_steps = kitchen, task, layout, max_steps
        self.goal = kitchen.goal.text
        conjunctions = goal_conjunctions(kitchen)
        if conjunctions > MOST_CONJUNCTIONS:
            raise UserError(
                f"env.engine='upstream': the package expands the goal of {task!r} {layout!r} into {conjunctions} "
                f"conjunctions, more than {MOST_CONJUNCTIONS} are refused; use env.engine='ours'"
            )
        self._engine = load_engine()
        self._start = _freeze(self._engine.start(kitchen_to_json(kitchen)))
        self._choices = lru_cache(_CACHED_STATES)(self._find_choices)
        self._texts = lru_cache(_CACHED_STATES)(lambda state: self._engine.describe(state.live))

    def initial_state(self) -> UpstreamState:
        """Returns the start."""
        return self._start

    def observation(self, state: UpstreamState) -> str:
        """Returns the text the package shows its agents."""
        return self._texts(state)

    def valid_actions(self, state: UpstreamState) -> tuple[str, ...]:
        """Returns the package's valid actions in its order of display."""
        return tuple(self._choices(state))

    def _find_choices(self, state: UpstreamState) -> dict[str, tuple[Definition, Arguments]]:
        actions, texts = state.live.get_valid_actions_and_str()
        return dict(zip(texts, actions, strict=True))

    def step(self, state: UpstreamState, action: str) -> UpstreamState:
        """Returns the state after an action; the one before is as it was.

        Raises:
            InvalidAction: the action is not valid here.
        """
        choice = self._choices(state).get(action)
        if choice is None:
            raise InvalidAction(f"The action {action!r} is not valid here; valid_actions(state) lists the valid ones.")
        definition, args = choice
        live = _branch(state.live)
        live.step([(definition, dict(args))])
        if live.actions is not state.live.actions:  # a meal was created, and the package grounded everything anew
            _order_bindings(live)
        return _freeze(live)

    def is_goal(self, state: UpstreamState) -> bool:
        """Says whether the goal holds."""
        return state.live.is_goal_reached()

    def predicates(self, state: UpstreamState) -> list[str]:
        """Returns all true predicates, sorted, as `name(arg1,arg2)`."""
        return sorted(map(write_atom, state.facts))


def _names(literals: str) -> tuple[str, ...]:
    return tuple(literal.predicate for literal in parse_literals(literals))


_SPECIALS: dict[tuple, Special] = {
    (_names(special.conditions), _names(special.effects), _names(special.results)): special
    for action in ACTIONS
    for special in action.specials
}


def _pending(effect: Effect) -> Pending:
    """Translates an effect under way into ours."""
    effects, results, counter = effect.written, (), effect.counter
    if effect.kind == "repetitive":
        effects, results = (), effect.written
    elif effect.nested:
        inner = effect.nested[0]
        counter, results = inner.counter, (inner.nested[0] if inner.nested else inner).written
    names = [tuple(name for (name, _), _ in part) for part in (effects, results)]
    special = _SPECIALS[tuple(name for name, _ in effect.conditions), *names]
    return Pending(effect_name(special, effect.argument, effect.conditions), counter, effect.completed)


class UpstreamPlanner:
    """Our planner, asked about the package's states."""

    def __init__(self, problem: UpstreamProblem):
        self._ours = RobotouilleProblem(
            problem.kitchen, task=problem.task, layout=problem.layout, max_steps=problem.max_steps
        )

    @cached_property
    def _planner(self) -> RobotouillePlanner:
        return Robotouille().planner(self._ours)

    def translate(self, state: UpstreamState) -> State:
        """Returns our state that is the same in every true atom and every hidden counter."""
        bits = self._ours.grounding.bits
        facts = sum(bits.get(atom, 0) for atom in state.facts)
        return State(facts, tuple(map(_pending, state.pending)))

    def distance(self, state: UpstreamState) -> int:
        """Returns the least number of steps to the goal."""
        return self._planner.distance(self.translate(state))

    def optimal_actions(self, state: UpstreamState) -> tuple[str, ...]:
        """Returns the actions that lead one step nearer to the goal, in display order; none at the goal."""
        return self._planner.optimal_actions(self.translate(state))


class UpstreamRobotouille:
    """The environment behind `stgrpo.envs.get("robotouille", engine="upstream")`: our layouts, the package's steps.

    Raises:
        UserError: the package is not installed.
    """

    def __init__(self) -> None:
        checkout()
        self._ours = Robotouille()

    def tasks(self) -> tuple[str, ...]:
        """Returns the names of the tasks."""
        return self._ours.tasks()

    def families(self) -> tuple[str, ...]:
        """Returns the families of the generator."""
        return self._ours.families()

    def benchmark_layouts(self, task: str) -> tuple[str, ...]:
        """Returns the benchmark's ten test layouts."""
        return self._ours.benchmark_layouts(task)

    def make(self, task: str, layout: str) -> UpstreamProblem:
        """Builds one problem from the kitchen of that name."""
        ours = self._ours.make(task, layout)
        return UpstreamProblem(ours.kitchen, task=task, layout=layout, max_steps=ours.max_steps)

    def planner(self, problem: UpstreamProblem) -> UpstreamPlanner:
        """Returns the planner of a problem."""
        return UpstreamPlanner(problem)

    def layouts(self, task: str, family: str, *, split: str, count: int, seed: int = 0) -> list[str]:
        """Lists layouts of one split; see `Robotouille.layouts`."""
        return self._ours.layouts(task, family, split=split, count=count, seed=seed)
