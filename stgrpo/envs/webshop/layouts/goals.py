"""Synthetic goals, made as the benchmark makes them: for each product with an instruction, one a choice of options.

The limit of a price is drawn by the benchmark from the four steps of ten dollars above it, before it seeds; here by the
product's name, so that it is the same in every run.
"""

import itertools
import random
from collections.abc import Iterable

from stgrpo.envs.webshop.shop.goal import Goal
from stgrpo.envs.webshop.shop.product import Product

_STEP, _HIGHEST, _DRAWN_FROM = 10, 990, 4
_NO_LIMIT = 1_000_000.0


def goals(products: Iterable[Product]) -> list[Goal]:
    """Returns the goals of all products, in their order."""
    return [goal for product in products if product.instruction for goal in _goals_of(product)]


def _goals_of(product: Product) -> list[Goal]:
    limit, said = _limit(product)
    names = sorted(product.options)
    combinations = itertools.product(*(product.options[name] for name in names))
    return [_goal(product, tuple(zip(names, values, strict=True)), limit, said) for values in combinations]


def _goal(product: Product, options: tuple[tuple[str, str], ...], limit: float, said: str) -> Goal:
    wanted = ", and ".join(f"{name}: {value}" for name, value in options)
    return Goal(
        asin=product.asin,
        name=product.title,
        query=product.query,
        product_category=product.product_category,
        instruction=f"{product.instruction}{' with ' if wanted else ''}{wanted}{said}",
        attributes=product.instruction_attributes,
        options=options,
        price_upper=limit,
    )


def _limit(product: Product) -> tuple[float, str]:
    """The limit, the higher of two steps above the price, and its words; nothing is said of a price above all."""
    above = [step for step in range(_STEP, _HIGHEST + 1, _STEP) if step > product.price][:_DRAWN_FROM]
    if len(above) < 2:
        return _NO_LIMIT, ""
    limit = float(max(random.Random(product.asin).sample(above, 2)))
    return limit, f", and price lower than {limit:.2f} dollars"
