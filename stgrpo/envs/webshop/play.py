"""`stgrpo play --env=webshop`: a person in the shop, whose pages are shown with a line for each of their parts."""

from stgrpo.envs.terminal import ListedGame, run
from stgrpo.envs.webshop.planner.planner import ShopPlanner
from stgrpo.envs.webshop.shop.game import ShopProblem


def play(problem: ShopProblem, *, raw: bool = False) -> None:
    """Plays one goal with the person at standard input; ends at a purchase, at the cap, or when they leave.

    Args:
        problem: the goal.
        raw: whether to show the very text an agent is shown, instead of the page's words alone.
    """
    run(ListedGame(problem, lambda: ShopPlanner(problem), draw=lambda page: _lines(problem.page_text(page)), raw=raw))


def _lines(text: str) -> str:
    """A page with a line for each of its parts."""
    return text.replace(" [SEP] ", "\n")
