"""Exact distances to the best purchase, and the expert that goes the shortest way to it."""

import math

from stgrpo.envs.webshop.planner.purchases import Purchases
from stgrpo.envs.webshop.shop.game import ShopProblem
from stgrpo.envs.webshop.shop.pages import PER_PAGE, Place
from stgrpo.errors import UserError


class ShopPlanner:
    """What is known of one goal to one who knows all products.

    The expert goes the shortest way to the purchase of the highest reward that the goal's queries lead to. Where that
    is 1, a success, distances are to it and the expert is optimal; else there are no distances, but still an expert.
    """

    def __init__(self, problem: ShopProblem):
        self._problem, self._purchases = problem, Purchases(problem)
        self._from_start: float | None = None

    @property
    def best_reward(self) -> float:
        """The reward of the expert's purchase."""
        return self._purchases.best_reward

    def distance(self, state: Place) -> int:
        """Returns the least number of steps to the goal.

        Raises:
            UserError: it cannot be reached any more.
        """
        distance = self._distance(state)
        if distance == math.inf or self.best_reward < 1:
            raise UserError(f"{self._problem.task} {self._problem.layout}: the goal cannot be reached from here")
        return int(distance)

    def optimal_actions(self, state: Place) -> tuple[str, ...]:
        """Returns the actions that bring the goal one step nearer, in display order; none at the goal.

        Raises:
            UserError: it cannot be reached any more.
        """
        self.distance(state)
        return self._nearer(state)

    def expert_action(self, state: Place) -> str | None:
        """Returns the first action towards the best purchase; None after a purchase, and where there is none at all."""
        return next(iter(self._nearer(state)), None)

    def _nearer(self, state: Place) -> tuple[str, ...]:
        distance = self._distance(state)
        if distance in (0, math.inf):
            return ()
        problem = self._problem
        actions = problem.valid_actions(state)
        return tuple(action for action in actions if self._distance(problem.step(state, action)) == distance - 1)

    def _distance(self, state: Place) -> float:
        """The least number of steps to a best purchase."""
        if state.page == "done":
            return 0 if self._problem.reward(state) == self.best_reward else math.inf
        if state.page == "search":
            return self._from_search()
        ahead = {"results": self._from_results, "item": self._from_item, "sub": self._from_sub}[state.page](state)
        return min(ahead, 1 + self._from_search())

    def _from_search(self) -> float:
        if self._from_start is None:
            pages = (Place("results", query, 1) for query in self._problem.queries)
            self._from_start = 1 + min(map(self._from_results, pages))
        return self._from_start

    def _from_results(self, state: Place) -> float:
        hits = self._problem.shelves.hits(state.query)
        best = math.inf
        for number, product in enumerate(hits):
            clicks = self._purchases.clicks(product.asin, ())
            if clicks is not None:
                pages = abs(number // PER_PAGE + 1 - state.number)
                best = min(best, pages + 1 + clicks + 1)
        return best

    def _from_item(self, state: Place) -> float:
        clicks = self._purchases.clicks(state.asin, state.options)
        back = 1 + self._from_results(state)
        return back if clicks is None else min(clicks + 1, back)

    def _from_sub(self, state: Place) -> float:
        return 1 + self._from_item(state)
