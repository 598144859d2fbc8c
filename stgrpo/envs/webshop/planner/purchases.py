"""The best purchases that can be reached by the queries of a goal, and the clicks that each of them takes."""

from collections.abc import Iterator, Mapping
from functools import cached_property, lru_cache

from stgrpo.envs.webshop.shop.game import ShopProblem
from stgrpo.envs.webshop.shop.product import Product
from stgrpo.envs.webshop.shop.reward import kind_match, options_met, requirements_met, reward_of

Met = frozenset[int]
"""Numbers of the goal's options."""


class Purchases:
    """What can be bought for a goal."""

    def __init__(self, problem: ShopProblem):
        self._problem, self._goal = problem, problem.wanted
        self._fewest_clicks = lru_cache(maxsize=1 << 14)(self._count_clicks)

    @cached_property
    def best_reward(self) -> float:
        """The highest reward of all purchases that can be reached."""
        return max((reward for _, reward in self._rated), default=0.0)

    @cached_property
    def best(self) -> tuple[Product, ...]:
        """The products that give it with the right options."""
        return tuple(product for product, reward in self._rated if reward == self.best_reward)

    def clicks(self, asin: str, chosen: tuple[tuple[str, str], ...]) -> int | None:
        """Returns the fewest clicks on options to the best reward from what is chosen; None if it gives less."""
        return self._fewest_clicks(asin, chosen) if asin in self._best_names else None

    @cached_property
    def _best_names(self) -> frozenset[str]:
        return frozenset(product.asin for product in self.best)

    @cached_property
    def _rated(self) -> list[tuple[Product, float]]:
        """The products that may be best, with their highest rewards; those that cannot be are left out early."""
        rated, best = [], 0.0
        for limit, product, kind, met in sorted(self._limits(), key=lambda found: -found[0]):
            if limit >= best:
                most = max(map(len, self._coverings(product, {})))
                rated.append((product, reward_of(self._goal, kind, met + most)))
                best = max(best, rated[-1][1])
        return rated

    def _limits(self) -> Iterator[tuple[float, Product, float, int]]:
        """Yields of each product a bound of its reward, itself, its kind's match, and what it meets without options."""
        found = {hit.asin: hit for query in self._problem.queries for hit in self._problem.shelves.hits(query)}
        for product in found.values():
            if kind := kind_match(product, self._goal):
                met = requirements_met(product, self._goal)
                most = min(len(self._goal.options), sum(map(len, product.options.values())))
                yield reward_of(self._goal, kind, met + most), product, kind, met

    def _coverings(self, product: Product, chosen: Mapping[str, str]) -> dict[Met, int]:
        """The sets of the goal's options that can be met with one value an option, and the fewest clicks to each."""
        ways: dict[Met, int] = {frozenset(): 0}
        for name, values in product.options.items():
            steps = self._choices(values, chosen.get(name.lower(), ""))
            further: dict[Met, int] = {}
            for met, clicks in ways.items():
                for more, cost in steps.items():
                    further[met | more] = min(clicks + cost, further.get(met | more, clicks + cost))
            ways = further
        return ways

    def _choices(self, values: tuple[str, ...], chosen: str) -> dict[Met, int]:
        """What can be met by one option, and whether it takes a click: leaving it as it is takes none."""
        choices = {options_met(self._goal, value): 1 for value in values}
        return choices | {options_met(self._goal, chosen) if chosen else frozenset(): 0}

    def _count_clicks(self, asin: str, chosen: tuple[tuple[str, str], ...]) -> int | None:
        product = self._problem.shelves.product(asin)
        base, kind = requirements_met(product, self._goal), kind_match(product, self._goal)
        ways = self._coverings(product, dict(chosen)).items()
        enough = (clicks for met, clicks in ways if reward_of(self._goal, kind, base + len(met)) == self.best_reward)
        return min(enough, default=None)
