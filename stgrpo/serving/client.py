"""JSON over HTTP, from many threads to one server or several: retries, time limits, back-pressure, one-line errors.

- A call goes to the least busy address. One that failed or asked for time rests, for all threads: meanwhile
  the others are asked; where there is no other, callers wait.
- Connection errors and the answers 429, 502, 503 and 504 are tried again after an exponentially growing time with
  jitter, never before the server's own Retry-After. A connection may break after the server began to work, so whatever
  must not be done twice is called with `retry=False`.
- Every attempt has a time limit. A server that exceeds it hangs: that is not tried again.
"""

import dataclasses
import datetime
import email.utils
import functools
import random
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

import httpx2

from stgrpo.errors import RequestRefused, ServerError
from stgrpo.files import from_json, to_json
from stgrpo.serving.pool import parallel

BUSY = (429, 502, 503, 504)  # 502 and 504 are what a gateway says whose server restarts
CONNECT_SECONDS = 10.0
# Below the 5 s after which uvicorn closes an idle connection, so that no request meets one that is being closed.
IDLE_SECONDS = 4.0
LONGEST_MESSAGE = 500
LOOPBACK = ("all://localhost", "all://127.0.0.1", "all://[::1]")

Json = dict[str, object]
Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclasses.dataclass(frozen=True)
class ClientSettings:
    """How patient and how busy a client is.

    Attributes:
        timeout: seconds an attempt may take; a call may set its own.
        retries: attempts after the first.
        backoff: seconds before the first retry, doubled with each.
        longest_wait: seconds between two attempts at most; a server that asks for more is given up.
        concurrency: calls under way at one time; further ones wait.
        requests_per_minute: attempts, evenly spaced; 0 is no limit.
    """

    timeout: float = 120.0
    retries: int = 5
    backoff: float = 0.5
    longest_wait: float = 60.0
    concurrency: int = 32
    requests_per_minute: float = 0.0


class _Again(Exception):
    """A failure that may pass, and the seconds that the server asked to be left alone."""

    def __init__(self, message: str, seconds: float = 0.0):
        super().__init__(message)
        self.seconds = seconds


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

    def give_back(self, address: str, rest: float) -> None:
        with self._lock:
            self._busy[address] -= 1
            self._rests_until[address] = max(self._rests_until[address], time.monotonic() + rest)


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


class HttpClient:
    """A pool of kept-alive connections to one or more servers that do the same; safe to share between threads.

    Args:
        addresses: such as "http://127.0.0.1:8000"; what a call adds is its path.
        settings: time limits, retries and concurrency.
        key: sent as a bearer token; it is in no error and no log.
    """

    def __init__(self, addresses: Sequence[str], settings: ClientSettings | None = None, *, key: str = ""):
        if not addresses:
            raise ValueError("a client needs at least one address")
        self.addresses = tuple(address.rstrip("/") for address in addresses)
        self.settings = settings or ClientSettings()
        self._key = key
        self._addresses, self._pace = _Addresses(self.addresses), _Pace(self.settings.requests_per_minute)
        self._slots = threading.BoundedSemaphore(self.settings.concurrency)
        self._closed = threading.Event()
        limit = self.settings.concurrency * len(self.addresses)
        self._http = httpx2.Client(
            headers={"Authorization": f"Bearer {key}"} if key else {},
            limits=httpx2.Limits(max_connections=limit, max_keepalive_connections=limit, keepalive_expiry=IDLE_SECONDS),
            mounts=dict.fromkeys(LOOPBACK),  # never through a proxy of the environment
        )

    def get(self, path: str, *, address: str = "", timeout: float | None = None, retry: bool = True) -> Json:
        """See `post`."""
        return self._call(_Request("GET", path, None, timeout or self.settings.timeout), address, retry=retry)

    def post(
        self, path: str, body: Json, *, address: str = "", timeout: float | None = None, retry: bool = True
    ) -> Json:
        """Sends an object and returns the object that came back; an answer without content is an empty one.

        Args:
            path: from the address on, such as "/v1/completions".
            body: sent as JSON.
            address: one of the client's, to ask this one; else any.
            timeout: seconds of an attempt, in place of the client's.
            retry: False for what must not reach the server twice.

        Raises:
            RequestRefused: status 4xx; what was asked is wrong.
            ServerError: anything else that went wrong, after the retries.
        """
        return self._call(_Request("POST", path, body, timeout or self.settings.timeout), address, retry=retry)

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
        self._http.close()

    def __enter__(self) -> "HttpClient":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _call(self, request: "_Request", only: str, *, retry: bool) -> Json:
        attempts = 1 + (self.settings.retries if retry else 0)
        with self._slots:
            for attempt in range(attempts):
                address, rest = self._addresses.take(only.rstrip("/"))
                pause = 0.0
                try:
                    self._sleep(rest, address)
                    self._sleep(self._pace.wait(), address)
                    return self._exchange(request, address)
                except _Again as error:
                    failure, pause = error, max(error.seconds, self._backoff(attempt))
                finally:
                    self._addresses.give_back(address, pause)
                if failure.seconds > self.settings.longest_wait:
                    limit = f"longer than the {self.settings.longest_wait:g} s this client waits"
                    raise ServerError(f"{failure} (asks to be left alone for {failure.seconds:g} s, {limit})")
        raise ServerError(f"{failure} ({attempts} attempts)" if attempts > 1 else str(failure))

    def _backoff(self, attempt: int) -> float:
        longest = min(self.settings.backoff * 2**attempt, self.settings.longest_wait)
        return longest * random.uniform(0.5, 1.0)

    def _sleep(self, seconds: float, address: str) -> None:
        if self._closed.wait(seconds) if seconds > 0 else self._closed.is_set():
            raise ServerError(f"{address}: the client was closed")

    def _exchange(self, request: "_Request", address: str) -> Json:
        """One attempt."""
        where = f"{address}{request.path}"
        try:
            response, content = self._send(request, where)
        except httpx2.ConnectTimeout as error:
            raise _Again(f"{where}: no connection within {CONNECT_SECONDS:g} s") from error
        except httpx2.TimeoutException as error:
            raise ServerError(f"{where}: no answer within {request.timeout:g} s") from error
        except httpx2.TransportError as error:
            raise _Again(f"{where}: {self._one_line(str(error)) or type(error).__name__}") from error
        except (httpx2.InvalidURL, httpx2.DecodingError) as error:
            raise ServerError(f"{where}: {self._one_line(str(error))}") from error
        status = response.status_code
        if 200 <= status < 300:
            return _object(content, where)
        message = f"{where}: status {status}, {self._one_line(_message(content)) or response.reason_phrase}"
        if status in BUSY:
            raise _Again(message, _retry_after(response.headers.get("Retry-After", "")))
        raise (RequestRefused if 400 <= status < 500 else ServerError)(message)

    def _send(self, request: "_Request", url: str) -> tuple[httpx2.Response, bytes]:
        """The response and its content. A pause of the server has the time limit, and so has the whole answer."""
        deadline = time.monotonic() + request.timeout
        limits = httpx2.Timeout(request.timeout, connect=min(CONNECT_SECONDS, request.timeout))
        body = None if request.body is None else to_json(request.body).encode()
        headers = {"Content-Type": "application/json"} if body else {}
        content = bytearray()
        with self._http.stream(request.method, url, content=body, headers=headers, timeout=limits) as response:
            for piece in response.iter_bytes():
                content += piece
                if time.monotonic() > deadline:
                    raise httpx2.ReadTimeout("the answer goes on and on")
        return response, bytes(content)

    def _one_line(self, text: str) -> str:
        """A message that fits into a line and does not hold the key, which some servers repeat."""
        text = text.replace(self._key, "***") if self._key else text
        line = " ".join(text.split())
        return line if len(line) <= LONGEST_MESSAGE else line[:LONGEST_MESSAGE] + " ..."


@dataclasses.dataclass(frozen=True)
class _Request:
    method: str
    path: str
    body: Json | None
    timeout: float


def _object(content: bytes, where: str) -> Json:
    try:
        value = from_json(content) if content.strip() else {}
    except ValueError as error:
        raise ServerError(f"{where}: the answer is not JSON ({error})") from error
    if not isinstance(value, dict):
        raise ServerError(f"{where}: the answer is not a JSON object but {type(value).__name__}")
    return value


def _message(content: bytes) -> str:
    """What a server says about an error: {"error": {"message": ...}}, the same without "error", "detail", or text."""
    text = content.decode("utf-8", errors="replace")
    try:
        value = from_json(text)
    except ValueError:
        return text
    while isinstance(value, dict):
        inner = next((value[name] for name in ("error", "message", "detail") if value.get(name)), None)
        if inner is None:
            return text
        value = inner
    return value if isinstance(value, str) else to_json(value)


def _retry_after(value: str) -> float:
    """Seconds of a Retry-After header, which has seconds or a date; 0 where it has neither."""
    if not value:
        return 0.0
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        until = email.utils.parsedate_to_datetime(value)
    except ValueError:
        return 0.0
    return max(0.0, (until - datetime.datetime.now(until.tzinfo or datetime.UTC)).total_seconds())
