"""BM25 as Lucene 9 computes it under Anserini, number by number: k1 = 0.9, b = 0.4, lengths kept in a byte.

A library such as `bm25s` has the formula but not the byte, so that it ranks products of nearly equal scores otherwise.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np

from stgrpo.envs.webshop.search.words import words

_K1, _B = np.float32(0.9), np.float32(0.4)
_ONE = np.float32(1)
_DECIMALS = 4
"""Scores that are the same to so many decimals count as the same; the name then decides."""


class Bm25:
    """An index of texts.

    Args:
        names: of the texts; they order those of equal score.
        texts: as many.
    """

    def __init__(self, names: Sequence[str], texts: Sequence[str]):
        self._names = names
        counts = [Counter(words(text)) for text in texts]
        lengths = [sum(count.values()) for count in counts]
        mean = np.float32(sum(lengths) / max(1, len(lengths)))
        self._norms = np.array([_norm(length, mean) for length in lengths], np.float32)
        postings: dict[str, list[tuple[int, int]]] = defaultdict(list)
        for number, count in enumerate(counts):
            for word, times in count.items():
                postings[word].append((number, times))
        self._postings = {word: np.array(found) for word, found in postings.items()}

    def search(self, query: str, count: int) -> list[tuple[int, float]]:
        """Returns the numbers and scores of the best texts, at most `count`; none has no word of the query."""
        scores = np.zeros(len(self._names))
        for word, times in Counter(words(query)).items():
            if word in self._postings:
                numbers, occurrences = self._postings[word].T
                weight = np.float32(times) * self._rarity(len(numbers))
                saturated = _ONE + occurrences.astype(np.float32) * self._norms[numbers]
                scores[numbers] += (weight - weight / saturated).astype(np.float64)
        found = [(int(number), float(np.float32(scores[number]))) for number in np.flatnonzero(scores)]
        return sorted(found, key=lambda hit: (-round(hit[1], _DECIMALS), self._names[hit[0]]))[:count]

    def _rarity(self, having: int) -> np.float32:
        return np.float32(math.log(1 + (len(self._names) - having + 0.5) / (having + 0.5)))


def _norm(length: int, mean: np.float32) -> np.float32:
    """One over how much a text's length tells against a word in it."""
    return _ONE / (_K1 * ((_ONE - _B) + _B * np.float32(kept_length(length)) / mean))


def kept_length(length: int) -> int:
    """Returns a length as Lucene's byte keeps it: exactly below 40, then by its four leading bits above 24."""
    above = length - 24
    shift = max(0, above.bit_length() - 4)
    return 24 + (above >> shift << shift) if above > 0 else length
