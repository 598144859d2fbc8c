"""Env-server: an environment for clients of OpenEnv, and for runs on other machines."""

import asyncio
import logging
import signal
from collections.abc import Sequence

from stgrpo import envs
from stgrpo.console import say
from stgrpo.errors import UserError
from stgrpo.stages.flags import LOOPBACK, at_least, parse_plain

log = logging.getLogger(__name__)
_FLAGS = {
    "host": "127.0.0.1",
    "port": 8000,
    "sessions": 1024,
    "size": 65536,
    "idle": 600.0,
    "engine": envs.OURS,
    "data": "",
}


def run_server(arguments: Sequence[str]) -> None:
    """Serves the environment that the command line names until it is interrupted.

    Raises:
        UserError: there is no such environment or flag, the address is taken, or websockets is not installed.
    """
    names, given = parse_plain(arguments, _FLAGS)
    if len(names) != 1:
        raise UserError(f"env-server takes one name of an environment, such as one of {', '.join(envs.names())}")
    at_least(1, given, "sessions", "size", "idle")
    if not 0 <= given["port"] <= 65535:
        raise UserError(f"--port={given['port']}: use a number up to 65535, or 0 for any that is free")
    environment = envs.get(names[0], engine=given["engine"], data=given["data"])
    try:
        from stgrpo.env_server.server import EnvironmentServer, Limits
    except ModuleNotFoundError as error:
        raise UserError(f"env-server needs {error.name}: pip install 'stgrpo[openenv]'") from error
    host, port = given["host"], given["port"]
    if host not in LOOPBACK:
        log.warning("env-server asks nobody who they are: whoever reaches %s:%d can play", host, port)
    server = EnvironmentServer(names[0], environment, Limits(given["sessions"], given["size"], given["idle"]))
    try:
        asyncio.run(_serve(server, names[0], host, port))
    finally:
        server.close()


async def _serve(server, name: str, host: str, port: int) -> None:
    """Serves until SIGINT or SIGTERM."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with await server.start(host, port) as listening:
        port = listening.sockets[0].getsockname()[1]
        address = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
        say(f"env-server: {name} at {address}; for a run: --config.env.name=openenv --config.env.data={address}")
        await stop.wait()
    say("env-server: ended")
