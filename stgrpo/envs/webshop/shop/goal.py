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
    attributes, limit = _texts(given.get("attributes")), given.get("price_upper")
    if attributes is None:
        raise UserError(f"goal {given['asin']}: attributes is {given.get('attributes')!r}, not a list of texts")
    if not isinstance(limit, int | float) or isinstance(limit, bool):
        raise UserError(f"goal {given['asin']}: price_upper is {limit!r}, not a number")
    return Goal(
        asin=given["asin"],
        name=given["name"],
        query=given["query"],
        product_category=given["product_category"],
        instruction=given["instruction_text"],
        attributes=attributes,
        options=_options(given),
        price_upper=float(limit),
    )


def _options(goal: Mapping[str, Any]) -> tuple[tuple[str, str] | str, ...]:
    given = goal.get("goal_options")
    values = _texts(list(given.values()) if isinstance(given, Mapping) else given)
    if values is None:
        raise UserError(
            f"goal {goal['asin']}: goal_options is {given!r}, neither names with values nor a list of values"
        )
    return tuple(zip(given, values, strict=True)) if isinstance(given, Mapping) else values


def _texts(value: Any) -> tuple[str, ...] | None:
    """A list of texts as a tuple; None where it is none."""
    is_list = isinstance(value, Sequence) and not isinstance(value, str)
    return tuple(value) if is_list and all(isinstance(item, str) for item in value) else None
