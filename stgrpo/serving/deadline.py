"""A time limit for a whole answer: a server that sends a byte now and then is within the limit of every single read."""

import ssl
import threading
import time
from collections.abc import Iterable

import httpcore2


class Deadline(threading.local):
    """When the request of this thread has to be over; each thread has its own."""

    at = float("inf")

    def set(self, seconds: float) -> None:
        """From now on."""
        self.at = time.monotonic() + seconds

    def limit(self, timeout: float | None, passed: type[Exception]) -> float | None:
        """Seconds that one step may take.

        Raises:
            Exception: `passed`, where there are none left.
        """
        left = self.at - time.monotonic()
        if left <= 0:
            raise passed("the answer goes on and on")
        return left if timeout is None else min(timeout, left)


class DeadlineBackend(httpcore2.NetworkBackend):
    """Opens connections whose steps end with the deadline of the thread that does them."""

    def __init__(self, deadline: Deadline):
        self._inner, self._deadline = httpcore2.SyncBackend(), deadline

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> "_Stream":
        """See `httpcore2.NetworkBackend`."""
        timeout = self._deadline.limit(timeout, httpcore2.ConnectTimeout)
        return _Stream(self._inner.connect_tcp(host, port, timeout, local_address, socket_options), self._deadline)


class _Stream(httpcore2.NetworkStream):
    def __init__(self, inner: httpcore2.NetworkStream, deadline: Deadline):
        self._inner, self._deadline = inner, deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._inner.read(max_bytes, self._deadline.limit(timeout, httpcore2.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._inner.write(buffer, self._deadline.limit(timeout, httpcore2.WriteTimeout))

    def close(self) -> None:
        self._inner.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> "_Stream":
        timeout = self._deadline.limit(timeout, httpcore2.ConnectTimeout)
        return _Stream(self._inner.start_tls(ssl_context, server_hostname, timeout), self._deadline)

    def get_extra_info(self, info: str) -> object:
        return self._inner.get_extra_info(info)
