"""Environments, by name; a package of one's own adds its environments with `register` or by an entry point."""

from collections.abc import Callable
from importlib.metadata import entry_points

from stgrpo.envs.robotouille.environment import Robotouille
from stgrpo.envs.robotouille.upstream import UpstreamRobotouille
from stgrpo.errors import UserError, nearest
from stgrpo.protocol import Environment

ENTRY_POINTS = "stgrpo.environments"
OURS = "ours"

Engines = dict[str, Callable[[], Environment]]
_REGISTRY: dict[str, Engines] = {"robotouille": {OURS: Robotouille, "upstream": UpstreamRobotouille}}


def register(name: str, make: Callable[[], Environment], *, engine: str = OURS) -> None:
    """Adds an environment to this process, under the name by which `config.env.name` chooses it.

    An environment that is to be there in every command is an entry point of the group `stgrpo.environments` instead.

    Args:
        name: of the environment; one that is there already is replaced.
        make: returns the environment; a class without arguments will do.
        engine: the name of an implementation beside the first, for `config.env.engine`.
    """
    _REGISTRY.setdefault(name, {})[engine] = make


def names() -> tuple[str, ...]:
    """Returns the names `get` knows."""
    return tuple(dict.fromkeys([*_REGISTRY, *(entry.name for entry in entry_points(group=ENTRY_POINTS))]))


def engines(name: str) -> tuple[str, ...]:
    """Returns the engines that play the environment of this name: "ours", and others that should do the same."""
    return tuple(_engines(name))


def get(name: str, *, engine: str = OURS) -> Environment:
    """Returns the environment of this name.

    Args:
        name: one of `names()`.
        engine: one of `engines(name)`.

    Raises:
        UserError: there is none, or what its engine runs on is not installed.
    """
    known = _engines(name)
    if engine not in known:
        raise UserError(f"environment {name!r}: no engine {engine!r}; use one of {', '.join(known)}")
    return known[engine]()


def _engines(name: str) -> Engines:
    if name not in _REGISTRY:
        found = next(iter(entry_points(group=ENTRY_POINTS, name=name)), None)
        if found is None:
            raise UserError(f"environment {name!r}: unknown; {nearest(name, names())}")
        _REGISTRY[name] = {OURS: found.load()}
    return _REGISTRY[name]
