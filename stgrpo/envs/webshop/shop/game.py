"""A goal in a catalogue as a problem: states are places, actions are searches and clicks."""

import re

from stgrpo.envs.webshop.shop import pages
from stgrpo.envs.webshop.shop.goal import Goal
from stgrpo.envs.webshop.shop.pages import Place, Shelves
from stgrpo.envs.webshop.shop.reward import reward

_ACTION = re.compile(r"(.+)\[(.+)\]")


class ShopProblem:
    """One goal."""

    def __init__(self, shelves: Shelves, goal: Goal, *, task: str, layout: str):
        self.shelves, self.goal_record, self.task, self.layout = shelves, goal, task, layout

    def initial_state(self) -> Place:
        """Returns the search page."""
        return Place()

    def act(self, state: Place, action: str) -> Place:
        """Returns the page after any action; what the page does not know changes nothing, as in the benchmark."""
        match = _ACTION.match(action)
        verb, target = (match[1], match[2].lower()) if match else ("", "")
        if verb == "search":
            return Place("results", target, 1)
        return pages.click(self.shelves, state, target) if verb == "click" else state

    def page_text(self, state: Place) -> str:
        """Returns the text of the page in the benchmark's plain text mode."""
        return pages.page_text(self.shelves, state, self.goal_record.instruction, self.reward(state))

    def clickables(self, state: Place) -> list[str]:
        """Returns what can be clicked on the page, in the benchmark's order."""
        return pages.clickables(self.shelves, state)

    def reward(self, state: Place) -> float:
        """Returns the benchmark's reward, from 0 to 1; 0 before the purchase."""
        if state.page != "done":
            return 0.0
        return reward(self.shelves.product(state.asin), self.goal_record, dict(state.options))
