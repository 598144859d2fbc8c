"""The benchmark's reward of a purchase: how much of what the goal asks for is met, by how near the kind of product is.

It is r_type · (attributes met + options met + [price within the limit]) / (attributes + options + 1).
"""

from collections.abc import Mapping
from functools import lru_cache

from stgrpo.envs.webshop.shop.goal import Goal
from stgrpo.envs.webshop.shop.nouns import nouns
from stgrpo.envs.webshop.shop.product import Product
from stgrpo.envs.webshop.shop.similarity import is_alike

COLORS = (
    "alabaster apricot aqua ash asphalt azure banana beige black blue blush bordeaux bronze brown burgundy camel camo "
    "caramel champagne charcoal cheetah chestnut chocolate christmas coffee cognac copper coral cranberry cream "
    "crystal dark denim eggplant elephant espresso fuchsia gold granite grape graphite grass gray green grey heather "
    "indigo ivory ivy khaki lavender lemon leopard light lilac lime magenta maroon mauve merlot midnight mint mocha "
    "multicolor mushroom mustard natural navy nude olive orange peach pewter pink plum purple rainbow red rose royal "
    "rust sand sapphire seashell silver skull slate steel stone stonewash sunflower tan taupe teal tiger turquoise "
    "violet walnut wheat white wine yellow"
).split()
"""An option in which one of these occurs is taken for the first of them, in any place: "tan" also in "standard"."""


def reward(product: Product, goal: Goal, options: Mapping[str, str]) -> float:
    """Returns the reward, from 0 to 1, of buying a product with options chosen."""
    met = frozenset[int]().union(*(options_met(goal, value) for value in options.values()))
    return reward_of(goal, kind_match(product, goal), requirements_met(product, goal) + len(met))


def reward_of(goal: Goal, kind: float, met: int) -> float:
    """Returns the reward of a product of a kind that meets so many of the goal's attributes, options and its limit."""
    return met / (len(goal.attributes) + len(goal.options) + 1) * kind


def requirements_met(product: Product, goal: Goal) -> int:
    """Returns how much of the goal a product meets whatever options are chosen: attributes, and the price's limit."""
    return _attributes_met(product, goal) + (product.price <= goal.price_upper)


def options_met(goal: Goal, chosen: str) -> frozenset[int]:
    """Returns the numbers of the goal's options that a chosen value meets: those that it is like."""
    return _options_met(goal.options, chosen)


def kind_match(product: Product, goal: Goal) -> float:
    """Returns r_type: 1 for the goal's kind of product, 0.5, 0.1 or 0 for others, by nouns that the titles share."""
    wanted = nouns(goal.name)
    share = len(set(nouns(product.title)) & set(wanted)) / len(wanted) if wanted else 0.2
    if share < 0.1:
        return 0.1 if share else 0.0
    same_path = len(_parts(product.product_category) & _parts(goal.product_category)) >= 2
    return 1.0 if share > 0.2 or same_path or product.query == goal.query else 0.5


def _parts(path: str) -> set[str]:
    return {part.strip() for part in path.split("›")}


def _attributes_met(product: Product, goal: Goal) -> int:
    """How many of the goal's attributes the product has among its own, or says it has."""
    texts = [product.title.lower(), " ".join(product.features).lower(), product.description.lower()]
    return sum(
        any(is_alike(own, wanted) for own in product.attributes) or any(wanted in text for text in texts)
        for wanted in goal.attributes
    )


@lru_cache(maxsize=1 << 16)
def _options_met(wanted: tuple[tuple[str, str] | str, ...], chosen: str) -> frozenset[int]:
    value = _color_in(chosen) or chosen
    return frozenset(number for number, option in enumerate(wanted) if is_alike(value, _compared(option)))


def _compared(option: tuple[str, str] | str) -> str:
    """What a goal's option is compared as: a colour alone, else name and value as Python writes a pair of them.

    A goal of a person's has values without names.
    """
    if isinstance(option, str):
        return _color_in(option) or option
    return next((color for color in COLORS if color in option), str(option))


def _color_in(text: str) -> str:
    return next((color for color in COLORS if color in text), "")
