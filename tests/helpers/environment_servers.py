"""An environment server in a thread of this process, on a free port of the loopback."""

import asyncio
import contextlib
import threading
from collections.abc import Iterator

from stgrpo.protocol import Environment


@contextlib.contextmanager
def served(environment: Environment, name: str = "served", **limits) -> Iterator[str]:
    """The address HOST:PORT of a server, which ends with the block."""
    from stgrpo.env_server.server import EnvironmentServer, Limits

    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    server = EnvironmentServer(name, environment, Limits(**limits))
    listening = asyncio.run_coroutine_threadsafe(server.start("127.0.0.1", 0), loop).result(20)
    try:
        yield f"127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    finally:
        listening.close()
        asyncio.run_coroutine_threadsafe(listening.wait_closed(), loop).result(20)
        server.close()
        loop.call_soon_threadsafe(loop.stop)
        thread.join(20)
        loop.close()
