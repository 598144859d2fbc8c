"""What a server says of its environment, in pages beside its sessions."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from stgrpo.console import one_line
from stgrpo.envs.openenv.place import WAIT_LONGER, Place
from stgrpo.errors import NoAnswer, RequestRefused, ServerError, Unreachable
from stgrpo.files import from_json
from stgrpo.protocol import BENCHMARK, GENERAL, Instructions

TASK, FAMILY = "default", "seeds"
"""Of a server that says no more than OpenEnv has words for."""

Json = dict[str, Any]


@dataclass(frozen=True)
class About:
    """What a server says of its environment.

    Attributes:
        tasks: their names.
        families: of layouts.
        sets: published layouts by set and task.
        instructions: what a model is told.
        object_names: of things in its texts.
        is_ours: whether it lists layouts; else they are seeds.
        action: the field of an action that has its text.
    """

    tasks: tuple[str, ...]
    families: tuple[str, ...]
    sets: Mapping[str, Mapping[str, tuple[str, ...]]]
    instructions: Instructions
    object_names: tuple[str, ...]
    is_ours: bool
    action: str


@cache
def about(place: Place) -> About:
    """Asks a server what its environment is.

    Raises:
        ServerError: it is not there, or says what cannot be used.
    """
    said = get_page(place, "/stgrpo/environment")
    if said is None:
        action = place.action or _action_field(place)
        return About((TASK,), (FAMILY,), {BENCHMARK: {}}, GENERAL, (), is_ours=False, action=action)
    try:
        sets = {name: {t: _names(of) for t, of in tasks.items()} for name, tasks in said["benchmark_sets"].items()}
        parts = {name: str(value) for name, value in said["instructions"].items()}
        return About(
            _names(said["tasks"]),
            _names(said["families"]),
            sets,
            Instructions(**parts),
            _names(said["object_names"]),
            is_ours=True,
            action=place.action or "text",
        )
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ServerError(
            f"{place}: it does not say what its environment is ({error!r}): is it another server?"
        ) from error


def _names(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise ValueError("no list of names")
    return tuple(value)


def _action_field(place: Place) -> str:
    """The one field of an action that is a text, by the server's schema."""
    said = get_page(place, "/schema") or {}
    action = said.get("action") if isinstance(said.get("action"), dict) else {}
    fields = action.get("properties") if isinstance(action.get("properties"), dict) else {}
    texts = [name for name, kind in fields.items() if isinstance(kind, dict) and kind.get("type") == "string"]
    needed = [name for name in texts if name in action.get("required", [])] or texts
    if len(needed) != 1:
        has = f"texts {', '.join(needed)}" if needed else "no text"
        raise ServerError(f"{place}: an action there has {has}: say which is the action by ?action=NAME in env.data")
    return needed[0]


def get_page(place: Place, path: str) -> Json | None:
    """What a page says; None where there is none."""
    import httpx2

    try:
        answer = httpx2.get(place.base + path, timeout=place.timeout, trust_env=not place.is_loopback)
    except httpx2.TimeoutException as error:
        page = path.partition("?")[0]
        raise NoAnswer(f"{place}: no answer in {place.timeout:g} s to {page}: {WAIT_LONGER}") from error
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        raise Unreachable(
            f"{place}: nobody answers ({one_line(str(error))}): start it, or correct the address"
        ) from error
    if answer.status_code in (404, 405):
        return None
    try:
        said = from_json(answer.content)
    except ValueError:
        said = None
    if answer.status_code == 400 and isinstance(said, dict):
        raise RequestRefused(f"{place}: {one_line(str(said.get('detail')))}")
    if answer.status_code != 200 or not isinstance(said, dict):
        what = one_line(answer.text, 200)
        raise ServerError(
            f"{place}: {path.partition('?')[0]} gives {answer.status_code}, {what!r}: is it another server?"
        )
    return said
