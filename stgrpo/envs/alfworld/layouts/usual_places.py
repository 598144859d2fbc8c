"""Where things usually lie: how often a receptacle has a thing, by their types, in the training games.

The table beside this file is all that is kept of those games; where they are at hand it is made anew by

    python -m stgrpo.envs.alfworld.layouts.usual_places DATA > stgrpo/envs/alfworld/layouts/usual_places.txt
"""

import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path

from stgrpo.envs.alfworld.game.build import build_room
from stgrpo.envs.alfworld.game.record import read_record
from stgrpo.envs.alfworld.game.room import Room
from stgrpo.envs.alfworld.layouts.games import open_games

RARELY = 0.002
"""The share that stands for a pair of types which no training game has."""

TABLE = Path(__file__).with_suffix(".txt")


@cache
def usual_places() -> Mapping[tuple[str, str], float]:
    """Returns, by (type of thing, type of receptacle), the share of such receptacles with at least one such thing.

    Rooms without any such thing are not counted: whoever looks for it knows that there is one.
    """
    found = {}
    for line in TABLE.read_text("utf-8").splitlines():
        thing, *shares = line.split()
        for place, share in zip(shares[::2], shares[1::2], strict=True):
            found[thing, place] = float(share)
    return found


def table(rooms: Iterable[Room]) -> Iterator[str]:
    """Yields the lines of the table: a thing, and its places with their shares of a thousandth or more."""
    shares: dict[str, list[tuple[float, str]]] = {}
    for (thing, place), share in _shares(rooms).items():
        if share >= 0.001:
            shares.setdefault(thing, []).append((share, place))
    for thing, places in sorted(shares.items()):
        ordered = sorted(places, key=lambda pair: (-pair[0], pair[1]))
        yield " ".join([thing, *(f"{place} {share:.3f}" for share, place in ordered)])


def _shares(rooms: Iterable[Room]) -> dict[tuple[str, str], float]:
    having: Counter[tuple[str, str]] = Counter()
    receptacles: Counter[tuple[str, str]] = Counter()
    for room in rooms:
        pairs = {(room.object_types[thing], place) for thing, place in room.start.inside}
        having.update((thing, room.receptacle_types[place]) for thing, place in pairs)
        for thing in {thing for thing, _ in pairs}:
            receptacles.update((thing, place) for place in room.receptacle_types)
    return {pair: count / receptacles[pair] for pair, count in having.items()}


def training_rooms(data: str) -> Iterator[Room]:
    """Yields the rooms of the training games of a data set."""
    games = open_games(data)
    for number in range(len(games.names("train"))):
        yield build_room(read_record(games.game("train", number)))


if __name__ == "__main__":
    print("\n".join(table(training_rooms(sys.argv[1]))))
