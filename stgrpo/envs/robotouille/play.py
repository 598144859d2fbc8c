"""`stgrpo play`: a person in a kitchen, which is drawn with a line a station.

Effects under way (how often something was cut, how long it has been cooking) stay hidden, as they do from an agent.
"""

import numpy as np

from stgrpo.envs.robotouille.draw.svg import draw_lines, read_state
from stgrpo.envs.robotouille.vector import Kitchens
from stgrpo.envs.terminal import ListedGame, run


def play(task: str, layout: str, *, raw: bool = False) -> None:
    """Plays one episode with the person at standard input; ends at the goal, at the cap, or when they leave.

    Args:
        task: the name of a task.
        layout: as for `stgrpo.envs.robotouille.vector.Kitchens`.
        raw: whether states are shown in the very text an agent is shown, instead of a line a station.

    Raises:
        UserError: there is no such task or layout.
    """
    kitchens = Kitchens(task, layout)
    problem = kitchens.draw(np.random.default_rng())
    run(
        ListedGame(
            problem,
            lambda: kitchens.planner(problem),
            draw=lambda state: draw_lines(read_state(problem, state)),
            raw=raw,
        )
    )
