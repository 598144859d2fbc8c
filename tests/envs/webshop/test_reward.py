"""The reward, part by part and by hand."""

import dataclasses

import pytest

from stgrpo.envs.webshop import load
from stgrpo.envs.webshop.shop.goal import Goal, read_goal
from stgrpo.envs.webshop.shop.nouns import digest, nouns
from stgrpo.envs.webshop.shop.product import Product
from stgrpo.envs.webshop.shop.reward import kind_match, reward
from stgrpo.envs.webshop.shop.similarity import is_alike, token_set_ratio
from stgrpo.errors import UserError

GOAL = Goal(
    "B1",
    "Blue Mug",
    "mugs",
    "Home › Kitchen › Mugs",
    "Find me",
    ("dishwasher safe", "bpa free"),
    (("color", "dark red"), ("size", "one")),
    6.0,
)


@pytest.fixture
def product(write_folder, mug: dict) -> Product:
    return load(write_folder([mug], **{"prices.json": '{"B000000001": 5.5}'})).products[0]


@pytest.mark.parametrize(
    ("options", "price", "met"),
    [
        ({}, 5.5, 2),  # dishwasher safe, price
        ({}, 6.5, 1),
        ({"color": "red"}, 5.5, 3),  # part of "('color', 'dark red')"
        ({"color": "dark blue"}, 5.5, 2),  # "blue" comes first in the list of colours
        ({"color": "dark reddish"}, 5.5, 3),  # taken for "dark"
        ({"size": "one"}, 5.5, 3),
        ({"color": "dark red", "size": "one"}, 5.5, 4),
        ({"size": "size"}, 5.5, 3),  # the benchmark compares with the option's name too
    ],
)
def test_a_purchase(product: Product, options: dict[str, str], price: float, met: int) -> None:
    assert reward(dataclasses.replace(product, price=price), GOAL, options) == met / 5


def test_an_attribute_may_stand_in_the_features(product: Product) -> None:
    one = dataclasses.replace(product, attributes=(), features=("BPA", "free cup"))
    assert reward(one, GOAL, {}) == 2 / 5


def test_options_of_people_have_no_names(product: Product) -> None:
    goal = read_goal(
        {
            "asin": "B1",
            "name": "Blue Mug",
            "query": "mugs",
            "product_category": "",
            "instruction_text": "",
            "attributes": [],
            "goal_options": ["one"],
            "price_upper": 9,
        }
    )
    assert [reward(product, goal, {"size": size}) for size in ("one", "two")] == [1.0, 0.5]


@pytest.mark.parametrize(
    ("title", "query", "path", "expected"),
    [
        ("Blue Mug", "pans", "Toys", 1.0),
        ("Red Pan", "mugs", "Home › Kitchen › Mugs", 0.0),  # no noun in common
        ("Mug of w1 w2 w3 w4", "pans", "Toys", 1.0),
    ],
)
def test_kinds(product: Product, title: str, query: str, path: str, expected: float) -> None:
    other = dataclasses.replace(product, title=title, query=query, product_category=path)
    assert kind_match(other, GOAL) == expected


@pytest.mark.parametrize(
    ("count", "related", "expected"), [(5, False, 0.5), (5, True, 1.0), (11, True, 0.1), (4, False, 1.0)]
)
def test_one_noun_in_so_many(product: Product, count: int, related: bool, expected: float) -> None:
    """A fifth or less is too little by itself, less than a tenth is so in any case."""
    goal = dataclasses.replace(
        GOAL, name=" ".join(["mug", *("kettle teapot spoon fork knife plate tray lid jar vase".split()[: count - 1])])
    )
    path = "Home › Kitchen" if related else "Toys"
    assert kind_match(dataclasses.replace(product, title="Mug", query="x", product_category=path), goal) == expected


def test_without_nouns_only_the_shelf_counts(product: Product) -> None:
    goal = dataclasses.replace(GOAL, name="100 3")
    assert kind_match(product, goal) == 1.0
    assert kind_match(dataclasses.replace(product, query="x", product_category="y"), goal) == 0.5


def test_nouns_of_any_title() -> None:
    assert nouns("The comfortable Women's Mug, 12oz, for you and 3") == ("women", "mug")
    assert len(digest("x")) == 10


def test_similarity() -> None:
    assert token_set_ratio("Machine Wash", "wash machine cold") == 100
    assert token_set_ratio("", "a") == token_set_ratio("!", "!") == 0
    assert token_set_ratio("abcd", "abxd") == 75  # three of four letters in order, twice, of eight
    assert token_set_ratio("x large", "size large") == pytest.approx(100 * 10 / 12)  # common "large" against "large x"
    assert is_alike("long sleeves", "long sleeve") and not is_alike("x large", "size large")
    assert token_set_ratio("café", "caf") == 100  # letters of Latin-1 beyond ASCII are dropped


@pytest.mark.parametrize(
    "wrong",
    [
        {"asin": 3},
        {"attributes": "x"},
        {"goal_options": [1]},
        {"goal_options": None},
        {"price_upper": None},
        {"name": None},
    ],
)
def test_what_is_no_goal(wrong: dict) -> None:
    right = {
        "asin": "B1",
        "name": "",
        "query": "",
        "product_category": "",
        "instruction_text": "",
        "attributes": [],
        "goal_options": {},
        "price_upper": 1,
    }
    with pytest.raises(UserError, match="^goal"):
        read_goal(right | wrong)
