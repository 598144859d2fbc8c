"""Problems of game files."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stgrpo.envs.alfworld.game.build import build_room
from stgrpo.envs.alfworld.game.engine import AlfworldProblem
from stgrpo.envs.alfworld.game.record import read_record
from stgrpo.envs.alfworld.game.text import WORDINGS
from stgrpo.errors import UserError, nearest


def load(game: Mapping[str, Any] | str | Path, *, layout: str = "file", wording: str = "") -> AlfworldProblem:
    """Builds the problem of a game.

    Args:
        game: the path of a game file (game.tw-pddl), or its content: `pddl_problem` and `grammar` are read.
        layout: a name for records.
        wording: "0.4" or "0.3", the versions of the package that say the same; empty for that of the game's grammar.

    Raises:
        UserError: it is no game, or there is no such wording.
    """
    record = read_record(game)
    chosen = wording or record.wording
    if chosen not in WORDINGS:
        raise UserError(f"wording={chosen!r} is unknown: {nearest(chosen, WORDINGS)}")
    return AlfworldProblem(build_room(record), wording=WORDINGS[chosen], layout=layout)
