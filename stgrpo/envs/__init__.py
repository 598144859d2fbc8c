"""Environments, by name."""

from stgrpo.envs.base import Environment
from stgrpo.envs.robotouille.environment import Robotouille
from stgrpo.errors import UserError

_REGISTRY: dict[str, type[Environment]] = {"robotouille": Robotouille}


def names() -> tuple[str, ...]:
    """Returns the names `get` knows."""
    return tuple(_REGISTRY)


def get(name: str) -> Environment:
    """Returns the environment of this name.

    Raises:
        UserError: there is none.
    """
    if name not in _REGISTRY:
        raise UserError(f"environment {name!r}: unknown; use one of {', '.join(_REGISTRY)}")
    return _REGISTRY[name]()
