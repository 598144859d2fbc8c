"""An environment behind a WebSocket, as OpenEnv's clients expect one: many sessions at once, none that harms another.

    ws://HOST:PORT/ws         messages of the types reset, step, state and close, and an answer to each
    GET /health, /metadata, /schema                         as OpenEnv has them
    GET /stgrpo/environment, /stgrpo/layouts?task=...       what its protocol has no word for: tasks, lists of layouts

What a client does wrong is answered by one error, and its episode goes on.
"""

import asyncio
import contextlib
import http
import logging
import resource
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import TypeVar
from urllib.parse import parse_qsl, urlsplit

from websockets.asyncio.server import Request, Response, Server, ServerConnection, serve
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed

from stgrpo import __version__
from stgrpo.console import one_line
from stgrpo.env_server import seat as seats
from stgrpo.env_server.seat import Json, Refused, Seat, list_layouts
from stgrpo.errors import UserError
from stgrpo.files import from_json, to_json
from stgrpo.protocol import (
    Environment,
    benchmark_set_of,
    benchmark_sets_of,
    instructions_of,
    object_names_of,
)

T = TypeVar("T")
log = logging.getLogger(__name__)
_QUIET = logging.getLogger(f"{__name__}.websockets")
_QUIET.setLevel(logging.CRITICAL)  # it tells of every stranger's broken handshake, with a traceback
_HARD_LIMIT = 1 << 23
_THREADS = 8
_SLOW_PAGE_S = 300.0
_GOING_AWAY = 1001
_TEXT, _NUMBER, _FLAG = {"type": "string"}, {"type": "integer"}, {"type": "boolean"}


@dataclass(frozen=True)
class Limits:
    """What a server takes.

    Attributes:
        sessions: at once; who comes then is told so.
        size: of a message, in bytes; a longer one is answered by an error, one of more than 8 MiB ends its session.
        idle: seconds without a message after which a session is closed.
    """

    sessions: int = 1024
    size: int = 1 << 16
    idle: float = 600.0


class EnvironmentServer:
    """Serves one environment.

    Args:
        name: of the environment.
        environment: what is played.
        limits: what is taken.
    """

    def __init__(self, name: str, environment: Environment, limits: Limits):
        self._name, self._environment, self._limits = name, environment, limits
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="env-server")
        self._open = 0

    async def start(self, host: str, port: int) -> Server:
        """Listens; what is returned knows the port, where 0 was given, and is closed at the end.

        Raises:
            UserError: the address is taken, or none of this machine.
        """
        _allow_files()
        try:
            return await serve(
                self._converse,
                host,
                port,
                process_request=self._get,
                origins=[None],  # no page in a browser
                compression=None,
                open_timeout=max(_SLOW_PAGE_S, self._limits.idle),  # pages count as handshakes: lists can take long
                max_size=_HARD_LIMIT,
                logger=_QUIET,
            )
        except OSError as error:
            reason = error.strerror or str(error)
            raise UserError(f"--host={host} --port={port}: {reason}: give an address that is free") from error

    def close(self) -> None:
        """Ends the threads that are at rest."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _converse(self, socket: ServerConnection) -> None:
        limits = self._limits
        if self._open >= limits.sessions:
            with contextlib.suppress(ConnectionClosed):
                await socket.send(_error(seats.CAPACITY_REACHED, f"all {limits.sessions} sessions are taken"))
            return
        self._open += 1
        seat = Seat(self._environment)
        try:
            while (answer := await self._answer(seat, await asyncio.wait_for(socket.recv(), limits.idle))) is not None:
                await socket.send(answer)
        except TimeoutError:
            await socket.close(_GOING_AWAY, f"no message for {limits.idle:g} s")
        except ConnectionClosed:
            pass
        finally:
            self._open -= 1
            await self._in_thread(seat.close)

    async def _answer(self, seat: Seat, raw: str | bytes) -> str | None:
        """The answer to a message, whatever it is; None for one that ends the session."""
        try:
            kind, data = self._message(raw)
            if kind == "close":
                return None
            return to_json(await self._in_thread(_done, seat, kind, data))
        except Refused as refusal:
            return _error(refusal.code, str(refusal))
        except UserError as error:
            return _error(seats.EXECUTION_ERROR, str(error))
        except Exception as error:
            log.exception("%s", one_line(f"{self._name}: {error}"))
            return _error(seats.EXECUTION_ERROR, f"{type(error).__name__}: {error}")

    def _message(self, raw: str | bytes) -> tuple[str, object]:
        size = len(raw.encode(errors="surrogatepass")) if isinstance(raw, str) else len(raw)
        if size > self._limits.size:
            raise Refused(seats.VALIDATION_ERROR, f"a message of {size} bytes: the limit is {self._limits.size}")
        try:
            message = from_json(raw)
        except (ValueError, RecursionError) as error:
            raise Refused(seats.INVALID_JSON, f"not JSON: {error}") from error
        if not isinstance(message, dict) or not isinstance(message.get("type"), str):
            raise Refused(seats.VALIDATION_ERROR, 'a message is {"type": "reset", "step", "state" or "close"}')
        return message["type"], message.get("data", {})

    async def _in_thread(self, function: Callable[..., T], *arguments: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, function, *arguments)

    async def _get(self, connection: ServerConnection, request: Request) -> Response | None:
        """Answers what is no WebSocket; None for one."""
        address = urlsplit(request.path)
        if address.path == "/ws":
            return None
        try:
            query = dict(parse_qsl(address.query, keep_blank_values=True))
            found = await self._in_thread(self._document, address.path, query)
        except (Refused, UserError) as error:
            return _page(http.HTTPStatus.BAD_REQUEST, {"detail": one_line(str(error))})
        except Exception as error:
            log.exception("%s", one_line(f"{self._name}: {error}"))
            return _page(
                http.HTTPStatus.INTERNAL_SERVER_ERROR, {"detail": one_line(f"{type(error).__name__}: {error}")}
            )
        if found is None:
            return _page(http.HTTPStatus.NOT_FOUND, {"detail": "there is /ws, /health, /metadata and /schema"})
        return _page(http.HTTPStatus.OK, found)

    def _document(self, path: str, query: dict[str, str]) -> Json | None:
        if path == "/health":
            return {"status": "healthy"}
        if path == "/metadata":
            about = instructions_of(self._environment)
            return {"name": self._name, "description": about.task, "version": __version__}
        if path == "/schema":
            return schema()
        if path == "/stgrpo/environment":
            return _described(self._name, self._environment)
        if path == "/stgrpo/layouts":
            return {"layouts": self._layouts(query)}
        return None

    def _layouts(self, query: dict[str, str]) -> list[str]:
        numbers = {name: query.get(name, default) for name, default in (("count", "1"), ("seed", "0"))}
        for name, value in numbers.items():
            if not value.isdecimal() or len(value) > 9:
                raise Refused(seats.VALIDATION_ERROR, f"{name}={value[:80]}: use a whole number")
        return list_layouts(
            self._environment,
            query.get("task", ""),
            query.get("family", ""),
            split=query.get("split", ""),
            count=int(numbers["count"]),
            seed=int(numbers["seed"]),
        )


def _done(seat: Seat, kind: str, data: object) -> Json:
    """Does what a message asks for, and says what came of it."""
    if kind == "state":
        return {"type": "state", "data": seat.state()}
    if kind not in ("reset", "step"):
        raise Refused(seats.UNKNOWN_TYPE, f"a message of the type {kind[:80]!r}: use reset, step, state or close")
    if not isinstance(data, dict):
        raise Refused(seats.VALIDATION_ERROR, "data must be a JSON object")
    return {"type": "observation", "data": seat.reset(data) if kind == "reset" else seat.step(data)}


def _error(code: str, message: str) -> str:
    return to_json({"type": "error", "data": {"message": one_line(message), "code": code}})


def _page(status: http.HTTPStatus, content: Json) -> Response:
    body = to_json(content).encode(errors="backslashreplace")
    headers = Headers({"Content-Type": "application/json", "Content-Length": str(len(body)), "Connection": "close"})
    return Response(status.value, status.phrase, headers, body)


def schema() -> Json:
    """Returns what an action, an observation and a state consist of, as JSON schemas."""
    texts = dict.fromkeys(("text", "goal", "task", "layout"), _TEXT)
    observation = texts | {"valid_actions": {"type": "array", "items": _TEXT}, "max_steps": _NUMBER}
    observation |= {"success": _FLAG, "invalid": _FLAG, "score": {"type": ["number", "null"]}}
    observation |= {"distance": {"type": ["integer", "null"]}}
    state = {"episode_id": _TEXT, "step_count": _NUMBER, "task": _TEXT, "layout": _TEXT, "done": _FLAG}
    return {
        "action": {"type": "object", "properties": {"text": _TEXT}, "required": ["text"]},
        "observation": {"type": "object", "properties": observation},
        "state": {"type": "object", "properties": state},
    }


def _described(name: str, environment: Environment) -> Json:
    """What a client of ours asks for: all that an environment says of itself."""
    sets = {
        each: {task: list(_of_set(environment, each, task)) for task in environment.tasks()}
        for each in benchmark_sets_of(environment)
    }
    return {
        "name": name,
        "tasks": list(environment.tasks()),
        "families": list(environment.families()),
        "benchmark_sets": sets,
        "instructions": asdict(instructions_of(environment)),
        "object_names": list(object_names_of(environment)),
    }


def _of_set(environment: Environment, name: str, task: str) -> tuple[str, ...]:
    try:
        return benchmark_set_of(environment, name, task)
    except UserError:  # its data are not at hand
        return ()


def _allow_files() -> None:
    """Lets this process have as many open files, which sessions are, as it may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
