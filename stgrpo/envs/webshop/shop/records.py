"""Products of the benchmark's own files.

A folder has the products as the search engine was given them (`documents.jsonl`, or `products.jsonl`, also packed by
xz) or as they were collected (`items_shuffle_1000.json`, `items_shuffle.json`); then the file of attributes
(`items_ins_v2_1000.json`, `items_ins_v2.json`), and if it is there `prices.json`, the prices that were drawn.
"""

import hashlib
import lzma
import random
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeGuard

from stgrpo.envs.webshop.shop.fields import Fields
from stgrpo.envs.webshop.shop.product import Product, Review
from stgrpo.errors import UserError
from stgrpo.files import check_readable, from_json, read_object, reason_of, to_json

DOCUMENTS = ("products.jsonl.xz", "documents.jsonl.xz", "documents.jsonl", "products.jsonl")
ITEMS = ("items_shuffle_1000.json", "items_shuffle.json")
ATTRIBUTES = ("items_ins_v2_1000.json", "items_ins_v2.json")
PRICES = "prices.json"
_NO_PRICE_KNOWN = 100.0
_LONGEST_ASIN = 10
_GET = "its setup.sh gets them (docs/webshop.md), then set --config.env.data=FOLDER; layouts made:I need none"


def read_products(folder: Path) -> list[Product]:
    """Returns the products of a folder, in the order of its file; of two of one name the first.

    Raises:
        UserError: files are missing or broken, or a product lacks something; the file and line are named.
    """
    if not folder.is_dir():
        raise UserError(f"{folder} is no folder with WebShop's products: {_GET}")
    attributes = read_object(_one_of(folder, ATTRIBUTES), _GET)
    prices = read_object(folder / PRICES, _GET) if (folder / PRICES).exists() else None
    products: dict[str, Product] = {}
    for record in _records(folder):
        asin = record.text("asin")
        if asin not in products:
            products[asin] = _product(
                record, Fields(attributes.get(asin, {}), f"{folder}: attributes of {asin}"), prices
            )
    if not products:
        raise UserError(f"{folder} holds no products: {_GET}")
    return list(products.values())


def _one_of(folder: Path, names: tuple[str, ...]) -> Path:
    for name in names:
        if (folder / name).exists():
            return folder / name
    raise UserError(f"{folder} has none of {', '.join(names)}: {_GET}")


def _records(folder: Path) -> Iterator[Fields]:
    file = _one_of(folder, DOCUMENTS + ITEMS)
    check_readable(file, _GET)
    if file.name in ITEMS:
        yield from _collected(file)
    else:
        yield from _indexed(file)


def _indexed(file: Path) -> Iterator[Fields]:
    """The products of a file of documents: its lines have id, contents and product."""
    for number, line in enumerate(_lines(file), start=1):
        where = f"{file}:{number}"
        try:
            document = Fields(from_json(line), where)
        except ValueError as error:
            raise UserError(f"{where} is not JSON ({error}): copy the file again") from error
        record = Fields(document.value("product"), where)
        yield record.with_value("contents", document.text("contents"))


def _lines(file: Path) -> Iterator[str]:
    opened = lzma.open if file.suffix == ".xz" else open
    try:
        with opened(file, "rt", encoding="utf-8") as lines:
            yield from lines
    except (OSError, lzma.LZMAError, EOFError, UnicodeDecodeError) as error:
        raise UserError(f"{file} cannot be read ({reason_of(error)}): copy it again") from error


def _collected(file: Path) -> Iterator[Fields]:
    """The products of a file as they were collected, brought into the form of documents."""
    try:
        items = from_json(file.read_bytes())
    except (ValueError, OSError) as error:
        raise UserError(f"{file} is not JSON ({reason_of(error)}): copy it again") from error
    if not isinstance(items, list):
        raise UserError(f"{file} holds no list of products: copy it again")
    for number, item in enumerate(items):
        record = Fields(item, f"{file}, product {number}")
        if record.text("asin") != "nan" and len(record.text("asin")) <= _LONGEST_ASIN:
            yield _as_document(record)


def _as_document(item: Fields) -> Fields:
    options = dict(_options(item))
    pricing, price_text = _pricing(item)
    features = item.value("small_description")
    made = {
        "Title": item.text("name"),
        "Description": item.text("full_description"),
        "BulletPoints": features if isinstance(features, list) else [features],
        "query": item.text("query").lower().strip(),
        "options": options,
        "pricing": pricing,
        "Price": price_text,
        "Rating": "N.A.",
        "Reviews": [],
    }
    record = item
    for key, value in made.items():
        record = record.with_value(key, value)
    return record.with_value("contents", _contents(made))


def _contents(made: Mapping[str, Any]) -> str:
    """What the search engine reads: title, description, the first feature, options."""
    options = ", and ".join(f"{name}: {', '.join(values)}" for name, values in made["options"].items())
    features = [str(feature) for feature in made["BulletPoints"][:1]] or [""]
    return " ".join([made["Title"], made["Description"], *features, options]).lower()


def _options(item: Fields) -> Iterator[tuple[str, list[str]]]:
    if not item.value("customization_options"):
        return
    options = item.part("customization_options")
    for name in options.names():
        if options.value(name) is not None:
            values = [content.text("value") for content in options.parts(name)]
            yield name.lower(), [value.strip().replace("/", " | ").lower() for value in values]


def _pricing(item: Fields) -> tuple[list[float], str]:
    """The ends of a price range and how pages write it; the benchmark takes 100 dollars where there is none."""
    given = item.value("pricing")
    if not given:
        return [_NO_PRICE_KNOWN], f"${_NO_PRICE_KNOWN}"
    try:
        found = [float(re.sub(r"[^\d.]", "", part)) for part in given.split("$")[1:]][:2]
    except (ValueError, AttributeError) as error:
        raise UserError(f"{item.where}: pricing is {given!r}, no price in dollars: mend it") from error
    if not found:
        raise UserError(f"{item.where}: pricing is {given!r}, no price in dollars: mend it")
    return found, " to ".join(f"${price}" for price in found)


def _product(record: Fields, said: Fields, prices: Mapping[str, Any] | None) -> Product:
    asin, options = record.text("asin"), record.part("options")
    instruction = said.text("instruction") if said.value("instruction", None) else ""
    return Product(
        asin=asin,
        title=record.text("Title"),
        description=record.text("Description"),
        features=record.texts("BulletPoints"),
        price=_price(record, prices),
        price_text=record.text("Price"),
        rating=str(record.value("Rating")),
        reviews=tuple(map(_review, record.parts("Reviews"))),
        options={name: options.texts(name) for name in options.names()},
        attributes=said.texts("attributes") if said.has("attributes") else ("DUMMY_ATTR",),
        query=record.text("query"),
        category=record.text("category"),
        product_category=record.text("product_category"),
        contents=record.text("contents"),
        instruction=instruction,
        instruction_attributes=said.texts("instruction_attributes") if instruction else (),
    )


def _review(review: Fields) -> Review:
    return Review(*(str(review.value(key, "")) for key in ("title", "score", "body")))


def _price(record: Fields, prices: Mapping[str, Any] | None) -> float:
    """The price that is paid: that of the file of prices, or drawn from the range, by the product's name."""
    asin, pricing = record.text("asin"), record.value("pricing", None)
    if not (isinstance(pricing, list) and pricing and all(map(_is_number, pricing))):
        raise UserError(f"{record.where}: product {asin} has no price (pricing is {to_json(pricing)}): give it one")
    if prices is None:
        seed = hashlib.sha256(asin.encode()).digest()
        return float(pricing[0] if len(pricing) == 1 else random.Random(seed).uniform(*pricing[:2]))
    price = prices.get(asin)
    if _is_number(price):
        return float(price)
    raise UserError(f"{PRICES}: product {asin} has no price ({to_json(price)}): give it one, or remove the file")


def _is_number(value: Any) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)
