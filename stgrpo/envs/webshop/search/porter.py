"""Porter's stemmer with its author's own additions (tartarus.org/martin/PorterStemmer), as Lucene's English has it.

Of the paper (Porter 1980) it differs in "bli" for "abli", in "logi", and in leaving words of two letters alone.
"""

from collections.abc import Iterable
from functools import lru_cache

_SECOND = {
    "ational": "ate", "tional": "tion", "enci": "ence", "anci": "ance", "izer": "ize", "bli": "ble", "alli": "al",
    "entli": "ent", "eli": "e", "ousli": "ous", "ization": "ize", "ation": "ate", "ator": "ate", "alism": "al",
    "iveness": "ive", "fulness": "ful", "ousness": "ous", "aliti": "al", "iviti": "ive", "biliti": "ble", "logi": "log",
}  # fmt: skip
_THIRD = {"icate": "ic", "ative": "", "alize": "al", "iciti": "ic", "ical": "ic", "ful": "", "ness": ""}
_FOURTH = "al ance ence er ic able ible ant ement ment ent ion ou ism ate iti ous ive ize".split()


@lru_cache(maxsize=1 << 16)
def stem(word: str) -> str:
    """Returns the stem of a word in lower case."""
    if len(word) <= 2:
        return word
    word = _final_y(_past_and_progressive(_plural(word)))
    word = _replace(_replace(word, _SECOND), _THIRD)
    return _final_l(_final_e(_suffix(word)))


def _form(word: str) -> str:
    """The word with v for each vowel and c for each consonant; y is a vowel after a consonant."""
    form = ""
    for letter in word:
        form += "v" if letter in "aeiou" or (letter == "y" and form.endswith("c")) else "c"
    return form


def _measure(word: str) -> int:
    """How often a vowel is followed by a consonant."""
    return _form(word).count("vc")


def _has_short_end(word: str) -> bool:
    return _form(word).endswith("cvc") and word[-1] not in "wxy"


def _ends_double(word: str) -> bool:
    return len(word) > 1 and word[-1] == word[-2] and _form(word).endswith("c")


def _plural(word: str) -> str:
    if word.endswith(("sses", "ies")):
        return word[:-2]
    return word[:-1] if word.endswith("s") and not word.endswith("ss") else word


def _past_and_progressive(word: str) -> str:
    if word.endswith("eed"):
        return word[:-1] if _measure(word[:-3]) else word
    end = _longest(word, ("ed", "ing"))
    left = word.removesuffix(end)
    return _mended(left) if end and "v" in _form(left) else word


def _mended(left: str) -> str:
    """What is left of a verb, with the e back that its ending took, and one consonant where it doubled it."""
    if left.endswith(("at", "bl", "iz")):
        return left + "e"
    if _ends_double(left):
        return left if left[-1] in "lsz" else left[:-1]
    return left + "e" if _measure(left) == 1 and _has_short_end(left) else left


def _final_y(word: str) -> str:
    return word[:-1] + "i" if word.endswith("y") and "v" in _form(word[:-1]) else word


def _longest(word: str, ends: Iterable[str]) -> str:
    return max((end for end in ends if word.endswith(end)), key=len, default="")


def _replace(word: str, by: dict[str, str]) -> str:
    end = _longest(word, by)
    left = word.removesuffix(end)
    return left + by[end] if end and _measure(left) else word


def _suffix(word: str) -> str:
    end = _longest(word, _FOURTH)
    left = word.removesuffix(end)
    if end == "ion" and not left.endswith(("s", "t")):
        return word
    return left if _measure(left) > 1 else word


def _final_e(word: str) -> str:
    if not word.endswith("e"):
        return word
    left, measure = word[:-1], _measure(word[:-1])
    return left if measure > 1 or (measure == 1 and not _has_short_end(left)) else word


def _final_l(word: str) -> str:
    return word[:-1] if word.endswith("ll") and _measure(word) > 1 else word
