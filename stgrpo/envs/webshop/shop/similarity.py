"""How alike two short texts are: the token-set ratio of fuzzy string matching, which the benchmark's reward uses."""

import re

_NOT_ASCII_BUT_LATIN = dict.fromkeys(range(128, 256))
_ENOUGH = 85


def is_alike(a: str, b: str) -> bool:
    """Says whether the token-set ratio of two texts, rounded to a whole number, is above 85."""
    return round(token_set_ratio(a, b)) > _ENOUGH


def token_set_ratio(a: str, b: str) -> float:
    """Returns the ratio, from 0 to 100: 100 where the words of one are all among the words of the other.

    Else it is the best of three comparisons: of the common words with either text's words, and of the two with each
    other, each the share of characters that need no insertion or deletion.
    """
    of_a, of_b = _tokens(a), _tokens(b)
    if not of_a or not of_b:
        return 0.0
    common, only_a, only_b = (" ".join(sorted(tokens)) for tokens in (of_a & of_b, of_a - of_b, of_b - of_a))
    if common and not (only_a and only_b):
        return 100.0
    gap = bool(common)
    a_length, b_length = len(common) + gap + len(only_a), len(common) + gap + len(only_b)
    ratios = [_ratio(len(only_a) + len(only_b) - 2 * _common_length(only_a, only_b), a_length + b_length)]
    if common:
        ratios += [_ratio(gap + len(only), 2 * len(common) + gap + len(only)) for only in (only_a, only_b)]
    return max(ratios)


def _tokens(text: str) -> frozenset[str]:
    kept = text.translate(_NOT_ASCII_BUT_LATIN)
    return frozenset(re.sub(r"\W", " ", kept).lower().split())


def _ratio(distance: int, length: int) -> float:
    return 100 - 100 * distance / length


def _common_length(a: str, b: str) -> int:
    """The length of the longest common subsequence, by bits of one number: one for each character of `a`."""
    places: dict[str, int] = {}
    for number, letter in enumerate(a):
        places[letter] = places.get(letter, 0) | 1 << number
    row = everything = (1 << len(a)) - 1
    for letter in b:
        matching = row & places.get(letter, 0)
        row = (row + matching) | (row - matching)
    return len(a) - (row & everything).bit_count()
