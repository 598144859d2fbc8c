"""The one exception that means "the user can fix this"."""


class UserError(Exception):
    """A mistake in what the user gave: one line with the value, the limit and the fix.

    The command line prints it without a traceback and exits with 2.
    """


class DamagedCheckpoint(UserError):
    """A checkpoint that cannot be read whole; the one before it may be."""
