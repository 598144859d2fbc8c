"""Make the tables of nouns by which WebShop's reward judges kinds of products: what spaCy says of the titles.

    pip install spacy && python -m spacy download en_core_web_sm
    python benchmarks/webshop_nouns.py --data=FOLDER --model=en_core_web_sm

Writes them where `stgrpo.envs.webshop.shop.nouns` reads them.
"""

import argparse
import collections
import pathlib
import textwrap

from stgrpo.envs.webshop.shop import nouns
from stgrpo.envs.webshop.shop.records import read_products

FOLDER = pathlib.Path(nouns.__file__).parent
NOUNS = ("NOUN", "PROPN")


def turns(doc):
    """Characters passed over and taken, in turn, for the nouns of a title."""
    at = 0
    for token in doc:
        if token.pos_ in NOUNS:
            yield from (token.idx - at, len(token.text))
            at = token.idx + len(token.text)


def other_words(docs):
    """Words of letters that are no nouns in at least half of their places."""
    counts = collections.defaultdict(collections.Counter)
    for token in (token for doc in docs for token in doc if token.text.isalpha()):
        counts[token.lower_][token.pos_ in NOUNS] += 1
    return sorted(word for word, count in counts.items() if count[False] >= count[True])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=pathlib.Path, required=True, help="folder of the benchmark's products")
    parser.add_argument("--model", default="en_core_web_sm", help="of spaCy")
    words = parser.parse_args()
    import spacy  # of this script alone

    titles = sorted({product.title for product in read_products(words.data)}, key=nouns.digest)
    docs = list(spacy.load(words.model).pipe(titles))
    lines = [" ".join(map(str, (nouns.digest(doc.text), *turns(doc)))) for doc in docs]
    (FOLDER / nouns.TITLES).write_text("\n".join(lines) + "\n", "utf-8")
    (FOLDER / nouns.OTHER_WORDS).write_text(textwrap.fill(" ".join(other_words(docs)), 120) + "\n", "utf-8")


if __name__ == "__main__":
    main()
