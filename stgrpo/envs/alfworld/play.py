"""`stgrpo play --env=alfworld`: a person at the text game, in the terminal or from a pipe."""

from stgrpo.envs.alfworld.game.engine import AlfworldProblem, State
from stgrpo.envs.alfworld.planner.planner import AlfworldPlanner
from stgrpo.envs.terminal import ask, run, steps_text

HELP = "any command of the game; commands lists them; ? what the expert would do; undo; raw the agent's text; quit"


def play(problem: AlfworldProblem, *, raw: bool = False) -> None:
    """Plays one episode with the person at standard input; ends at the goal, at the cap, or when they leave.

    Args:
        problem: what is played.
        raw: whether to show the very text an agent is shown, instead of the game's words alone.
    """
    run(_Game(problem, raw=raw))


class _Game:
    """One episode, with every state since the start."""

    def __init__(self, problem: AlfworldProblem, *, raw: bool):
        self._problem, self._raw = problem, raw
        self._planner = AlfworldPlanner(problem)
        self._states: list[State] = [problem.initial_state()]
        print(f"{problem.task} {problem.layout}\n({HELP})")
        self._show()

    @property
    def _state(self) -> State:
        return self._states[-1]

    def over(self) -> bool:
        """Says whether the goal or the cap is reached."""
        return self._problem.is_goal(self._state) or len(self._states) > self._problem.max_steps

    def _show(self) -> None:
        text = self._problem.observation if self._raw else self._problem.feedback
        print(f"\n{text(self._state)}")

    def take_turn(self) -> bool:
        """Does what one line says; False where the person leaves.

        Raises:
            EOFError: there are no more lines.
        """
        word = ask()
        if word in ("quit", "q", "exit"):
            return False
        if word == "commands":
            print("\n".join(self._problem.admissible_commands(self._state)))
        elif word in ("?", "hint"):
            print(self._planner.expert_action(self._state) or "The expert is at a loss.")
        elif word == "raw":
            print(self._problem.observation(self._state))
        else:
            self._change(word)
            self._show()
        return True

    def _change(self, word: str) -> None:
        if word in ("undo", "u"):
            self._states[1:] = self._states[1:-1]
        elif word in self._problem.admissible_commands(self._state):
            self._states.append(self._problem.step(self._state, word))
        else:
            self._states[-1] = self._problem.unknown(self._state, word)

    def ending(self) -> str:
        """What became of the episode, and how many steps it takes at best."""
        taken = steps_text(len(self._states) - 1)
        if not self.over():
            return f"Left after {taken}."
        solved = "Solved in" if self._problem.is_goal(self._state) else "Not solved within"
        best = self._planner.distance(self._states[0])
        return f"\n{solved} {taken}; the fewest possible, for one who sees everything: {best}."
