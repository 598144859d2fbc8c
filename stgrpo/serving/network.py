"""The way to a server: through the proxy and with the certificates of the environment, where it needs any.

This machine itself is never asked through a proxy. For all others HTTPS_PROXY, HTTP_PROXY and ALL_PROXY count, except
for the hosts in NO_PROXY; small letters win, as everywhere. SSL_CERT_FILE and SSL_CERT_DIR say whom TLS trusts.
"""

import contextlib
import dataclasses
import errno
import ipaddress
import os
import ssl
from typing import Literal
from urllib.parse import urlsplit
from urllib.request import getproxies

import httpx2

from stgrpo.errors import UserError
from stgrpo.serving.address import Address, host_number

_CERTIFICATES = ("SSL_CERT_FILE", "SSL_CERT_DIR")


@dataclasses.dataclass(frozen=True)
class Route:
    """How requests get to an address.

    Attributes:
        proxy: that they go through; None for straight there.
        variables: of the environment that make it so, in words for an error; empty without any.
        verify: whom TLS trusts; False where there is none.
    """

    proxy: httpx2.Proxy | None
    variables: str
    verify: ssl.SSLContext | Literal[False]


def route(address: Address) -> Route:
    """The way to an address, by the environment.

    Raises:
        UserError: a variable of the environment that matters for it cannot be used; the variable is named.
    """
    url, variable = _proxy_url(address)
    is_secure = address.is_secure or url.lower().startswith("https:")
    verify = _certificates() if is_secure else False
    used = [f"through the proxy of {variable}"] if url else []
    used += [f"trusting {_trusted_by()}"] if is_secure and _trusted_by() else []
    return Route(_proxy(url, variable, address, verify) if url else None, ", ".join(used), verify)


def _proxy_url(address: Address) -> tuple[str, str]:
    """The proxy for an address and the variable that names it; both empty without one."""
    proxies = getproxies()
    if address.is_loopback or is_excepted(address, proxies.get("no", "")):
        return "", ""
    scheme = next((s for s in (urlsplit(address.base).scheme, "all") if proxies.get(s)), "")
    if not scheme:
        return "", ""
    url = proxies[scheme].strip()
    variable = next(
        (n for n in (f"{scheme}_proxy", f"{scheme}_proxy".upper()) if n in os.environ), "the system's proxy"
    )
    return (url if "://" in url else f"http://{url}"), variable


def is_excepted(address: Address, no_proxy: str) -> bool:
    """Whether NO_PROXY names the host of an address: itself, a domain above it, its network, with its port, or *."""
    host, number = address.host.rstrip("."), host_number(address.host)
    for entry in (e.strip().lower() for e in no_proxy.replace(" ", ",").split(",")):
        if number is not None:
            with contextlib.suppress(ValueError):
                if number in ipaddress.ip_network(entry.replace("[", "").replace("]", ""), strict=False):
                    return True
        name, _, port = entry.rpartition(":") if entry.rpartition(":")[2].isdigit() else (entry, "", "")
        name = name.strip("[]").removeprefix("*.").lstrip(".")
        fits = entry == "*" or (name and (host == name or host.endswith(f".{name}")))
        if fits and (not port or int(port) == address.port):
            return True
    return False


def _proxy(url: str, variable: str, address: Address, verify: ssl.SSLContext | Literal[False]) -> httpx2.Proxy:
    """The proxy that a variable names; its value, which may hold a password, is not part of an error."""
    fix = f"set it to one such as http://proxy:3128, or name {address.host} in NO_PROXY"
    scheme = url.partition("://")[0].lower()
    if scheme not in ("http", "https", "socks5", "socks5h"):
        raise UserError(f"{variable} names a proxy of another kind ({scheme[:20]!r}) than http and socks5: {fix}")
    try:
        proxy = httpx2.Proxy(url, ssl_context=verify or None if scheme == "https" else None)
        httpx2.HTTPTransport(proxy=proxy, verify=False).close()
    except ImportError as error:
        raise UserError(f"{variable} names a SOCKS proxy: install httpx2[socks], or {fix}") from error
    except (ValueError, httpx2.InvalidURL) as error:
        raise UserError(f"{variable} names no proxy: {fix}") from error
    if not proxy.url.host or (proxy.url.port or 0) > 65535:
        raise UserError(f"{variable} names no proxy: {fix}")
    return proxy


def _trusted_by() -> str:
    """The variable that says whom TLS trusts; empty for the system's store."""
    return next((name for name in _CERTIFICATES if os.environ.get(name)), "")


def _certificates() -> ssl.SSLContext:
    name = _trusted_by()
    try:
        if name == "SSL_CERT_DIR" and not any(map(os.path.isdir, os.environ[name].split(os.pathsep))):
            raise NotADirectoryError(errno.ENOTDIR, "no such folder")
        return httpx2.create_ssl_context()
    except OSError as error:
        fix = "give a file (SSL_CERT_FILE) or a folder (SSL_CERT_DIR) of them, or unset it"
        why = error.strerror or type(error).__name__
        raise UserError(f"{name or 'this system'} has no certificates that can be read ({why}): {fix}") from error
