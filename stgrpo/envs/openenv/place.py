"""Where a server is, and what it calls things: http://HOST:PORT?text=prompt&actions=legal_moves&action=message."""

import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from stgrpo.errors import UserError, nearest

WAIT_LONGER = "?timeout=SECONDS in env.data waits longer"
_SETTINGS = ("text", "actions", "action", "max_steps", "timeout")


@dataclass(frozen=True)
class Place:
    """Where a server is, and what it calls things.

    Attributes:
        base: such as http://127.0.0.1:8000.
        text: the field of an observation that has the text.
        actions: the field of it that lists the valid actions.
        action: the field of an action that has its text; empty for the one that the server's schema asks for.
        max_steps: the cap of an episode, where an observation has none.
        timeout: seconds to wait for an answer.
    """

    base: str
    text: str = "text"
    actions: str = "valid_actions"
    action: str = ""
    max_steps: int = 100
    timeout: float = 60.0

    def __str__(self) -> str:
        return f"env.data={self.base}"

    @property
    def socket(self) -> str:
        """The address of its sessions."""
        return f"ws{self.base.removeprefix('http')}/ws"

    @property
    def is_loopback(self) -> bool:
        """Whether it is on this machine, where no proxy is asked."""
        return urlsplit(self.base).hostname in ("127.0.0.1", "localhost", "::1")


def read_place(data: str) -> Place:
    """Reads the address of a server.

    Raises:
        UserError: it is none, or its query has other than settings.
    """
    form = re.fullmatch(r"(https?://[^/?#@\s]+[^?#@\s]*?)/?(\?[^#\s]*)?", data)
    if not form:
        raise UserError(f"env.data={data!r}: openenv needs the address of a server, such as http://127.0.0.1:8000")
    base, given = form[1], dict(parse_qsl((form[2] or "?")[1:], keep_blank_values=True))
    try:
        urlsplit(base).port  # noqa: B018 - it is read when it is asked for
    except ValueError as error:
        raise UserError(f"env.data={data!r}: {error}") from error
    for name, value in given.items():
        if name not in _SETTINGS:
            raise UserError(f"env.data={data!r}: no setting {name!r}; {nearest(name, _SETTINGS)}")
        if not value or (name in ("max_steps", "timeout") and not re.fullmatch("[1-9][0-9]{0,5}", value)):
            raise UserError(f"env.data={data!r}: {name}={value!r} is none; leave it out, or give one")
    settings: dict[str, Any] = {n: int(v) if n in ("max_steps", "timeout") else v for n, v in given.items()}
    return Place(base, **settings)
