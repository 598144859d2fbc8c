"""What is to be bought."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stgrpo.errors import UserError

_TEXTS = ("query", "name", "product_category", "instruction_text")


@dataclass(frozen=True)
class Goal:
    """A goal.

    Attributes:
        asin: the product it was made of.
        name: the title of that product.
        query: the search by which that was found for the benchmark.
        product_category: its path in the shop.
        instruction: the goal in words.
        attributes: that are asked for.
        options: pairs of name and value; values alone in goals written by people.
        price_upper: the limit, in dollars.
    """

    asin: str
    name: str
    query: str
    product_category: str
    instruction: str
    attributes: tuple[str, ...]
    options: tuple[tuple[str, str] | str, ...]
    price_upper: float


def read_goal(given: Mapping[str, Any]) -> Goal:
    """Returns a goal of the benchmark's own form.

    Raises:
        UserError: something is missing, or not what it should be.
    """
    for key in ("asin", *_TEXTS):
        if not isinstance(given.get(key), str):
            raise UserError(f"goal: {key} is {given.get(key)!r}, not a text: take a goal as the benchmark writes it")
    attributes, options, limit = given.get("attributes"), given.get("goal_options"), given.get("price_upper")
    if not _are_texts(attributes):
        raise UserError(f"goal {given['asin']}: attributes is {attributes!r}, not a list of texts")
    if not isinstance(limit, int | float) or isinstance(limit, bool):
        raise UserError(f"goal {given['asin']}: price_upper is {limit!r}, not a number")
    return Goal(
        asin=given["asin"],
        name=given["name"],
        query=given["query"],
        product_category=given["product_category"],
        instruction=given["instruction_text"],
        attributes=tuple(attributes),
        options=_options(given["asin"], options),
        price_upper=float(limit),
    )


def _options(asin: str, given: object) -> tuple[tuple[str, str] | str, ...]:
    if isinstance(given, Mapping) and _are_texts(list(given.values())):
        return tuple(given.items())
    if _are_texts(given):
        return tuple(given)
    raise UserError(f"goal {asin}: goal_options is {given!r}, neither names with values nor a list of values")


def _are_texts(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str) and all(isinstance(item, str) for item in value)
