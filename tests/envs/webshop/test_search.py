"""The engine ranks as the benchmark's does; stems and words by examples that were published or worked by hand."""

import math

import pytest

from stgrpo.envs.webshop import Catalogue
from stgrpo.envs.webshop.search.bm25 import Bm25, kept_length
from stgrpo.envs.webshop.search.porter import stem
from stgrpo.envs.webshop.search.words import words

STEMS = """caresses caress, ponies poni, cats cat, feed feed, agreed agre, plastered plaster, motoring motor, sing sing,
conflated conflat, troubled troubl, sized size, hopping hop, falling fall, hissing hiss, filing file, happy happi,
sky sky, relational relat, conditional condit, digitizer digit, radically radic, vietnamization vietnam,
hopefulness hope, formality formal, sensibility sensibl, triplicate triplic, goodness good, revival reviv,
allowance allow, adjustable adjust, replacement replac, adoption adopt, homologous homolog, bowdlerize bowdler,
rate rate, cease ceas, controll control, roll roll, analogi analog, possibly possibl, as as"""


@pytest.mark.parametrize(("word", "expected"), [tuple(pair.split()) for pair in STEMS.split(",")])
def test_stems(word: str, expected: str) -> None:
    """Mostly the examples of Porter's paper."""
    assert stem(word) == expected


def test_words() -> None:
    assert (
        words("The men's T-Shirts, size 3.5 and café wi-fi_2 (x.y)") == "men t shirt size 3.5 café wi fi_2 x.y".split()
    )
    assert words("a 1,000 pcs. __ it's") == ["1,000", "pc"]  # "it" is a stop word


def test_a_score_by_hand() -> None:
    """Two texts of two words, of which one has the word: ln 2 · (1 - 1 / (1 + 1 / 0.9))."""
    ((number, score),) = Bm25(["a", "b"], ["red mug", "blue pan"]).search("mugs", 9)
    assert number == 0 and score == pytest.approx(math.log(2) * (1 - 1 / (1 + 1 / 0.9)))


def test_of_equal_texts_the_name_decides() -> None:
    hits = Bm25(["b", "a", "c"], ["red mug", "red mug", "blue"]).search("red mug", 2)
    assert [number for number, _ in hits] == [1, 0]


def test_lengths_are_kept_in_a_byte() -> None:
    """Lucene's SmallFloat: exact below 40, then in steps of 2, 4, 8."""
    assert [kept_length(n) for n in (0, 23, 39, 40, 41, 55, 56, 59, 60, 88, 95)] == [
        0,
        23,
        39,
        40,
        40,
        54,
        56,
        56,
        60,
        88,
        88,
    ]


def test_the_benchmarks_results(real: Catalogue, recorded_queries: list[tuple[str, list[str]]]) -> None:
    found = [[product.asin for product in real.hits(query)] for query, _ in recorded_queries]
    expected = [asins for _, asins in recorded_queries]
    assert len(expected) == 400 and [asins[:10] for asins in found] == [asins[:10] for asins in expected]
    assert sum(map(list.__eq__, found, expected)) >= 396  # the others differ where scores differ in the fifth decimal
