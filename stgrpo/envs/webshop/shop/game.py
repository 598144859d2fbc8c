"""A goal in a catalogue as a problem: states are places, actions are searches and clicks."""

import re
from collections.abc import Sequence

from stgrpo.envs.webshop.shop import pages
from stgrpo.envs.webshop.shop.goal import Goal
from stgrpo.envs.webshop.shop.observation import observation
from stgrpo.envs.webshop.shop.pages import Place, Shelves
from stgrpo.envs.webshop.shop.queries import queries
from stgrpo.envs.webshop.shop.reasoning import explain
from stgrpo.envs.webshop.shop.reward import reward
from stgrpo.protocol import InvalidAction

MAX_STEPS = 15
_ACTION = re.compile(r"(.+)\[(.+)\]")


class ShopProblem:
    """One goal.

    Attributes:
        shelves: the products.
        wanted: the goal as a record; `goal` has its words.
    """

    max_steps = MAX_STEPS

    def __init__(self, shelves: Shelves, goal: Goal, *, task: str, layout: str):
        self.shelves, self.wanted, self.task, self.layout = shelves, goal, task, layout
        self.goal = goal.instruction
        self.queries = queries(goal.instruction)

    def initial_state(self) -> Place:
        """Returns the search page."""
        return Place()

    def act(self, state: Place, action: str) -> Place:
        """Returns the page after any action; what the page does not know changes nothing, as in the benchmark."""
        verb, target = _parts(action)
        if verb == "search":
            return Place("results", target, 1)
        return pages.click(self.shelves, state, target) if verb == "click" else state

    def page_text(self, state: Place) -> str:
        """Returns the text of the page in the benchmark's plain text mode."""
        return pages.page_text(self.shelves, state, self.goal, self.reward(state))

    def clickables(self, state: Place) -> list[str]:
        """Returns what can be clicked on the page, in the benchmark's order."""
        return pages.clickables(self.shelves, state)

    def reward(self, state: Place) -> float:
        """Returns the benchmark's reward, from 0 to 1; 0 before the purchase."""
        if state.page != "done":
            return 0.0
        return reward(self.shelves.product(state.asin), self.wanted, dict(state.options))

    def score(self, state: Place) -> float:
        """Returns the same: what papers report, times 100, as the score."""
        return self.reward(state)

    def valid_actions(self, state: Place) -> tuple[str, ...]:
        """Returns the searches that `queries` proposes, on the search page; on others all that can be clicked."""
        if state.page == "search":
            return tuple(f"search[{query}]" for query in self.queries)
        return tuple(f"click[{target}]" for target in self.clickables(state))

    def step(self, state: Place, action: str) -> Place:
        """Returns the page after a valid action.

        Raises:
            InvalidAction: it is not valid here.
        """
        if action not in self.valid_actions(state):
            raise InvalidAction(f"The action {action!r} is not valid on this page.")
        return self.act(state, action)

    def is_goal(self, state: Place) -> bool:
        """Says whether something was bought that meets the goal in all: the benchmark's success."""
        return self.reward(state) == 1.0

    def is_over(self, state: Place) -> bool:
        """Says whether something was bought."""
        return state.page == "done"

    def observation(self, state: Place) -> str:
        """Returns the text an agent is shown, see `observation`."""
        actions, score = self.valid_actions(state), self.reward(state)
        return observation(self.shelves, state, actions=actions, instruction=self.goal, score=score)

    def explain(self, state: Place, plan: Sequence[str]) -> str:
        """Says why the first action of the expert's plan is right."""
        return explain(self.shelves, state, *_parts(plan[0]))


def _parts(action: str) -> tuple[str, str]:
    """What an action does and to what, in lower case, as the benchmark reads it; nothing where it cannot."""
    match = _ACTION.match(action)
    return (match[1], match[2].lower()) if match else ("", "")
