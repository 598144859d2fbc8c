"""What is known of a game's states: exact distances with full sight, and the action of the expert without."""

import math

from stgrpo.envs.alfworld.game.engine import AlfworldProblem, State
from stgrpo.envs.alfworld.planner.search_expert import SearchExpert
from stgrpo.envs.alfworld.planner.world_planner import WorldPlanner
from stgrpo.errors import UserError


class AlfworldPlanner:
    """Exact distances of one game.

    Its optimal actions are those of one who knows where everything is, which an agent does not. Its expert, the one to
    imitate, is the `SearchExpert`.
    """

    def __init__(self, problem: AlfworldProblem):
        self._problem, self._worlds = problem, WorldPlanner(problem.room)
        self._expert = SearchExpert(problem)

    def distance(self, state: State) -> int:
        """Returns the least number of steps to the goal.

        Raises:
            UserError: it cannot be reached any more.
        """
        distance = self._worlds.distance(state.world)
        if distance == math.inf:
            raise self._dead_end()
        return int(distance)

    def is_dead_end(self, state: State) -> bool:
        """Says whether the goal cannot be reached any more: what is held can be put down nowhere."""
        return self._worlds.distance(state.world) == math.inf

    def optimal_actions(self, state: State) -> tuple[str, ...]:
        """Returns the commands that bring the goal one step nearer, in display order; none at the goal.

        Raises:
            UserError: it cannot be reached any more.
        """
        if self.is_dead_end(state):
            raise self._dead_end()
        best = self._worlds.best(state.world)
        return tuple(command for command, action in self._problem.actions(state).items() if action in best)

    def expert_action(self, state: State) -> str | None:
        """Returns what the expert does who knows only what it has seen; None at the goal and where it is at a loss."""
        return self._expert.action(state)

    def _dead_end(self) -> UserError:
        return UserError(f"{self._problem.task} {self._problem.layout}: the goal cannot be reached any more from here")
