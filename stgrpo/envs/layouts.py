"""Names of layouts, KIND:NUMBER, as environments list them."""

from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path

from stgrpo.errors import UserError


def first_layouts(candidates: Iterable[str], count: int, what: str, *, seed: int) -> list[str]:
    """The first so many layouts.

    Args:
        candidates: distinct ones; no more of them are made than are wanted.
        count: how many are wanted.
        what: they are, for the error, such as "train layouts of burger small".
        seed: that they were drawn from.

    Raises:
        UserError: there are fewer.
    """
    found = list(islice(candidates, count))
    if len(found) < count:
        raise UserError(
            f"layouts: {count} {what} asked for, {len(found)} distinct found from seed {seed}; "
            f"ask for at most {len(found)}"
        )
    return found


def only_kind(layouts: Sequence[str]) -> str:
    """The kind that all layouts are of; empty where there are none, or several kinds."""
    kinds = {layout.partition(":")[0] for layout in layouts}
    return kinds.pop() if len(kinds) == 1 else ""


def check_named(data: str) -> None:
    """Raises a UserError if data are named that are not there, for layouts that do not read them and would not tell."""
    if data and not Path(data).expanduser().exists():
        raise UserError(f"env.data={data!r} is not there: correct it, or leave it out, as these layouts need no data")
