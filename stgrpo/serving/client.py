"""JSON over HTTP, from many threads to one server or several: retries, time limits, back-pressure, one-line errors.

- A call goes to the least busy address. One that failed or asked for time rests, for all threads: meanwhile
  the others are asked; where there is no other, callers wait.
- Connection errors, answers that are cut off or no JSON, and those of a status that may pass (`failures.PASSING`) are
  tried again after an exponentially growing time with jitter, never before the server's own Retry-After. A connection
  may break after the server began to work, so whatever must not be done twice is called with `retry=False`.
- Every attempt has a time limit. A server that exceeds it hangs: that is not tried again.
- What a server says is text from elsewhere: in messages it is bounded, on one line and without the key.
"""

import dataclasses
import functools
import logging
import random
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import httpx2

from stgrpo.console import one_line
from stgrpo.errors import NoAnswer, ServerError, Unreachable
from stgrpo.files import from_json, to_json
from stgrpo.serving.address import Address, parse_address
from stgrpo.serving.deadline import Deadline, DeadlineBackend
from stgrpo.serving.failures import Passing, error_text, failure, is_declined, retry_after
from stgrpo.serving.key import Key
from stgrpo.serving.network import Route, route
from stgrpo.serving.pool import parallel

CONNECT_SECONDS = 10.0
# Below the 5 s after which uvicorn closes an idle connection, so that no request meets one that is being closed.
IDLE_SECONDS = 4.0
LONGEST_BACKOFF = 60.0
_TOLD = 10.0  # seconds of a wait that a person is told of

log = logging.getLogger(__name__)
Json = dict[str, Any]
Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclasses.dataclass(frozen=True)
class ClientSettings:
    """How patient and how busy a client is.

    Attributes:
        timeout: seconds an attempt may take; a call may set its own.
        retries: attempts after the first.
        backoff: seconds before the first retry, doubled with each.
        longest_wait: seconds that a server may ask to be left alone; one that asks for more is given up.
        concurrency: calls under way at one time; further ones wait.
        requests_per_minute: attempts, evenly spaced; 0 is no limit.
        longest_answer: bytes of an answer at most.
    """

    timeout: float = 120.0
    retries: int = 5
    backoff: float = 0.5
    longest_wait: float = 600.0
    concurrency: int = 32
    requests_per_minute: float = 0.0
    longest_answer: int = 2**26


class _Addresses:
    """Whose turn it is: the address that may be asked soonest, the least busy of them, the one longest not asked."""

    def __init__(self, addresses: Sequence[str]):
        self._lock = threading.Lock()
        self._busy = dict.fromkeys(addresses, 0)
        self._rests_until = dict.fromkeys(addresses, 0.0)
        self._last = dict.fromkeys(addresses, 0)
        self._count = 0

    def take(self, only: str) -> tuple[str, float]:
        """An address, marked as busy, and the seconds that it still rests."""
        with self._lock:
            now = time.monotonic()
            rest = {a: max(0.0, self._rests_until[a] - now) for a in ([only] if only else self._busy)}
            address = min(rest, key=lambda a: (rest[a], self._busy[a], self._last[a]))
            self._count += 1
            self._busy[address] += 1
            self._last[address] = self._count
            return address, rest[address]

    def give_back(self, address: str, rest: float) -> bool:
        """Ends a call; returns whether the address rests from now on that did not before."""
        with self._lock:
            now = time.monotonic()
            was_awake = self._rests_until[address] <= now
            self._busy[address] -= 1
            self._rests_until[address] = max(self._rests_until[address], now + rest)
            return was_awake and rest > 0


class _Pace:
    """Hands out points in time that are evenly spaced."""

    def __init__(self, per_minute: float):
        self._lock = threading.Lock()
        self._gap = 60.0 / per_minute if per_minute else 0.0
        self._next = 0.0

    def wait(self) -> float:
        """Seconds until the caller's turn."""
        with self._lock:
            now = time.monotonic()
            mine = max(now, self._next)
            self._next = mine + self._gap
            return mine - now


@dataclasses.dataclass(frozen=True)
class _Door:
    """One address with its connections."""

    address: Address
    route: Route
    http: httpx2.Client


class HttpClient:
    """A pool of kept-alive connections to one or more servers that do the same; safe to share between threads.

    Args:
        addresses: such as "http://127.0.0.1:8000"; what a call adds is its path.
        settings: time limits, retries and concurrency.
        key: sent as a bearer token; it is in no error, no log and no answer.

    Raises:
        UserError: an address is none, or the environment's way to it cannot be used.
    """

    def __init__(
        self, addresses: Sequence[str | Address], settings: ClientSettings | None = None, *, key: str | Key = ""
    ):
        if not addresses:
            raise ValueError("a client needs at least one address")
        self.settings = settings or ClientSettings()
        self._key = key if isinstance(key, Key) else Key(key)
        self._deadline = Deadline()
        parsed = [a if isinstance(a, Address) else parse_address(a) for a in addresses]
        self._doors = {address.base: self._open(address) for address in parsed}
        self.addresses = tuple(self._doors)
        self._addresses, self._pace = _Addresses(self.addresses), _Pace(self.settings.requests_per_minute)
        self._slots = threading.BoundedSemaphore(self.settings.concurrency)
        self._closed = threading.Event()

    def _open(self, address: Address) -> _Door:
        way, most = route(address), self.settings.concurrency
        limits = httpx2.Limits(max_connections=most, max_keepalive_connections=most, keepalive_expiry=IDLE_SECONDS)
        transport = httpx2.HTTPTransport(verify=way.verify, proxy=way.proxy, limits=limits, trust_env=False)
        # httpx has no argument for it, and what stands in for a SOCKS pool that is not installed no such attribute.
        transport._pool._network_backend = DeadlineBackend(self._deadline)  # pyrefly: ignore[missing-attribute]
        return _Door(address, way, httpx2.Client(headers=self._key.headers(), transport=transport, trust_env=False))

    def get(self, path: str, *, address: str = "", timeout: float | None = None, retry: bool = True) -> Json:
        """See `post`."""
        request = _Request("GET", path, None, timeout or self.settings.timeout)
        return self._call(request, address, lambda reply, _: reply, retry=retry)

    def post(
        self, path: str, body: Json, *, address: str = "", timeout: float | None = None, retry: bool = True
    ) -> Json:
        """Sends an object and returns the object that came back; an answer without content is an empty one.

        See `ask`.
        """
        request = _Request("POST", path, body, timeout or self.settings.timeout)
        return self._call(request, address, lambda reply, _: reply, retry=retry)

    def ask(self, path: str, body: Json, read: Callable[[Json, str], Result], *, address: str = "") -> Result:
        """Sends an object and returns what is read of the one that came back.

        Args:
            path: from the address on, such as "/v1/completions".
            body: sent as JSON.
            read: gets the reply and the address it is from, and may raise `Passing` to have it asked again.
            address: one of the client's, to ask this one; else any.

        Further arguments of `get` and `post`:
            timeout: seconds of an attempt, in place of the client's.
            retry: False for what must not reach the server twice.

        Raises:
            RequestRefused: status 4xx; what was asked is wrong.
            Unreachable: there is no connection.
            ServerError: anything else that went wrong, after the retries.
        """
        return self._call(_Request("POST", path, body, self.settings.timeout), address, read, retry=True)

    def said(self, text: str) -> str:
        """What a server said, as part of a message."""
        return one_line(self._key.hide(text[:10_000]))

    def map(self, function: Callable[[Item], Result], items: Iterable[Item], *, most: int = 0) -> list[Result]:
        """Results in the order of the items, from as many threads as the client has places, or at most from `most`.

        The first error is raised as soon as the calls under way have ended; further ones are not begun.
        """
        items = list(items)
        jobs = (functools.partial(lambda i: (i, function(items[i])), i) for i in range(len(items)))
        workers = max(1, min(most or self.settings.concurrency, len(items)))
        results = dict(parallel(jobs, workers, on_error=lambda: None))
        return [results[i] for i in range(len(items))]

    def close(self) -> None:
        """Closes the connections; calls that wait for their turn end with an error."""
        self._closed.set()
        for door in self._doors.values():
            door.http.close()

    def __enter__(self) -> "HttpClient":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _call(self, request: "_Request", only: str, read: Callable[[Json, str], Result], *, retry: bool) -> Result:
        attempt, attempts = 0, 1 + (self.settings.retries if retry else 0)
        with self._slots:
            while True:
                address, rest = self._addresses.take(only.rstrip("/"))
                pause = 0.0
                try:
                    self._sleep(rest, address)
                    self._sleep(self._pace.wait(), address)
                    return read(self._exchange(request, address), address)
                except Passing as error:
                    passing, pause = error, max(error.seconds, self._backoff(attempt))
                finally:
                    if self._addresses.give_back(address, pause) and _TOLD < pause <= self.settings.longest_wait:
                        log.warning("%s; it is left alone for %.0f s", passing, pause)
                if passing.seconds > self.settings.longest_wait:
                    limit = f"longer than the {self.settings.longest_wait:g} s this client waits"
                    raise passing.final(f"asks to be left alone for {passing.seconds:g} s, {limit}")
                attempt += 1
                if attempt == attempts:
                    raise passing.final(f"{attempts} attempts" if attempts > 1 else "")

    def _backoff(self, attempt: int) -> float:
        longest = min(self.settings.backoff * 2**attempt, self.settings.longest_wait, LONGEST_BACKOFF)
        return longest * random.uniform(0.5, 1.0)

    def _sleep(self, seconds: float, address: str) -> None:
        if self._closed.wait(seconds) if seconds > 0 else self._closed.is_set():
            raise ServerError(f"{address}: the client was closed")

    def _exchange(self, request: "_Request", address: str) -> Json:
        """One attempt."""
        door = self._doors[address]
        where = f"{address}{request.path}" + (f" {door.route.variables}" if door.route.variables else "")
        try:
            response, content = self._send(request, door)
        except httpx2.ConnectTimeout as error:
            raise Passing(Unreachable(f"{where}: no connection within {CONNECT_SECONDS:g} s")) from error
        except httpx2.TimeoutException as error:
            raise ServerError(f"{where}: no answer within {request.timeout:g} s") from error
        except (httpx2.LocalProtocolError, httpx2.UnsupportedProtocol, httpx2.InvalidURL) as error:
            raise ServerError(f"{where}: the request cannot be sent ({self.said(str(error))})") from error
        except (httpx2.ConnectError, httpx2.ProxyError) as error:
            raise Passing(Unreachable(f"{where}: {self._why(error)}")) from error
        except (httpx2.TransportError, httpx2.DecodingError) as error:
            raise Passing(ServerError(f"{where}: {self._why(error)}")) from error
        text = content.decode("utf-8", errors="replace")
        if 200 <= response.status_code < 300:
            return _object(self._key.remove(text), where)
        raise self._failure(response, text, where)

    def _why(self, error: Exception) -> str:
        return self.said(str(error)) or type(error).__name__

    def _failure(self, response: httpx2.Response, text: str, where: str) -> Exception:
        """What an answer means that is no success."""
        status = response.status_code
        words = self.said(error_text(text) or response.reason_phrase)
        if 300 <= status < 400 and (place := response.headers.get("Location")):
            words += f", it has moved to {self.said(place.partition('?')[0].rpartition('@')[2])}: give that address"
        message = f"{where}: status {status}, {words}"
        return NoAnswer(message) if is_declined(text) else failure(status, message, retry_after(response.headers))

    def _send(self, request: "_Request", door: _Door) -> tuple[httpx2.Response, bytes]:
        """The response and its content. A pause of the server has the time limit, and so has the whole answer."""
        self._deadline.set(request.timeout)
        limits = httpx2.Timeout(request.timeout, connect=min(CONNECT_SECONDS, request.timeout))
        body = None if request.body is None else to_json(request.body).encode()
        headers = {"Content-Type": "application/json"} if body else {}
        content = bytearray()
        url = door.address.url(request.path)
        with door.http.stream(request.method, url, content=body, headers=headers, timeout=limits) as response:
            for piece in response.iter_bytes():
                content += piece
                if len(content) > self.settings.longest_answer:
                    raise httpx2.DecodingError(f"the answer has more than {self.settings.longest_answer} bytes")
        return response, bytes(content)


@dataclasses.dataclass(frozen=True)
class _Request:
    method: str
    path: str
    body: Json | None
    timeout: float


def _object(text: str, where: str) -> Json:
    try:
        value = from_json(text.removeprefix("\ufeff")) if text.strip() else {}
    except ValueError as error:
        raise Passing(ServerError(f"{where}: the answer is not JSON ({one_line(str(error), 200)})")) from error
    if not isinstance(value, dict):
        raise Passing(ServerError(f"{where}: the answer is not a JSON object but {type(value).__name__}"))
    return value
