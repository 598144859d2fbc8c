"""The words of commands that have no config: NAME --flag=VALUE."""

from collections.abc import Mapping, Sequence
from typing import Any

from absl import flags

from stgrpo.console import one_line
from stgrpo.errors import UserError

LOOPBACK = ("127.0.0.1", "localhost", "::1")
"""Hosts that only this machine reaches."""
Value = str | int | float | bool | list[str] | tuple[str, ...]


def parse_plain(arguments: Sequence[str], defaults: Mapping[str, Value]) -> tuple[list[str], dict[str, Any]]:
    """Reads the words of a command.

    Args:
        arguments: the command and what follows it.
        defaults: of each flag; its kind is that of the value, a list is separated by commas, and a tuple has all
            values that there are, the default first.

    Returns:
        What stands without a flag, and the value of each flag.

    Raises:
        UserError: an unknown flag, or a value of another kind.
    """
    values = flags.FlagValues()
    for name, default in defaults.items():
        if isinstance(default, bool):
            flags.DEFINE_bool(name, default, "", flag_values=values)
        elif isinstance(default, int):
            flags.DEFINE_integer(name, default, "", flag_values=values)
        elif isinstance(default, float):
            flags.DEFINE_float(name, default, "", flag_values=values)
        elif isinstance(default, tuple):
            flags.DEFINE_enum(name, default[0], default, "", flag_values=values)
        elif isinstance(default, list):
            flags.DEFINE_list(name, default, "", flag_values=values)
        else:
            flags.DEFINE_string(name, default, "", flag_values=values)
    try:
        _, *others = values(list(arguments))
    except flags.Error as error:
        raise UserError(f"{one_line(str(error))} (stgrpo --help)") from error
    return others, {name: values[name].value for name in defaults}


def at_least(least: int, given: Mapping[str, Any], *names: str) -> None:
    """Holds numbers to a limit.

    Raises:
        UserError: one is below it.
    """
    for name in names:
        if given[name] < least:
            raise UserError(f"--{name}={given[name]}: must be at least {least}")
