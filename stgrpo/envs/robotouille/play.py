"""`stgrpo play`: a person in the place of an agent, in the terminal or from a pipe.

What is shown is what an agent is shown: effects under way (how often something was cut, how long it has been cooking)
stay hidden.
"""

import difflib
import sys

import numpy as np

from stgrpo.envs.robotouille.draw.svg import draw_lines, read_state
from stgrpo.envs.robotouille.vector import Kitchens
from stgrpo.errors import UserError
from stgrpo.protocol import Planner

HELP = "a number or an action to do it; ? the shortest way from here; undo; raw the agent's text; help; quit"


def play(task: str, layout: str, *, raw: bool = False) -> None:
    """Plays one episode with the person at standard input; ends at the goal, at the cap, or when they leave.

    Args:
        task: the name of a task.
        layout: as for `stgrpo.envs.robotouille.vector.Kitchens`.
        raw: whether states are shown in the very text an agent is shown, instead of a line a station.

    Raises:
        UserError: there is no such task or layout.
    """
    game = _Game(Kitchens(task, layout), raw=raw)
    print(f"{game.problem.task} {game.problem.layout}\n({HELP})")
    try:
        while not game.over():
            game.show()
            if not game.take_turn():
                break
    except (EOFError, KeyboardInterrupt):
        print()
    print(game.ending())


class _Game:
    """One episode, with every state since the start."""

    def __init__(self, kitchens: Kitchens, *, raw: bool):
        self._kitchens, self._raw = kitchens, raw
        self.problem = kitchens.draw(np.random.default_rng())
        self._states = [self.problem.initial_state()]
        self._planner: Planner | None = None

    def over(self) -> bool:
        """Says whether the goal or the cap is reached."""
        return self._solved() or len(self._states) > self.problem.max_steps

    def _solved(self) -> bool:
        return self.problem.is_goal(self._states[-1])

    def show(self) -> None:
        """Prints the state and the valid actions."""
        steps = len(self._states) - 1
        print(f"\nStep {steps} of at most {self.problem.max_steps}: {self.problem.goal}")
        if self._raw:
            print(self.problem.observation(self._states[-1]))
            return
        print(draw_lines(read_state(self.problem, self._states[-1])))
        print("\nValid actions")
        print("\n".join(f"{i:3} {action}" for i, action in enumerate(self._actions(), 1)))

    def _actions(self) -> tuple[str, ...]:
        return self.problem.valid_actions(self._states[-1])

    def take_turn(self) -> bool:
        """Reads lines until one changes the state; False where the person leaves.

        Raises:
            EOFError: there are no more lines.
        """
        while True:
            word = _ask()
            if word in ("quit", "q", "exit"):
                return False
            if word in ("undo", "u"):
                if len(self._states) > 1:
                    self._states.pop()
                    return True
                print("There is nothing to undo.")
            elif word in ("?", "hint"):
                print(self._hint())
            elif word == "raw":
                print(self.problem.observation(self._states[-1]))
            elif word in ("help", "h", ""):
                print(HELP)
            elif action := self._understand(word):
                self._states.append(self.problem.step(self._states[-1], action))
                return True

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

    def _plan(self) -> Planner:
        if self._planner is None:
            self._planner = self._kitchens.planner(self.problem)
        return self._planner

    def _hint(self) -> str:
        try:
            left, actions = self._plan().distance(self._states[-1]), self._plan().optimal_actions(self._states[-1])
        except UserError as error:
            return f"No hint: {error}."
        except KeyboardInterrupt:
            return "No hint: interrupted."
        best = "\n".join(f"{self._actions().index(action) + 1:3} {action}" for action in actions)
        return f"{_steps(left)} to the goal at best, beginning with\n{best}"

    def ending(self) -> str:
        """What became of the episode, and how many steps it takes at best, where that is known."""
        taken = _steps(len(self._states) - 1)
        if not self.over():
            return f"Left after {taken}."
        try:
            best = self._plan().distance(self._states[0])
        except (UserError, KeyboardInterrupt):
            known = "."
        else:
            known = f"; the fewest possible: {best}."
        return f"\n{f'Solved in {taken}' if self._solved() else f'Not solved within {taken}'}{known}"


def _ask() -> str:
    line = input("> ").strip()
    if not sys.stdin.isatty():
        print(line)
    return line


def _steps(count: int) -> str:
    return f"{count} step{'' if count == 1 else 's'}"
