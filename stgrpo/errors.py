"""The exceptions that say what went wrong in one line, and what a misspelt name most likely meant."""

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """A mistake in what the user gave: one line with the value, the limit and the fix.

    The command line prints it without a traceback and exits with 2.
    """


class DamagedCheckpoint(UserError):
    """A checkpoint that cannot be read whole; the one before it may be."""


class ServerError(Exception):
    """A server that cannot be reached, hangs, fails, or answers what cannot be used: one line with its own message.

    The command line prints it without a traceback and exits with 1.
    """


class Unreachable(ServerError):
    """Nobody answers at an address: there is no such host, nobody listens there, or no connection to it is secure."""


class NoAnswer(ServerError):
    """A server took a request and has no answer to this one, as it says itself; others it may answer."""


class RunError(Exception):
    """A run that cannot go on though nothing was given wrong: a disk that is full, a figure that is not finite.

    The command line prints it without a traceback and exits with 1.
    """


class Preempted(BaseException):
    """The machine is wanted back and all is saved: the same command goes on where it was.

    Like KeyboardInterrupt it comes out of whatever is under way, so nothing that goes on after errors may take it for
    one. The command line prints it without a traceback and exits with 75, on which schedulers can start a job again.
    """


class RequestRefused(ServerError, UserError):
    """The server says that what it was asked is wrong (a model or a key it does not have), or does not do it."""


def nearest(value: object, known: Iterable[object]) -> str:
    """What a misspelt value most likely meant, for the end of an error message."""
    names = [str(k) for k in known]
    swapped = [name for name in names if sorted(name) == sorted(str(value))]
    match = swapped or difflib.get_close_matches(str(value), names, n=1, cutoff=0.4)
    return f"did you mean {match[0]!r}?" if match else f"use one of {', '.join(names)}"
