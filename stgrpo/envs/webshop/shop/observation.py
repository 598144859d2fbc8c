"""What an agent is shown: the page without its buttons, what it has chosen, the valid actions and the goal.

The benchmark's plain text mode does not say which options were clicked, so an agent that is asked one turn at a time
could not know.
"""

from collections.abc import Iterator, Sequence

from stgrpo.envs.webshop.shop.pages import Place, Shelves, shown


def observation(shelves: Shelves, place: Place, *, actions: Sequence[str], instruction: str, score: float) -> str:
    """Returns the whole text.

    Args:
        shelves: the products.
        place: where the agent is.
        actions: that are valid there.
        instruction: the goal in words.
        score: of the purchase.
    """
    page = [" ".join(line.split()) for line in _page(shelves, place, score)]
    return "\n".join([*page, "", "Valid Actions:", *actions, "", f"Goal: {instruction}"])


def _page(shelves: Shelves, place: Place, score: float) -> Iterator[str]:
    if place.page == "search":
        yield "You are at the search page."
    elif place.page == "results":
        yield f"You searched for: {place.query}"
        yield f"Page {place.number} (Total results: {len(shelves.hits(place.query))})"
        for product in shown(shelves, place):
            yield f"{product.asin}: {product.title}, {product.price_text}"
    elif place.page == "done":
        yield f"You have bought {place.asin}. Your score is {score:.2f} of 1."
    else:
        yield from _item(shelves, place)


def _item(shelves: Shelves, place: Place) -> Iterator[str]:
    product = shelves.product(place.asin)
    yield f"{product.asin}: {product.title}"
    yield f"Price: {product.price_text}. Rating: {product.rating}"
    if place.page == "item":
        for name, values in product.options.items():
            yield f"{name}: {', '.join(values)}"
    else:
        yield f"Its {place.sub}:"
        yield from {
            "description": [product.description],
            "features": product.features,
            "reviews": [f"{review.title} ({review.score}): {review.body}" for review in product.reviews],
        }[place.sub]
    chosen = ", ".join(f"{name}: {value}" for name, value in place.options)
    yield f"You have chosen {chosen or 'no options'}."
