"""A catalogue: products with a search engine over them."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from stgrpo.envs.webshop.search.bm25 import Bm25
from stgrpo.envs.webshop.shop.game import ShopProblem
from stgrpo.envs.webshop.shop.goal import Goal, read_goal
from stgrpo.envs.webshop.shop.product import Product
from stgrpo.envs.webshop.shop.records import read_products

HITS = 50
"""How many a search finds at most."""
_KEPT_SEARCHES = 4096


class Catalogue:
    """Products, by name and by search.

    Args:
        products: in the order in which they are listed; no two of one name.
    """

    def __init__(self, products: Sequence[Product]):
        self.products = tuple(products)
        self._by_name = {product.asin: product for product in products}
        self._index = Bm25([product.asin for product in products], [product.contents for product in products])
        self._found = lru_cache(maxsize=_KEPT_SEARCHES)(self._search)

    def product(self, asin: str) -> Product:
        """Returns the product of this name."""
        return self._by_name[asin]

    def problem(self, goal: Mapping[str, Any] | Goal, *, task: str = "shop", layout: str = "goal") -> ShopProblem:
        """Builds the problem of a goal, in the benchmark's form or as it is read.

        Raises:
            UserError: it is no goal.
        """
        return ShopProblem(self, goal if isinstance(goal, Goal) else read_goal(goal), task=task, layout=layout)

    def hits(self, query: str) -> tuple[Product, ...]:
        """Returns what a search finds, best first; "<q> QUERY" and "<c> CATEGORY" list what is filed under these."""
        return self._found(query)

    def _search(self, query: str) -> tuple[Product, ...]:
        first, _, rest = query.partition(" ")
        if first == "<q>":
            return tuple(product for product in self.products if product.query == rest.strip())
        if first == "<c>":
            return tuple(product for product in self.products if product.category == rest.partition(" ")[0])
        return tuple(self.products[number] for number, _ in self._index.search(query, HITS))


def load(folder: str | Path) -> Catalogue:
    """Reads the catalogue of a folder with the benchmark's files, see `records`.

    Raises:
        UserError: there are none, or something in them is missing or broken; file and line are named.
    """
    return Catalogue(read_products(Path(folder).expanduser()))
