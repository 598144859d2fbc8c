"""Where a server is: the base address that requests are sent below, its query if it has one, and no secret in it."""

import dataclasses
import ipaddress
import re
import socket
from urllib.parse import parse_qsl, urlsplit

from stgrpo.errors import UserError

_SECRET = re.compile(
    r"key|token|secret|sig|auth|pass|pwd|code|cred|session|jwt|bearer|sas|user|^(k|p|s|t|pw|id)$", re.IGNORECASE
)
_PLAIN = re.compile(
    r"(?!(sk|pk|rk|hf|gsk|xai|ghp)[-_])[\w.:,-]{1,40}"
)  # a version or a name; anything else may be a key


@dataclasses.dataclass(frozen=True)
class Address:
    """A base address.

    Attributes:
        base: such as "http://127.0.0.1:8000/v1"; what errors say.
        query: that every request has, such as "api-version=2024-10-21"; empty for none.
    """

    base: str
    query: str = ""

    def url(self, path: str) -> str:
        """Of a request below it."""
        return f"{self.base}{path}" + (f"{'&' if '?' in path else '?'}{self.query}" if self.query else "")

    @property
    def is_secure(self) -> bool:
        """Whether it is asked over TLS."""
        return self.base.startswith("https:")

    @property
    def host(self) -> str:
        """Its name or number, without a port."""
        return urlsplit(self.base).hostname or ""

    @property
    def port(self) -> int:
        """Its port."""
        return urlsplit(self.base).port or (443 if self.is_secure else 80)

    @property
    def is_loopback(self) -> bool:
        """Whether it is this machine itself."""
        host = self.host.rstrip(".")
        if host == "localhost" or host.endswith(".localhost"):
            return True
        number = host_number(host)
        return number is not None and (number.is_loopback or number.is_unspecified)


def parse_address(text: str) -> Address:
    """Reads an address.

    Raises:
        UserError: it is none, or holds what may be a secret; the address is not part of the message.
    """
    form = re.fullmatch(r"https?://[^/?#@\s]+[^#\s]*", text, re.IGNORECASE)
    if "@" in text:
        raise UserError("addresses without user or key, which goes into the variable of client.key_variable")
    if not form or not text.isprintable():
        raise UserError("addresses such as http://127.0.0.1:8000, without user or key")
    try:
        parts = urlsplit(text)
        parts.port  # noqa: B018 - it is read when it is asked for
    except ValueError as error:
        raise UserError("addresses such as http://127.0.0.1:8000, with a port of at most 65535") from error
    for name, value in parse_qsl(parts.query, keep_blank_values=True):
        if _SECRET.search(name) or not _PLAIN.fullmatch(value):
            raise UserError(
                "addresses without user or key in a query: it goes into the variable of client.key_variable"
            )
    return Address(f"{parts.scheme}://{parts.netloc}{parts.path}".rstrip("/"), parts.query)


def host_number(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The number that a host is given by, in any of its forms; None for a name."""
    try:
        number = ipaddress.ip_address(host)
    except ValueError:
        try:
            return ipaddress.IPv4Address(socket.inet_aton(host))
        except (OSError, UnicodeError):
            return None
    return getattr(number, "ipv4_mapped", None) or number


def server_addresses(text: str) -> list[Address]:
    """The addresses of a config field, with commas between them, below which chat completions are.

    One without a path means OpenAI's, /v1; any other is as it is given. The whole address of the completions does too.

    Raises:
        UserError: one is none, or holds what may be a secret.
    """
    return [_below(parse_address(part.strip())) for part in text.split(",")]


def _below(address: Address) -> Address:
    base = address.base.removesuffix("/chat/completions")
    is_bare = base == address.base and not urlsplit(base).path
    return Address(f"{base}/v1" if is_bare else base, address.query)
