"""Why an action of the expert is right, in sentences."""

from stgrpo.envs.webshop.shop.pages import BACK, BUY, NEXT, PREVIOUS, Place, Shelves, option_name


def explain(shelves: Shelves, place: Place, verb: str, target: str) -> str:
    """Returns the reason for an action of the expert.

    Args:
        shelves: the products.
        place: before the action.
        verb: "search" or "click".
        target: what it searches for or clicks.
    """
    if verb == "search":
        return "I search for what the goal asks for."
    fixed = {
        BUY: "All that this item has of what the goal asks for is chosen. I buy it.",
        NEXT: "I have not found the item yet. I look at the next page.",
        PREVIOUS: "What I want is not here. I go back one page.",
        BACK: "This does not lead to what I want. I search again.",
    }
    if target in fixed:
        return fixed[target]
    if place.page == "results":
        return f"Of what is listed, {target.upper()} is nearest to the goal. I look at it."
    return f"The goal asks for such a {option_name(shelves.product(place.asin), target)}. I choose {target}."
