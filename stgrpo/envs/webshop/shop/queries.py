"""What an agent can search for: a few queries drawn from the instruction, so that actions stay a list.

The benchmark takes any words. These are the instruction without its limit, without its options, and the kind of product
alone.
"""

import re
from functools import lru_cache

_LIMIT = re.compile(r",? and price lower than [\d.]+ dollars\.?$")
_OPTIONS = re.compile(r" with (?:(?! with )[^:,])+: .*$")
_DETAILS = re.compile(r" (with|for) .*$")
_BRACKETS = re.compile(r"[\[\]]")


@lru_cache(maxsize=1 << 14)
def queries(instruction: str) -> tuple[str, ...]:
    """Returns the queries, none twice and at least one: the most useful first."""
    wanted = _LIMIT.sub("", _BRACKETS.sub(" ", instruction.lower()).strip()).removeprefix("find me ")
    described = _OPTIONS.sub("", wanted)
    kind = _DETAILS.sub("", described)
    return tuple(dict.fromkeys(query for query in (described, kind, wanted) if query)) or ("anything",)
