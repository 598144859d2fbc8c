"""The one exception that means "the user can fix this"."""


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


class RequestRefused(ServerError, UserError):
    """The server says that what it was asked is wrong (a model it does not have, a key it does not know)."""
