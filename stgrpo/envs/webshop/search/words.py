"""The words of a text as Lucene's English analysis finds them.

Its steps: words by Unicode's rules (UAX 29, as its standard tokenizer has them), 's taken off, lower case, stop words
left out, stems.
"""

import re
from collections.abc import Iterator

import regex

from stgrpo.envs.webshop.search.porter import stem

_STOP = frozenset(
    "a an and are as at be but by for if in into is it no not of on or such that the their then there these they this "
    "to was will with".split()
)
_LETTER = r"[\p{L}\p{M}--\p{Han}--\p{Hiragana}]"
_DIGIT = r"\p{Nd}"
_PICTURE = r"(?:\p{Extended_Pictographic}|[\u2605\u2607-\u2685\u2690-\u2705\u2763-\u2767])(?:\p{EMod}|\ufe0f)*"
_BETWEEN_LETTERS = rf"(?<={_LETTER})[:：·.'’‘](?={_LETTER})"
_BETWEEN_DIGITS = rf"(?<={_DIGIT})[.,;'’‘⁄](?={_DIGIT})"
_WORD = regex.compile(
    rf"{_PICTURE}(?:\u200d{_PICTURE})*|\p{{Han}}|\p{{Hiragana}}|"
    rf"(?:{_LETTER}|{_DIGIT}|_)(?:{_LETTER}|{_DIGIT}|[_\u200d\ufe0f\u00ad]|{_BETWEEN_LETTERS}|{_BETWEEN_DIGITS})*",
    regex.V1,
)
_POSSESSIVE = re.compile(r"['’＇][sS]$")


def words(text: str) -> list[str]:
    """Returns the stems of a text's words in order, repeated as often as they occur."""
    return [stem(word) for word in _found(text) if word not in _STOP]


def _found(text: str) -> Iterator[str]:
    for token in _WORD.findall(text):
        if token.strip("_"):
            yield _POSSESSIVE.sub("", token).lower()
