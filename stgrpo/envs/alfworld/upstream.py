"""The package's own engine behind our protocol: the same games, played by textworld and Fast Downward.

It serves to check ours and to publish numbers that nobody has to take our word for; it is hundreds of times slower.
Layouts, planner and the memory of the observation are ours: its states are translated, those facts included that only
its text depends on. A step is pure because its state is put back first: Fast Downward knows states by number, and what
the package keeps beside it is kept here for each.
"""

import os
import sys
from collections import defaultdict
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from stgrpo.envs.alfworld.environment import AlfworldLayouts
from stgrpo.envs.alfworld.game.build import EntityNumbers
from stgrpo.envs.alfworld.game.complete import complete_problem
from stgrpo.envs.alfworld.game.engine import AlfworldProblem, State
from stgrpo.envs.alfworld.game.observation import observation
from stgrpo.envs.alfworld.game.record import read_record
from stgrpo.envs.alfworld.game.room import CLEAN, COOL, HOT, NOTHING, SLICED, TOGGLED, World
from stgrpo.envs.alfworld.layouts.games import VARIABLE
from stgrpo.envs.alfworld.planner.planner import AlfworldPlanner
from stgrpo.errors import UserError
from stgrpo.files import from_json
from stgrpo.protocol import InvalidAction

INSTALL = "pip install 'stgrpo[alfworld]' (Fast Downward is compiled, some minutes)"
_MARKS = {"isclean": CLEAN, "ishot": HOT, "iscool": COOL, "issliced": SLICED, "istoggled": TOGGLED}


class UpstreamState(NamedTuple):
    """A state of the package.

    Attributes:
        ours: the same in our terms, with what the agent has seen.
        number: of Fast Downward's state.
        said: the package's feedback.
    """

    ours: State
    number: int
    said: str


class Snapshot(NamedTuple):
    """What the package keeps of a state beside its number: facts by predicate, and the game's state."""

    facts: Mapping[str, frozenset]
    game: Mapping[str, Any]


class UpstreamProblem:
    """A game played by the package.

    Args:
        ours: the same game by our engine.
        content: of the game file, with domain and grammar.
    """

    def __init__(self, ours: AlfworldProblem, content: Mapping[str, Any]):
        self.ours, self._content = ours, content
        self.room = ours.room
        self.task, self.layout, self.goal, self.max_steps = ours.task, ours.layout, ours.goal, ours.max_steps
        self._numbers = EntityNumbers.of(read_record(content).facts)
        self._snapshots: dict[tuple[int, World], Snapshot] = {}

    @cached_property
    def _env(self) -> Any:
        """The package's environment, loaded when the first state is asked for: it takes seconds."""
        with _imported():
            import textworld
            from alfworld.agents.environment.alfred_tw_env import AlfredDemangler
            from textworld.envs import PddlEnv

            env = AlfredDemangler(PddlEnv(textworld.EnvInfos(admissible_commands=True, won=True)), shuffle=False)
            env.load(self._content)
        return env

    @property
    def _core(self) -> Any:
        """What does the steps, within the wrapper that gives things their names."""
        return self._env.unwrapped

    @cached_property
    def _start(self) -> UpstreamState:
        said = self._env.reset().feedback
        return self._noted(self.ours.initial_state(), said)

    def initial_state(self) -> UpstreamState:
        """Returns the state every episode starts in."""
        return self._start

    def feedback(self, state: UpstreamState) -> str:
        """Returns the package's text for the last command."""
        return state.said

    def admissible_commands(self, state: UpstreamState) -> tuple[str, ...]:
        """Returns the package's commands."""
        return tuple(self._snapshot(state).game["admissible_commands"])

    def valid_actions(self, state: UpstreamState) -> tuple[str, ...]:
        """Returns the same."""
        return self.admissible_commands(state)

    def is_goal(self, state: UpstreamState) -> bool:
        """Says whether the package calls the game won."""
        return bool(self._snapshot(state).game["won"])

    def step(self, state: UpstreamState, action: str) -> UpstreamState:
        """Returns the state after a command.

        Raises:
            InvalidAction: it is not admissible.
        """
        if action not in self.admissible_commands(state):
            raise InvalidAction(f"The command {action!r} is not admissible here.")
        return self._played(state, action)

    def unknown(self, state: UpstreamState, text: str) -> UpstreamState:
        """Returns the state after words that are no admissible command."""
        return self._played(state, text)

    def observation(self, state: UpstreamState) -> str:
        """Returns the text an agent is shown: the package's own words and commands, and our memory of them."""
        commands = self.admissible_commands(state)
        return observation(self.room, state.ours.world, state.ours.seen, said=state.said, commands=commands)

    def _snapshot(self, state: UpstreamState) -> Snapshot:
        return self._snapshots[state.number, state.ours.world]

    def _played(self, state: UpstreamState, text: str) -> UpstreamState:
        self._restore(state)
        action = self.ours.actions(state.ours).get(text)
        said = self._env.step(text)[0].feedback
        return self._noted(state.ours if action is None else self.ours.after(state.ours, action, self._world()), said)

    def _restore(self, state: UpstreamState) -> None:
        snapshot, pddl = self._snapshot(state), self._core._pddl_state
        pddl.downward_lib.set_state_id(state.number)
        pddl._facts = defaultdict(set, {name: set(facts) for name, facts in snapshot.facts.items()})
        self._core.state = snapshot.game
        pddl.all_applicable_actions()  # fills the table that the next step looks its action up in

    def _noted(self, ours: State, said: str) -> UpstreamState:
        """The package's present state, which can be returned to from now on."""
        pddl = self._core._pddl_state
        state = UpstreamState(ours._replace(world=self._world()), pddl.downward_lib.get_state_id(), said)
        facts = {name: frozenset(facts) for name, facts in pddl._facts.items()}
        self._snapshots[state.number, state.ours.world] = Snapshot(facts, self._core.state)
        return state

    def _world(self) -> World:
        """The package's facts in our terms."""
        numbers, facts = self._numbers, defaultdict(list)
        for fact in self._core._pddl_state.facts:
            facts[fact.name].append(tuple(argument.name for argument in fact.arguments))
        return World(
            at=numbers.locations[facts["atlocation"][0][-1]],
            held=next((numbers.objects[fact[-1]] for fact in facts["holds"]), NOTHING),
            opened=frozenset(numbers.receptacles[name] for (name,) in facts["opened"]),
            inside=frozenset((numbers.objects[o], numbers.receptacles[r]) for o, r in facts["inreceptacle"]),
            near=frozenset((numbers.objects[o], numbers.locations[at]) for o, at in facts["objectatlocation"]),
            left=frozenset((numbers.objects[o], numbers.receptacles[r]) for o, r in facts["not_inreceptacle"]),
            marks=frozenset((mark, numbers.objects[o]) for name, mark in _MARKS.items() for (o,) in facts[name]),
        )


class UpstreamPlanner:
    """Our planner and expert, asked about the package's states."""

    def __init__(self, problem: UpstreamProblem):
        self._planner = AlfworldPlanner(problem.ours)

    def distance(self, state: UpstreamState) -> int:
        """See `AlfworldPlanner.distance`."""
        return self._planner.distance(state.ours)

    def optimal_actions(self, state: UpstreamState) -> tuple[str, ...]:
        """See `AlfworldPlanner.optimal_actions`."""
        return self._planner.optimal_actions(state.ours)

    def expert_action(self, state: UpstreamState) -> str | None:
        """See `AlfworldPlanner.expert_action`."""
        return self._planner.expert_action(state.ours)


class UpstreamAlfworld(AlfworldLayouts):
    """The environment behind `stgrpo.envs.get("alfworld", engine="upstream")`.

    Raises:
        UserError: the package is not installed.
    """

    def __init__(self, data: str = ""):
        super().__init__(data)
        with _imported():
            import alfworld.agents.environment.alfred_tw_env  # noqa: F401
            import fast_downward  # noqa: F401

    def make(self, task: str, layout: str) -> UpstreamProblem:
        """Builds one problem; see `environment.make`."""
        ours = self._layouts.make(task, layout)
        return UpstreamProblem(ours, game_content(self._layouts.source(task, layout)))

    def planner(self, problem: UpstreamProblem) -> UpstreamPlanner:
        """Returns the planner of a problem."""
        return UpstreamPlanner(problem)


def game_content(game: Mapping[str, Any] | Path) -> dict[str, Any]:
    """Returns all that the package reads of a game; what is not a whole game file gets the rest from the package.

    Args:
        game: as `load` takes it.
    """
    content = dict(game) if isinstance(game, Mapping) else from_json(game.read_bytes())
    if "pddl_domain" in content:
        return content
    with _imported():
        from alfworld.info import ALFRED_PDDL_PATH, ALFRED_TWL2_PATH
    sentence = from_json(content["grammar"].removeprefix('"rhs": '))
    grammar = Path(ALFRED_TWL2_PATH).read_text("utf-8").replace("Your task is to: UNKNOWN GOAL.", sentence)
    problem = complete_problem(content["pddl_problem"])
    return {"pddl_domain": Path(ALFRED_PDDL_PATH).read_text("utf-8"), "grammar": grammar, "pddl_problem": problem}


@contextmanager
def _imported() -> Generator[None]:
    """Imports and calls of the package, without what they do to the process: its arguments, the place of the data."""
    arguments, data = sys.argv, os.environ.get(VARIABLE)
    try:
        yield
    except ImportError as error:
        raise UserError(f"env.engine='upstream': {error}: {INSTALL}") from error
    finally:
        sys.argv = arguments
        if data is None:
            os.environ.pop(VARIABLE, None)
        else:
            os.environ[VARIABLE] = data
