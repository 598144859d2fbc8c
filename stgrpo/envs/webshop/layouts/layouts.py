"""Names of layouts: "goal:I" of the benchmark's products, "made:I" of our own catalogue.

A product's goals are all of one split, by a hash of the product's name: none is trained on and tested.
"""

import hashlib
import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from stgrpo.envs.layouts import check_named
from stgrpo.envs.webshop.layouts.goals import goals
from stgrpo.envs.webshop.layouts.made import made_catalogue
from stgrpo.envs.webshop.shop.catalogue import Catalogue, load
from stgrpo.envs.webshop.shop.game import ShopProblem
from stgrpo.envs.webshop.shop.goal import Goal
from stgrpo.errors import UserError, nearest
from stgrpo.protocol import SPLITS

TASK = "shop"
MADE, GOALS = "made", "goals"
FAMILIES = (MADE, GOALS)
VARIABLE = "WEBSHOP_DATA"
_FAMILY_OF = {"made": MADE, "goal": GOALS}
_PER_MILLE = {"test": 150, "validation": 50}
_STRIDE = 0x9E3779B1


class Layouts:
    """All goals; the benchmark's products are read when one of theirs is needed.

    Args:
        data: folder of them; empty for that in WEBSHOP_DATA.
    """

    def __init__(self, data: str = ""):
        self._data = data

    def make(self, task: str, layout: str) -> ShopProblem:
        """Builds the problem of a layout.

        Raises:
            UserError: there is no such task or layout, or the products are not at hand.
        """
        _check("task", task, (TASK,))
        kind, _, number = layout.partition(":")
        if kind not in _FAMILY_OF or not number.isdecimal():
            raise UserError(f'layout {layout!r}: unknown; use "made:I" or "goal:I"')
        catalogue, made = self._goals(_FAMILY_OF[kind])
        if int(number) >= len(made):
            raise UserError(f"layout {layout!r}: there are {len(made)} goals; use a number below that")
        return catalogue.problem(made[int(number)], task=task, layout=layout)

    def candidates(self, task: str, family: str, split: str, seed: int) -> Iterator[str]:
        """Yields the layouts of a family and split, those of one product far apart, beginning elsewhere for each seed.

        Raises:
            UserError: there is no such task, family or split, or the products are not at hand.
        """
        for what, value, known in (("task", task, (TASK,)), ("family", family, FAMILIES), ("split", split, SPLITS)):
            _check(what, value, known)
        if family == MADE:
            check_named(self._data)
        _, made = self._goals(family)
        kind = next(kind for kind, its in _FAMILY_OF.items() if its == family)
        numbers = [number for number, goal in enumerate(made) if _split(goal.asin) == split]
        numbers.sort(key=lambda number: _hash(str(number)))
        start = seed * _STRIDE % max(1, len(numbers))
        yield from (f"{kind}:{number}" for number in numbers[start:] + numbers[:start])

    def _goals(self, family: str) -> tuple[Catalogue, list[Goal]]:
        return _made() if family == MADE else _read(self._folder())

    def _folder(self) -> Path:
        given = self._data or os.environ.get(VARIABLE, "")
        if not given:
            raise UserError(
                f"the products of WebShop are not at hand: set --config.env.data=FOLDER or {VARIABLE}=FOLDER "
                "(docs/webshop.md); our own catalogue needs none: --config.env.family=made"
            )
        return Path(given).expanduser().absolute()


def _check(what: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise UserError(f"{what} {value!r}: unknown; {nearest(value, known)}")


@cache
def _made() -> tuple[Catalogue, list[Goal]]:
    catalogue = made_catalogue()
    return catalogue, goals(catalogue.products)


@cache
def _read(folder: Path) -> tuple[Catalogue, list[Goal]]:
    catalogue = load(folder)
    return catalogue, goals(catalogue.products)


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def _split(asin: str) -> str:
    bucket = _hash(asin) % 1000
    if bucket < _PER_MILLE["test"]:
        return "test"
    return "validation" if bucket < _PER_MILLE["test"] + _PER_MILLE["validation"] else "train"
