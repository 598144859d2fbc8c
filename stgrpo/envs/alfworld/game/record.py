"""What is read of a game file (game.tw-pddl), as text: its facts, its goal, its task in words, its wording."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stgrpo.errors import UserError
from stgrpo.files import from_json, reason_of

_TASK = re.compile(r'"rhs":\s*("Your task is to: (?:[^"\\]|\\.)*")')
_FACT = re.compile(r"\((\w+)((?:\s+[\w.-]+)+)\s*\)")
_OLD_COMMAND = "put {o} in/on {r}"

Facts = dict[str, list[tuple[str, ...]]]


@dataclass(frozen=True)
class GameRecord:
    """A game as it is written down.

    Attributes:
        name: for messages.
        facts: by predicate, in small letters, sorted and each once.
        goal: the PDDL of the goal, in small letters.
        task_line: the sentence that states the task.
        wording: of the version whose grammar it has, a key of `WORDINGS`.
    """

    name: str
    facts: Facts
    goal: str
    task_line: str
    wording: str


def read_record(game: Mapping[str, Any] | str | Path) -> GameRecord:
    """Reads a game.

    Args:
        game: the path of a game file, or the content of one; of it `pddl_problem` and `grammar` are read.

    Raises:
        UserError: it is no game.
    """
    if isinstance(game, Mapping):
        return _record("the game", game)
    path = Path(game)
    try:
        content = from_json(path.read_bytes())
    except OSError as error:
        raise UserError(f"{path}: {reason_of(error)}: give the path of a game.tw-pddl") from error
    except ValueError as error:
        raise _broken(str(path), f"not JSON: {error}") from error
    return _record(str(path), content)


def _record(name: str, content: object) -> GameRecord:
    if not isinstance(content, Mapping):
        raise _broken(name, "no JSON object")
    texts = [content.get(key) for key in ("pddl_problem", "grammar")]
    if not all(isinstance(text, str) for text in texts):
        raise _broken(name, "without the texts pddl_problem and grammar")
    problem, grammar = map(str, texts)
    init, has_goal, goal = problem.partition("(:init")[2].partition("(:goal")
    task = _TASK.search(grammar)
    if not has_goal or not task:
        missing = 'a line "Your task is to: ..."' if has_goal else "(:init ...) and (:goal ...)"
        raise _broken(name, f"without {missing}")
    return GameRecord(name, _facts(init), goal.lower(), _text(task.group(1)), _wording(grammar))


def _facts(init: str) -> Facts:
    found: dict[str, set[tuple[str, ...]]] = {}
    for predicate, arguments in _FACT.findall(init.lower()):
        found.setdefault(predicate, set()).add(tuple(arguments.split()))
    return {predicate: sorted(facts) for predicate, facts in found.items()}


def _text(quoted: str) -> str:
    try:
        return from_json(quoted)
    except ValueError:  # an escape that JSON does not have
        return quoted[1:-1]


def _wording(grammar: str) -> str:
    return "0.3" if _OLD_COMMAND in grammar else "0.4"


def _broken(name: str, what: str) -> UserError:
    return UserError(f"{name} is no game of ALFWorld ({what}): get the games anew with `alfworld-download`")
