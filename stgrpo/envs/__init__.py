"""Environments, by name: entry points of the group `stgrpo.environments`, and what a process adds with `register`.

An entry point is the name of an environment, such as `robotouille`. A further engine, which plays the same environment
another way, is the name with the engine's after a dot, such as `robotouille.upstream`.
"""

import tomllib
from collections.abc import Callable, Iterator
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

from stgrpo.errors import UserError, nearest
from stgrpo.protocol import Environment, Reading

ENTRY_POINTS = "stgrpo.environments"
OURS = "ours"
CHECKOUT = Path(__file__).resolve().parents[2]

Make = Callable[[], Environment]
_REGISTRY: dict[str, dict[str, Make]] = {}


def register(name: str, make: Make, *, engine: str = OURS) -> None:
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
    return tuple(dict.fromkeys([*_REGISTRY, *(name for name, _, _ in _declared())]))


def is_declared(name: str) -> bool:
    """Says whether a package declares the environment, and not this process, so that others find the same."""
    return name not in _REGISTRY and name in names()


def engines(name: str) -> tuple[str, ...]:
    """Returns the engines that play the environment of this name: "ours", and others that should do the same.

    Raises:
        UserError: there is no such environment.
    """
    return tuple(_engines(name))


def get(name: str, *, engine: str = OURS, data: str = "") -> Environment:
    """Returns the environment of this name.

    Args:
        name: one of `names()`.
        engine: one of `engines(name)`.
        data: where its data are; empty where it needs none, or finds them itself.

    Raises:
        UserError: there is none, or what its engine runs on is not installed; or it reads no data.
    """
    known = _engines(name)
    if engine not in known:
        raise UserError(f"environment {name!r}: no engine {engine!r}; use one of {', '.join(known)}")
    environment = known[engine]()
    if not data:
        return environment
    if not isinstance(environment, Reading):
        raise UserError(f"env.data={data!r}: environment {name!r} reads no data, leave it out")
    return environment.with_data(data)


def _engines(name: str) -> dict[str, Make]:
    declared = {engine: _loading(entry) for other, engine, entry in _declared() if other == name}
    known = declared | _REGISTRY.get(name, {})
    if not known:
        some = names()
        fix = nearest(name, some) if some else "none is declared: `pip install -e .` in the checkout of stgrpo"
        raise UserError(f"environment {name!r}: unknown; {fix}")
    return known


def _loading(entry: EntryPoint) -> Make:
    def make() -> Environment:
        try:
            loaded = entry.load()
        except (ImportError, AttributeError) as error:
            raise UserError(f"environment {entry.name!r}: {entry.value} cannot be imported: {error}") from error
        return loaded()

    return make


def _declared() -> Iterator[tuple[str, str, EntryPoint]]:
    """Yields name, engine and entry point of all that is declared, ours last."""
    for entry in (*entry_points(group=ENTRY_POINTS), *_of_checkout(CHECKOUT / "pyproject.toml")):
        name, _, engine = entry.name.partition(".")
        yield name, engine or OURS, entry


@cache
def _of_checkout(pyproject: Path) -> tuple[EntryPoint, ...]:
    """Reads what a checkout declares in its pyproject.toml: it may be installed in an older form, or not at all."""
    if not pyproject.is_file():
        return ()
    project = tomllib.loads(pyproject.read_text("utf-8")).get("project", {})
    if project.get("name") != "stgrpo":
        return ()
    declared = project.get("entry-points", {}).get(ENTRY_POINTS, {})
    return tuple(EntryPoint(name, value, ENTRY_POINTS) for name, value in declared.items())
