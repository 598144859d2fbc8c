"""The benchmark's data and what was recorded in it, where they are at hand, and a folder of a few products by hand."""

import gzip
import json
import pathlib

import pytest

from stgrpo.envs.webshop import Catalogue, load

SHARED = pathlib.Path(__file__).resolve().parents[4] / "shared" / "webshop"
MUG = {
    "asin": "B000000001",
    "Title": "Blue Mug <Large>",
    "Description": "",
    "BulletPoints": ["dishwasher safe ", ""],
    "Price": "$5.0 to $7.0",
    "pricing": [5.0, 7.0],
    "Rating": "N.A.",
    "Reviews": [{"title": "Fine", "score": 4, "body": "It holds tea"}],
    "options": {"color": ["blue", "red"], "Size": ["one", "red"]},
    "query": "mugs",
    "category": "garden",
    "product_category": "Home › Kitchen › Mugs",
}


def document(product: dict) -> str:
    return json.dumps({"id": product["asin"], "contents": str(product.get("Title")).lower(), "product": product})


@pytest.fixture(scope="session")
def mug() -> dict:
    """The record of a product, as `documents.jsonl` has it."""
    return MUG


@pytest.fixture
def write_folder(tmp_path: pathlib.Path):
    """`write_folder(products)`: writes a folder of such products and returns it."""

    def write(products: list[dict], **files: str) -> pathlib.Path:
        said = {product["asin"]: {"attributes": ["dishwasher safe"]} for product in products}
        content = {"documents.jsonl": "\n".join(map(document, products)), "items_ins_v2.json": json.dumps(said)}
        for name, text in (content | files).items():
            (tmp_path / name).write_text(text, encoding="utf-8")
        return tmp_path

    return write


@pytest.fixture(scope="session")
def folder() -> pathlib.Path:
    """The benchmark's small setting; it lives beside the project, not in it."""
    if not SHARED.is_dir():
        pytest.skip("the products are not at hand (../shared/webshop)")
    return SHARED


@pytest.fixture(scope="session")
def real(folder: pathlib.Path) -> Catalogue:
    return load(folder)


@pytest.fixture(scope="session")
def recorded_sessions(folder: pathlib.Path) -> list[dict]:
    """Sessions in the benchmark's own environment, page by page."""
    with gzip.open(folder / "pages.jsonl.gz", "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


@pytest.fixture(scope="session")
def recorded_queries(folder: pathlib.Path) -> list[tuple[str, list[str]]]:
    """Queries, and the products that the benchmark's engine found."""
    with gzip.open(folder / "queries.tsv.gz", "rt", encoding="utf-8") as file:
        rows = [line.rstrip("\n").split("\t") for line in file]
    return [(query, [hit.partition(":")[0] for hit in hits.split()]) for query, hits in rows]
