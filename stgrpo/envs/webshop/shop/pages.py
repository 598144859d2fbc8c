"""The pages of the shop in the benchmark's plain text mode: their text, what can be clicked, where a click leads.

Pages are pure functions of where an agent is (`Place`), the products and the goal.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple, Protocol

from stgrpo.envs.webshop.shop.product import Product, Review
from stgrpo.files import to_json

PER_PAGE = 10
SUB_PAGES = ("description", "features", "reviews")
BACK, PREVIOUS, NEXT, BUY = "back to search", "< prev", "next >", "buy now"
_SEPARATOR = " [SEP] "
_HTML = {ord(letter): f"\\u{ord(letter):04x}" for letter in "<>&'"}


class Place(NamedTuple):
    """Where an agent is, and what it has chosen on the way.

    Attributes:
        page: "search", "results", "item", "sub" or "done".
        query: of the last search.
        number: of the results page, from 1.
        asin: of the item that is looked at, or was bought.
        options: names and values in the order in which the names were first clicked.
        sub: which of SUB_PAGES is shown.
    """

    page: str = "search"
    query: str = ""
    number: int = 0
    asin: str = ""
    options: tuple[tuple[str, str], ...] = ()
    sub: str = ""


class Shelves(Protocol):
    """What pages ask of a catalogue."""

    def product(self, asin: str) -> Product:
        """Returns the product of this name."""
        ...

    def hits(self, query: str) -> tuple[Product, ...]:
        """Returns what a search finds, best first."""
        ...


def shown(shelves: Shelves, place: Place) -> tuple[Product, ...]:
    """Returns the products of a results page."""
    return shelves.hits(place.query)[(place.number - 1) * PER_PAGE : place.number * PER_PAGE]


def clickables(shelves: Shelves, place: Place) -> list[str]:
    """Returns what can be clicked, in the order of the page; of the same words only the first."""
    return list(dict.fromkeys(_clickables(shelves, place)))


def _clickables(shelves: Shelves, place: Place) -> Iterator[str]:
    if place.page == "search":
        yield "search"
    if place.page in ("results", "item", "sub"):
        yield BACK
    if place.page in ("item", "sub") or (place.page == "results" and place.number > 1):
        yield PREVIOUS
    if place.page == "results":
        yield NEXT
        yield from (product.asin.lower() for product in shown(shelves, place))
    if place.page == "item":
        yield from (*SUB_PAGES, BUY)
        yield from (value for values in shelves.product(place.asin).options.values() for value in values)


def click(shelves: Shelves, place: Place, target: str) -> Place:
    """Returns where a click leads; the same place where there is no such thing to click."""
    if place.page == "search" or target not in clickables(shelves, place):
        return place
    if target == BUY:
        return place._replace(page="done")
    if target == BACK:
        return Place()
    return {"results": _from_results, "sub": _from_sub, "item": _from_item}[place.page](shelves, place, target)


def _from_results(shelves: Shelves, place: Place, target: str) -> Place:
    if target in (NEXT, PREVIOUS):
        return place._replace(number=place.number + (1 if target == NEXT else -1))
    return place._replace(page="item", asin=target.upper())


def _from_sub(shelves: Shelves, place: Place, target: str) -> Place:
    return place._replace(page="item", sub="")


def _from_item(shelves: Shelves, place: Place, target: str) -> Place:
    if target == PREVIOUS:
        return Place("results", place.query, place.number)
    if target in SUB_PAGES:
        return place._replace(page="sub", sub=target)
    name = option_name(shelves.product(place.asin), target)
    return place._replace(options=tuple((dict(place.options) | {name: target}).items()))


def option_name(product: Product, value: str) -> str:
    """Returns the option a value belongs to: the last, where several have it."""
    return [name.lower() for name, values in product.options.items() if value in values][-1]


def page_text(shelves: Shelves, place: Place, instruction: str, reward: float) -> str:
    """Returns the text of a page.

    Args:
        shelves: the products.
        place: where the agent is.
        instruction: the goal in words.
        reward: of the purchase; only the page after it says it.
    """
    if place.page == "done":
        return _joined(_done(place, reward))
    asked = ["Instruction:", instruction]
    if place.page == "search":
        return _joined(["WebShop", *asked, "Search"])
    return _joined([*asked, "Back to Search", *_BODIES[place.page](shelves, place)])


def _joined(texts: Iterable[str]) -> str:
    return _SEPARATOR.join(text.strip() for text in texts)


def _results(shelves: Shelves, place: Place) -> Iterator[str]:
    yield f"Page {place.number} (Total results: {len(shelves.hits(place.query))})"
    if place.number > 1:
        yield "< Prev"
    yield "Next >"
    for product in shown(shelves, place):
        yield from _said(product.asin, product.title, product.price_text)


def _item(shelves: Shelves, place: Place) -> Iterator[str]:
    product = shelves.product(place.asin)
    yield "< Prev"
    for name, values in product.options.items():
        yield from _said(name, *values)
    yield from _said(product.title, f"Price: {product.price_text}", f"Rating: {product.rating}")
    yield from ("Description", "Features", "Reviews", "Buy Now")


def _sub(shelves: Shelves, place: Place) -> Iterator[str]:
    product = shelves.product(place.asin)
    yield "< Prev"
    if place.sub == "description":
        yield from _said(product.description)
    elif place.sub == "features":
        yield from product.features
    else:
        for review in product.reviews:
            yield from _review(review)


def _review(review: Review) -> Iterator[str]:
    yield from _said(f'"{review.title}"', review.score, review.body)


def _said(*texts: str) -> Iterator[str]:
    """The texts without those that a page of the benchmark loses: empty ones, and single line breaks."""
    return (text for text in texts if text not in ("", "\n"))


_BODIES = {"results": _results, "item": _item, "sub": _sub}


def _done(place: Place, reward: float) -> Iterator[str]:
    """The page after a purchase; most of what it could say is left open in the text mode."""
    yield from ("Thank you for shopping with us!", "Your code:", "None", "(Paste it in your MTurk interface.)")
    yield from ("Purchased", "asin", place.asin, "options", _written(dict(place.options)))
    yield from ("attrs", "None", "category", "None", "query", "None", "product category", "None")
    yield from ("Target", "asin", "options", "attrs", "price upper", "instuction text", "category", "product category")
    yield from ("query", "Goal", "None", "Reward", "Your score (min 0.0, max 1.0)", str(reward))
    yield from ("Reward Details", "None")


def _written(options: Mapping[str, str]) -> str:
    """JSON that may stand in HTML."""
    return to_json(options, sort_keys=True).translate(_HTML)
