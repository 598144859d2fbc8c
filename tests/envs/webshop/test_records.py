"""Products of files: both forms, prices, and one line for what is wrong with them."""

import json
import lzma
import pathlib

import pytest

from stgrpo.envs.webshop import load
from stgrpo.errors import UserError

COLLECTED = {
    "asin": "B000000002",
    "name": "Red Pan",
    "full_description": "A pan.",
    "small_description": ["non stick"],
    "pricing": "$1,005.50 - $2,000.00",
    "customization_options": {"Size": [{"value": " 10/12 Inch "}], "Color": None},
    "category": "garden",
    "query": " Pans ",
    "product_category": "Home › Pans",
}


def test_products_as_they_were_collected(tmp_path: pathlib.Path) -> None:
    items = [COLLECTED, {**COLLECTED, "asin": "B000000003", "pricing": ""}, COLLECTED, {**COLLECTED, "asin": "nan"}]
    (tmp_path / "items_shuffle_1000.json").write_text(json.dumps(items), encoding="utf-8")
    (tmp_path / "items_ins_v2_1000.json").write_text("{}", encoding="utf-8")
    pan, free = load(tmp_path).products
    assert (pan.price_text, free.price_text, free.price) == ("$1005.5 to $2000.0", "$100.0", 100.0)
    assert 1005.5 <= pan.price <= 2000 and pan.price == load(tmp_path).products[0].price
    assert pan.options == {"size": ("10 | 12 inch",)} and pan.query == "pans" and pan.attributes == ("DUMMY_ATTR",)
    assert pan.contents == "red pan a pan. non stick size: 10 | 12 inch"


def test_prices_that_were_drawn(write_folder, mug: dict) -> None:
    assert load(write_folder([mug], **{"prices.json": '{"B000000001": 6.25}'})).products[0].price == 6.25


def test_packed(write_folder, mug: dict) -> None:
    folder = write_folder([mug])
    text = (folder / "documents.jsonl").read_bytes()
    (folder / "products.jsonl.xz").write_bytes(lzma.compress(text))
    (folder / "documents.jsonl").unlink()
    assert [product.asin for product in load(folder).products] == ["B000000001"]
    (folder / "products.jsonl.xz").write_bytes(lzma.compress(text)[:-20])
    with pytest.raises(UserError, match="products.jsonl.xz cannot be read"):
        load(folder)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"pricing": None}, r"documents.jsonl:1: product B000000001 has no price \(pricing is null\)"),
        ({"pricing": []}, "has no price"),
        ({"pricing": ["5"]}, "has no price"),
        ({"Title": None}, "documents.jsonl:1: Title is 'None', not a text"),
        ({"BulletPoints": "x"}, "BulletPoints is 'x', not a list of texts"),
        ({"options": {"size": [1]}}, "size is"),
        ({"options": []}, "options is"),
        ({"Reviews": ["x"]}, "'x' is no JSON object"),
        ({"Reviews": 1}, "Reviews is"),
    ],
)
def test_a_product_that_is_wrong(write_folder, mug: dict, change: dict, said: str) -> None:
    with pytest.raises(UserError, match=said):
        load(write_folder([mug | change]))


@pytest.mark.parametrize("key", ["Price", "pricing", "asin", "query", "options"])
def test_a_product_that_lacks_something(write_folder, mug: dict, key: str) -> None:
    with pytest.raises(UserError, match="documents.jsonl:1: .*(has no|asin)"):
        load(
            write_folder(
                [
                    {name: value for name, value in mug.items() if name != key} | {"asin": mug["asin"]}
                    if key != "asin"
                    else mug | {"asin": 1}
                ]
            )
        )


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"documents.jsonl": '{"id": '}, "documents.jsonl:1 is not JSON"),
        ({"documents.jsonl": "[]"}, "documents.jsonl:1: .* is no JSON object"),
        ({"documents.jsonl": "{}"}, "documents.jsonl:1: record has no product"),
        ({"documents.jsonl": ""}, "holds no products"),
        ({"items_ins_v2.json": "["}, "items_ins_v2.json is not JSON"),
        ({"items_ins_v2.json": '{"B000000001": 3}'}, "attributes of B000000001: '3' is no JSON object"),
        ({"prices.json": "{}"}, r"prices.json: product B000000001 has no price \(null\)"),
        ({"prices.json": '{"B000000001": "6"}'}, "has no price"),
    ],
)
def test_files_that_are_broken(write_folder, mug: dict, files: dict, said: str) -> None:
    with pytest.raises(UserError, match=said) as caught:
        load(write_folder([mug], **files))
    assert "\n" not in str(caught.value)


def test_folders_that_are_missing(tmp_path: pathlib.Path) -> None:
    with pytest.raises(UserError, match="none is no folder with WebShop's products: .*made:I"):
        load(tmp_path / "none")
    with pytest.raises(UserError, match=r"has none of items_ins_v2_1000.json, items_ins_v2.json"):
        load(tmp_path)
    (tmp_path / "items_ins_v2.json").write_text("{}")
    with pytest.raises(UserError, match=r"has none of products.jsonl.xz"):
        load(tmp_path)
