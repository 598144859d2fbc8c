"""New-environment: the package of an environment of one's own, to begin with."""

from collections.abc import Sequence
from pathlib import Path

from stgrpo import envs
from stgrpo.conformance.new import new_environment
from stgrpo.console import say
from stgrpo.errors import UserError
from stgrpo.stages.flags import parse_plain


def run_new(arguments: Sequence[str]) -> None:
    """Writes the package that the command line names, and says what to do with it.

    Raises:
        UserError: a bad name, a folder that is there, an unknown flag.
    """
    names, given = parse_plain(arguments, {"folder": "."})
    if len(names) != 1:
        raise UserError("new-environment takes one name, such as my_maze: stgrpo new-environment my_maze")
    package = new_environment(names[0], Path(given["folder"]), envs.names())
    for file in sorted(package.iterdir()):
        say(f"wrote {file}")
    say(f"next: pip install -e {package} && stgrpo check-environment {names[0]}   (more in {package / 'README.md'})")
