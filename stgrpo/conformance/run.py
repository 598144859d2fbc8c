"""All checks of an environment, one after the other."""

import contextlib
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from stgrpo.conformance import checks, planners
from stgrpo.conformance.subject import Failed, NotApplicable, Scope, Subject
from stgrpo.console import one_line
from stgrpo.envs import OURS
from stgrpo.errors import ServerError, UserError, nearest

__all__ = ["CHECKS", "FAILED", "NOT_APPLICABLE", "OK", "Result", "Scope", "check_environment"]
OK, FAILED, NOT_APPLICABLE = "ok", "failed", "does not apply"
CHECKS: dict[str, Callable[[Subject], str]] = {
    "lists": checks.lists,
    "episodes": checks.episodes,
    "texts": checks.texts,
    "deterministic": checks.deterministic,
    "pure": checks.pure,
    "splits disjoint": checks.splits,
    "expert": planners.expert,
    "planner": planners.against_search,
}
_LONGEST = 1000


@dataclass(frozen=True)
class Result:
    """What a check found.

    Attributes:
        check: its name.
        status: "ok", "failed" or "does not apply".
        why: what was looked at, or what is wrong, in a line.
    """

    check: str
    status: str
    why: str


def check_environment(name: str, scope: Scope, *, engine: str = OURS, data: str = "") -> Iterator[Result]:
    """Yields the result of each check as it is there.

    Args:
        name: of the environment.
        scope: how much is looked at.
        engine: of the environment.
        data: where its data are, if it reads any.

    Raises:
        UserError: there is no such environment, task or family, or it is not set up.
        ServerError: its server is not there.
    """
    subject = Subject(name, scope, engine=engine, data=data)
    with contextlib.suppress(AttributeError, TypeError):  # the first check says what is missing
        _ = subject.tasks, subject.families
    if scope.tasks:
        _require_known("--tasks", scope.tasks, subject.environment.tasks())
    if scope.families:
        _require_known("--families", scope.families, subject.environment.families())
    for check, function in CHECKS.items():
        yield _result(check, function, subject)


def _require_known(what: str, given: Sequence[str], known: Sequence[str]) -> None:
    for each in given:
        if each not in known:
            raise UserError(f"{what}={each!r}: it has none of this name; {nearest(each, known)}")


def _result(check: str, function: Callable[[Subject], str], subject: Subject) -> Result:
    try:
        return Result(check, OK, one_line(function(subject), _LONGEST))
    except NotApplicable as reason:
        return Result(check, NOT_APPLICABLE, one_line(str(reason), _LONGEST))
    except Failed as found:
        return Result(check, FAILED, one_line(str(found), _LONGEST))
    except ServerError:
        raise
    except Exception as error:  # noqa: BLE001 - whatever the environment raises is what is wrong with it
        frame = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{Path(frame.filename).name}:{frame.lineno}"
        return Result(check, FAILED, one_line(f"{type(error).__name__} at {where}: {error}", _LONGEST))
