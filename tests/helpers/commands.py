"""The command `stgrpo` in this process."""

from stgrpo.cli import main


def call(*arguments: object) -> int | str:
    """Does a command; returns its exit status."""
    try:
        main([str(a) for a in arguments])
    except SystemExit as stop:
        return stop.code or 0
    return 0
