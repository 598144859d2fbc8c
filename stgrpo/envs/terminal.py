"""A person in the place of an agent, in the terminal or from a pipe: what `stgrpo play` of any environment is made of.

`run` is the loop; `ListedGame` the game of a problem whose valid actions are shown as a list. An environment draws its
states its own way. What is shown is what an agent is shown.
"""

import difflib
import sys
from collections.abc import Callable
from functools import cached_property
from typing import Generic, Protocol

from stgrpo.errors import UserError
from stgrpo.protocol import Ending, Planner, Problem, S, Scoring, expert_action_of

HELP = "a number or an action to do it; ? the shortest way from here; undo; raw the agent's text; help; quit"


class Game(Protocol):
    """An episode that is played line by line."""

    def over(self) -> bool:
        """Says whether the episode is at its end."""
        ...

    def take_turn(self) -> bool:
        """Does what the person says; False where they leave.

        Raises:
            EOFError: there are no more lines.
        """
        ...

    def ending(self) -> str:
        """Says what became of the episode."""
        ...


def run(game: Game) -> None:
    """Plays with the person at standard input, until the episode is over or they leave."""
    try:
        while not game.over() and game.take_turn():
            pass
    except (EOFError, KeyboardInterrupt):
        print()
    print(game.ending())


def ask() -> str:
    """Reads a line, and shows it where it comes from a pipe.

    Raises:
        EOFError: there are no more.
    """
    line = input("> ").strip()
    if not sys.stdin.isatty():
        print(line)
    return line


def steps_text(count: int) -> str:
    """A number of steps in words."""
    return f"{count} step{'' if count == 1 else 's'}"


class ListedGame(Generic[S]):
    """One episode, with every state since the start.

    Args:
        problem: what is played.
        planner: makes its planner, when a hint is asked for.
        draw: a state in words or characters, the valid actions left out.
        raw: whether states are shown in the very text an agent is shown instead.
    """

    def __init__(self, problem: Problem[S], planner: Callable[[], Planner[S]], *, draw: Callable[[S], str], raw: bool):
        self.problem, self._make_planner, self._draw, self._raw = problem, planner, draw, raw
        self._states = [problem.initial_state()]
        print(f"{problem.task} {problem.layout}\n({HELP})")

    @property
    def _state(self) -> S:
        return self._states[-1]

    @cached_property
    def _planner(self) -> Planner[S]:
        return self._make_planner()

    def over(self) -> bool:
        """Says whether the goal, the cap, or another end is reached."""
        return self._solved() or self._ended() or len(self._states) > self.problem.max_steps

    def _ended(self) -> bool:
        return isinstance(self.problem, Ending) and self.problem.is_over(self._state)

    def _solved(self) -> bool:
        return self.problem.is_goal(self._state)

    def take_turn(self) -> bool:
        """Shows the state, and reads lines until one changes it; False where the person leaves."""
        self._show()
        while True:
            word = ask()
            if word in ("quit", "q", "exit"):
                return False
            if self._changes(word):
                return True

    def _show(self) -> None:
        print(f"\nStep {len(self._states) - 1} of at most {self.problem.max_steps}: {self.problem.goal}")
        if self._raw:
            print(self.problem.observation(self._state))
            return
        print(self._draw(self._state))
        print("\nValid actions")
        print("\n".join(f"{i:3} {action}" for i, action in enumerate(self._actions(), 1)))

    def _actions(self) -> tuple[str, ...]:
        return self.problem.valid_actions(self._state)

    def _changes(self, word: str) -> bool:
        """Does what a word says; whether the state is another one then."""
        if word in ("undo", "u"):
            if len(self._states) == 1:
                print("There is nothing to undo.")
                return False
            self._states.pop()
            return True
        if word in ("?", "hint"):
            print(self._hint())
        elif word == "raw":
            print(self.problem.observation(self._state))
        elif word in ("help", "h", ""):
            print(HELP)
        elif action := self._understand(word):
            self._states.append(self.problem.step(self._state, action))
            return True
        return False

    def _understand(self, word: str) -> str | None:
        actions = self._actions()
        if word in actions:
            return word
        if word.isdecimal() and 1 <= int(word) <= len(actions):
            return actions[int(word) - 1]
        if word.isdecimal():
            print(f"{word} is not one of 1 to {len(actions)}.")
        else:
            like = difflib.get_close_matches(word, actions, n=1, cutoff=0.4)
            print(f"{word!r} is not a valid action here{f': did you mean {like[0]!r}?' if like else '.'}")
        return None

    def _hint(self) -> str:
        try:
            left, best = self._planner.distance(self._state), self._planner.optimal_actions(self._state)
        except UserError as error:
            return f"No hint: {error}.{self._expert()}"
        except KeyboardInterrupt:
            return "No hint: interrupted."
        shown = "\n".join(f"{self._actions().index(action) + 1:3} {action}" for action in best)
        return f"{steps_text(left)} to the goal at best, beginning with\n{shown}"

    def _expert(self) -> str:
        """What an expert does all the same that has not only the goal in mind."""
        try:
            action = expert_action_of(self._planner, self._state)
        except UserError:
            return ""
        return f" The expert would do this:\n{self._actions().index(action) + 1:3} {action}" if action else ""

    def ending(self) -> str:
        """Says what became of the episode, and how many steps it takes at best, where that is known."""
        taken = steps_text(len(self._states) - 1)
        if not self.over():
            return f"Left after {taken}."
        try:
            known = f"; the fewest possible: {self._planner.distance(self._states[0])}."
        except (UserError, KeyboardInterrupt):
            known = "."
        score = f", score {self.problem.score(self._state):.2f}" if isinstance(self.problem, Scoring) else ""
        lost = f"Over after {taken}, not solved" if self._ended() else f"Not solved within {taken}"
        return f"\n{f'Solved in {taken}' if self._solved() else lost}{score}{known}"
