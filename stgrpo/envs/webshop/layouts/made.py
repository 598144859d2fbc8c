"""A catalogue of our own, generated: no real listing, so that tests and first runs need no data."""

import random
from collections.abc import Iterator, Mapping
from functools import cache

from stgrpo.envs.webshop.shop.catalogue import Catalogue
from stgrpo.envs.webshop.shop.product import Product

_SHELVES: Mapping[str, tuple[str, ...]] = {
    "garden": ("mugs", "lamps", "blankets", "curtains", "stools", "shelves"),
    "fashion": ("shirts", "coats", "socks", "hats", "gloves", "scarves"),
    "electronics": ("speakers", "chargers", "keyboards", "cameras"),
    "beauty": ("brushes", "mirrors", "soaps", "creams"),
    "grocery": ("teas", "cookies", "nuts", "jams"),
}
_QUALITIES = {
    "garden": ("easy to clean", "solid wood", "space saving", "machine washable", "eco friendly"),
    "fashion": ("machine wash", "long sleeve", "water resistant", "pure cotton", "quick drying"),
    "electronics": ("fast charging", "high definition", "long lasting", "light weight", "noise reducing"),
    "beauty": ("cruelty free", "travel size", "tea tree", "for dry skin", "paraben free"),
    "grocery": ("gluten free", "sugar free", "non gmo", "hand picked", "low sodium"),
}
_MAKERS = "Arbel Bontu Cavrel Dorvik Elmora Fentic Galdor Hesper Ilvane Jorund".split()
_COLORS = "black white red blue green grey yellow purple".split()
_SIZES = {
    "fashion": ("small", "medium", "large", "x-large"),
    "garden": ("single", "set of two", "set of four"),
    "electronics": ("compact", "regular", "studio"),
    "beauty": ("30 ml", "100 ml", "250 ml"),
    "grocery": ("100 gram", "250 gram", "1 kilogram"),
}
_SEED = 20616
_ASKED, _HAD = 2, 3


@cache
def made_catalogue() -> Catalogue:
    """Returns the catalogue, always the same: 240 products, ten of each of 24 kinds."""
    return Catalogue(list(_products(random.Random(_SEED))))


def _products(draw: random.Random) -> Iterator[Product]:
    kinds = [(category, kind) for category, kinds in _SHELVES.items() for kind in kinds]
    for number, (maker, (category, kind)) in enumerate((maker, kind) for maker in _MAKERS for kind in kinds):
        yield _product(f"M{number:09d}", maker, category, kind, draw)


def _product(asin: str, maker: str, category: str, kind: str, draw: random.Random) -> Product:
    qualities = draw.sample(_QUALITIES[category], _HAD)
    options = _options(category, draw)
    asked, price = tuple(qualities[:_ASKED]), round(draw.uniform(4, 180), 2)
    title = f"{maker} {kind.title()}, {qualities[0]}, {qualities[2]}"
    description = f"{kind.capitalize()} by {maker}."
    features = tuple(f"They are {quality}." for quality in qualities)
    said = ", and ".join(f"{name}: {', '.join(values)}" for name, values in options.items())
    return Product(
        asin=asin,
        title=title,
        description=description,
        features=features,
        price=price,
        price_text=f"${price}",
        rating="N.A.",
        reviews=(),
        options=options,
        attributes=tuple(qualities),
        query=kind,
        category=category,
        product_category=f"{category.title()} › {kind.title()}",
        contents=" ".join([title, description, features[0], said]).lower(),
        instruction=f"Find me {asked[0]} {kind} with {asked[1]}",
        instruction_attributes=asked,
    )


def _options(category: str, draw: random.Random) -> dict[str, tuple[str, ...]]:
    sizes = draw.sample(_SIZES[category], 2)
    return {"color": tuple(draw.sample(_COLORS, 3)), "size": tuple(sorted(sizes, key=_SIZES[category].index))}
