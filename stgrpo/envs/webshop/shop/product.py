"""A product, with what pages and reward need of it."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Review:
    """What a customer said: title, stars as the page writes them, and the text."""

    title: str
    score: str
    body: str


@dataclass(frozen=True, eq=False)
class Product:
    """A product.

    Attributes:
        asin: its name in the shop, of up to ten letters and digits.
        title: what pages call it.
        description: of its sub-page; may be empty.
        features: the lines of its sub-page of features.
        price: what is paid, in dollars.
        price_text: what pages say: one price, or the ends of a range.
        rating: as the item page says it.
        reviews: of their sub-page.
        options: the values of each option, in the order of the page.
        attributes: what it is like, such as "machine wash"; goals ask for some of them.
        query: the search by which it was found for the benchmark.
        category: one of the benchmark's five.
        product_category: its path in the shop, joined by "›".
        contents: what the search engine reads of it.
        instruction: what a synthetic goal for it begins with; empty where there is none.
        instruction_attributes: those of the attributes that this asks for.
    """

    asin: str
    title: str
    description: str
    features: tuple[str, ...]
    price: float
    price_text: str
    rating: str
    reviews: tuple[Review, ...]
    options: Mapping[str, tuple[str, ...]]
    attributes: tuple[str, ...]
    query: str
    category: str
    product_category: str
    contents: str
    instruction: str = ""
    instruction_attributes: tuple[str, ...] = ()
