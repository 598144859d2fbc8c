"""The nouns of a title, by which the benchmark's reward judges whether two products are of one kind.

The benchmark takes them by spaCy's en_core_web_sm, too large to be asked for here. What that says of the 1,000 titles
of the small setting is in a table: of each title a digest, and its nouns as turns of characters passed over and
characters taken. In any other title all words of letters count that are not in a list of those that mostly are no nouns
there.
`benchmarks/webshop_nouns.py` makes both.
"""

import hashlib
import re
from collections.abc import Iterator
from functools import cache, lru_cache
from importlib.resources import files

_FOLDER = "stgrpo.envs.webshop.shop"
TITLES, OTHER_WORDS = "nouns_of_titles.txt", "other_words.txt"


@lru_cache(maxsize=1 << 14)
def nouns(title: str) -> tuple[str, ...]:
    """Returns the nouns of a title in lower case, in order, repeated as often as they occur."""
    turns = _table().get(digest(title))
    found = _words(title) if turns is None else _taken(title, turns)
    return tuple(word.lower() for word in found)


def digest(title: str) -> str:
    """Returns what the table knows a title by."""
    return hashlib.sha256(title.encode()).hexdigest()[:10]


def _taken(title: str, turns: tuple[int, ...]) -> Iterator[str]:
    at = 0
    for skipped, length in zip(turns[::2], turns[1::2], strict=True):
        at += skipped + length
        yield title[at - length : at]


def _words(title: str) -> Iterator[str]:
    for word in re.findall(r"[^\W_]+", re.sub(r"['’]s\b", "", title)):
        if word.isalpha() and word.lower() not in _other_words():
            yield word


@cache
def _table() -> dict[str, tuple[int, ...]]:
    lines = (line.split() for line in _read(TITLES))
    return {name: tuple(map(int, turns)) for name, *turns in lines}


@cache
def _other_words() -> frozenset[str]:
    return frozenset(word for line in _read(OTHER_WORDS) for word in line.split())


def _read(name: str) -> list[str]:
    return (files(_FOLDER) / name).read_text("utf-8").splitlines()
