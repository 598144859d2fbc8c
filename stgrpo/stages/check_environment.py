"""Check-environment: whether an environment keeps to the protocol, without a model."""

from collections.abc import Sequence

from stgrpo import envs
from stgrpo.conformance.run import FAILED, check_environment
from stgrpo.conformance.subject import Scope
from stgrpo.console import say
from stgrpo.errors import RunError, UserError
from stgrpo.stages.flags import at_least, parse_plain

_FLAGS = {
    "tasks": [],
    "families": [],
    "layouts": 2,
    "seeds": ["0"],
    "states": 5000,
    "seconds": 30.0,
    "engine": envs.OURS,
    "data": "",
}


def run_check(arguments: Sequence[str]) -> None:
    """Prints a line a check of the environment that the command line names.

    Raises:
        UserError: there is no such environment, task, family or flag.
        RunError: a check failed.
    """
    names, given = parse_plain(arguments, _FLAGS)
    if len(names) != 1:
        known = ", ".join(envs.names())
        raise UserError(f"check-environment takes one name of an environment, such as one of {known}")
    at_least(1, given, "layouts", "states", "seconds")
    results = []
    for result in check_environment(names[0], _scope(given), engine=str(given["engine"]), data=str(given["data"])):
        say(f"{result.check:<15}  {result.status:<14}  {result.why}")
        results.append(result)
    failed = [result.check for result in results if result.status == FAILED]
    if failed:
        raise RunError(f"{names[0]}: {len(failed)} of {len(results)} checks failed ({', '.join(failed)}): see above")
    say(f"{names[0]}: no check failed")


def _scope(given: dict) -> Scope:
    if not given["seeds"] or not all(seed.isdecimal() for seed in given["seeds"]):
        raise UserError(f"--seeds={','.join(given['seeds'])}: give whole numbers, such as --seeds=0,1")
    return Scope(
        tasks=tuple(given["tasks"]),
        families=tuple(given["families"]),
        layouts=given["layouts"],
        seeds=tuple(int(seed) for seed in given["seeds"]),
        states=given["states"],
        seconds=given["seconds"],
    )
