"""One game as a `Problem`: states are immutable, and what the agent has seen is part of them."""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import NamedTuple

from stgrpo.envs.alfworld.game.observation import observation
from stgrpo.envs.alfworld.game.reasoning import explain
from stgrpo.envs.alfworld.game.room import NOTHING, Action, Room, World
from stgrpo.envs.alfworld.game.rules import apply, is_goal, possible
from stgrpo.envs.alfworld.game.text import Wording, command, feedback
from stgrpo.protocol import InvalidAction

MAX_STEPS = 50
"""Of an episode, as in published results."""

_CACHED_WORLDS = 1 << 10
_BEGIN, _UNKNOWN = Action("begin"), Action("unknown")


class State(NamedTuple):
    """A state of a game.

    Attributes:
        world: how things stand.
        seen: receptacles into which the agent has looked; only the agent moves things, so what is in them is known.
        last: what it did last, for the feedback.
    """

    world: World
    seen: frozenset[int]
    last: Action


class AlfworldProblem:
    """A game of ALFWorld.

    Args:
        room: what never changes.
        wording: of a version of the package.
        layout: a name for records.
        max_steps: the cap on the steps of an episode.
    """

    def __init__(self, room: Room, *, wording: Wording, layout: str, max_steps: int = MAX_STEPS):
        self.room, self.wording = room, wording
        self.task, self.layout, self.max_steps = room.goal.task, layout, max_steps
        self.goal = room.goal_in_words
        self._commands = lru_cache(_CACHED_WORLDS)(self._find_commands)
        self._always = {word: Action(word) for word in ("inventory", "look", *(["help"] if wording.help else []))}

    def initial_state(self) -> State:
        """Returns the state every episode starts in."""
        return State(self.room.start, frozenset(), _BEGIN)

    def feedback(self, state: State) -> str:
        """Returns the package's text for the last command; at the start its introduction."""
        return feedback(self.room, state.world, state.last, self.wording)

    def admissible_commands(self, state: State) -> tuple[str, ...]:
        """Returns the commands that are possible, sorted as the package does it."""
        return tuple(self._commands(state.world))

    def valid_actions(self, state: State) -> tuple[str, ...]:
        """Returns the same: nothing is kept back from an agent."""
        return self.admissible_commands(state)

    def actions(self, state: State) -> dict[str, Action]:
        """Returns what each admissible command does."""
        return self._commands(state.world)

    def step(self, state: State, action: str) -> State:
        """Returns the state after a command.

        Raises:
            InvalidAction: it is not admissible; `unknown` has what the game then says.
        """
        done = self._commands(state.world).get(action)
        if done is None:
            raise InvalidAction(f"The command {action!r} is not admissible here.")
        return self.after(state, done, apply(self.room, state.world, done))

    def after(self, state: State, action: Action, world: World) -> State:
        """Returns the state after an action that made this world of the state's: with what the agent sees by it."""
        return State(world, state.seen.union(self._seen_by(world, action)), action)

    def unknown(self, state: State, text: str) -> State:
        """Returns the state after words that are no admissible command: the game says that nothing happens."""
        return state._replace(last=_UNKNOWN)

    def is_goal(self, state: State) -> bool:
        """Says whether the game is won."""
        return is_goal(self.room, state.world)

    def observation(self, state: State) -> str:
        """Returns the text an agent is shown.

        It is the feedback, and before it what earlier ones have told: see `game.observation`.
        """
        said, commands = self.feedback(state), self.admissible_commands(state)
        return observation(self.room, state.world, state.seen, said=said, commands=commands)

    def explain(self, state: State, plan: Sequence[str]) -> str:
        """Says why the first action of the expert's plan is right, by what the agent knows; the rest it cannot know."""
        return explain(self.room, state.world, state.seen, self.actions(state)[plan[0]])

    def _find_commands(self, world: World) -> dict[str, Action]:
        found = {command(self.room, action, self.wording): action for action in possible(self.room, world)}
        return dict(sorted((found | self._always).items()))

    def _seen_by(self, world: World, action: Action) -> Iterable[int]:
        """The receptacles whose content an action shows: by its text, or by the commands to take things."""
        here = self.room.at_location[world.at]
        named = [action.place] if action.verb in ("go", "open", "search") else []
        shown = here if world.held == NOTHING else named
        return [receptacle for receptacle in shown if not self.room.is_closed(world, receptacle)]
