"""What somebody meant who names a field that does not exist: by spelling, by what others call it, or by its section."""

import difflib
import re
from collections.abc import Iterable

from stgrpo.config.build import FIELDS, RENAMED, SECTIONS

_NEAR = 0.75  # of two spellings, as difflib measures it, in the section that was named
_NEARER = 0.8  # in any section
_MOST = 3  # fields that are suggested at one time


def suggest(name: str) -> str:
    """For the end of an error message: the field that is meant, else the fields of the section, else the sections."""
    if name in RENAMED:
        return f"it is now {RENAMED[name]!r}"
    section = _section(name)
    if name not in SECTIONS and (found := meant(name)):
        return f"did you mean {' or '.join(map(repr, found))}?"
    if section:
        return f"the fields of {section} are {', '.join(SECTIONS[section].fields)}"
    return f"the sections are {', '.join(SECTIONS)}"


def meant(name: str) -> list[str]:
    """The fields that a name may stand for, the likeliest; empty when none is near.

    The same word comes before one that is spelt alike, and the section that was named before the others.
    """
    section, word = _section(name), _plain(name.rpartition(".")[2])
    mine = [field for field in FIELDS if section and field.startswith(f"{section}.")]
    return (
        _best(mine, word, 1.0) or _best(FIELDS, word, 1.0) or _best(mine, word, _NEAR) or _best(FIELDS, word, _NEARER)
    )[:_MOST]


def _best(fields: Iterable[str], word: str, least: float) -> list[str]:
    """Of these fields the nearest to a word, if they are as near as that."""
    scores = {field: max(_likeness(word, known) for known in _words(field)) for field in fields}
    most = max(scores.values(), default=0.0)
    return [field for field, score in scores.items() if score == most >= least]


def _words(field: str) -> Iterable[str]:
    """What a field is called, here and elsewhere."""
    return map(_plain, (field.rpartition(".")[2], *FIELDS[field].also))


def _likeness(a: str, b: str) -> float:
    return difflib.SequenceMatcher(None, a, b).ratio()


def _section(name: str) -> str:
    """The section that the first part of a name most likely is; empty for none."""
    first, dot, _ = name.partition(".")
    if first in SECTIONS or not dot:
        return first if first in SECTIONS else ""
    begins = [known for known in SECTIONS if first and known.startswith(first)]
    return (begins or difflib.get_close_matches(first, SECTIONS, n=1) or [""])[0]


def _plain(word: str) -> str:
    return re.sub("[^a-z0-9]", "", word.lower())
