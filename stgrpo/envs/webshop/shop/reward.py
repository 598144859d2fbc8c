"""The benchmark's reward of a purchase: how much of what the goal asks for is met, by how near the kind of product is.

It is r_type · (attributes met + options met + [price within the limit]) / (attributes + options + 1).
"""

from collections.abc import Iterator, Mapping, Sequence

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
    met = _attributes_met(product, goal) + _options_met(goal, list(options.values()))
    met += product.price <= goal.price_upper
    return met / (len(goal.attributes) + len(goal.options) + 1) * kind_match(product, goal)


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


def _options_met(goal: Goal, chosen: Sequence[str]) -> int:
    """How many of the goal's options were chosen, or something like them."""
    colors = [_color_in(value) or value for value in chosen]
    return sum(any(is_alike(value, wanted) for value in colors) for wanted in _wanted(goal))


def _wanted(goal: Goal) -> Iterator[str]:
    """The goal's options as they are compared: a colour alone, else name and value as Python writes a pair of them.

    A goal of a person's has values without names.
    """
    for option in goal.options:
        if isinstance(option, str):
            yield _color_in(option) or option
        else:
            yield next((color for color in COLORS if color in option), str(option))


def _color_in(text: str) -> str:
    return next((color for color in COLORS if color in text), "")
