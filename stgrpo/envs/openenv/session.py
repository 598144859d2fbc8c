"""One layout, played at a server over a WebSocket.

A session that is lost, as a server closes those that say nothing, is opened again: the episode is begun anew, and its
actions are taken once more.
"""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from stgrpo.console import one_line
from stgrpo.envs.openenv.place import WAIT_LONGER, Place
from stgrpo.errors import NoAnswer, RequestRefused, ServerError, Unreachable, UserError
from stgrpo.files import from_json, to_json
from stgrpo.protocol import InvalidAction, Observed

if TYPE_CHECKING:
    from websockets.sync.client import ClientConnection

_OPEN_S = 10.0
_MOST = 1 << 24

Json = dict[str, Any]


class RemoteSession:
    """One layout, played at a server.

    Args:
        place: where it is.
        action: the field of an action that has its text.
        given: what a reset is asked with.
        names: of the task and the layout.
    """

    def __init__(self, place: Place, action: str, given: Mapping[str, object], names: tuple[str, str]):
        self._place, self._action, self._given = place, action, given
        self.task, self.layout = names
        self.goal, self.max_steps = "", place.max_steps
        self._held = ExitStack()
        self._socket: ClientConnection | None = None
        self._taken: list[str] = []
        self._seen: Observed | None = None

    def reset(self) -> Observed:
        """Begins an episode, on a new connection where the last one is lost.

        Raises:
            ServerError: the server is not there, refuses, or says what cannot be used.
        """
        self._taken = []
        try:
            self._seen = self._begin()
        except _Lost:
            self._seen = self._begin()
        return self._seen

    def step(self, action: str) -> Observed:
        """Does an action; where the connection is lost, in an episode that is taken up where it was.

        Raises:
            InvalidAction: it is not valid now.
            ServerError: as of `reset`, or the episode is not the same when it is begun again.
        """
        assert self._seen is not None, "reset comes first"
        if action not in self._seen.valid_actions:
            raise InvalidAction(f"The action {action!r} is not valid here.")
        try:
            seen = self._act(action)
        except _Lost:
            self._take_up()
            seen = self._act(action)
        self._taken.append(action)
        self._seen = seen
        return seen

    def close(self) -> None:
        """Ends the connection."""
        held, self._held, self._socket = self._held, ExitStack(), None
        held.close()

    def _begin(self) -> Observed:
        return self._observed(self._ask("reset", self._given))

    def _act(self, action: str) -> Observed:
        return self._observed(self._ask("step", {self._action: action}))

    def _take_up(self) -> None:
        """Begins the episode again, and takes the actions that were taken."""
        seen = self._begin()
        for action in self._taken:
            seen = self._act(action)
        if seen != self._seen:
            raise ServerError(
                f"{self._place}: {self.task} {self.layout} was lost after {len(self._taken)} steps and is another when "
                "it is played again: the same actions after a reset must show the same"
            )

    def _ask(self, kind: str, data: Mapping[str, object]) -> Json:
        """The data of an answer.

        Raises:
            _Lost: the connection is.
            ServerError: there is no answer in time, or an error, or none that can be used.
        """
        socket = self._connected()
        try:
            socket.send(to_json({"type": kind, "data": data}))
            raw = socket.recv(self._place.timeout)
        except TimeoutError as error:
            self.close()  # else what comes late is taken for the answer to the next
            raise NoAnswer(
                f"{self._place}: no answer in {self._place.timeout:g} s to a {kind}: {WAIT_LONGER}"
            ) from error
        except (_closed(), OSError) as error:
            self.close()
            raise _Lost(f"{self._place}: the connection is lost ({one_line(str(error))})") from error
        return self._data(kind, raw)

    def _data(self, kind: str, raw: str | bytes) -> Json:
        try:
            said = from_json(raw)
        except ValueError:
            said = None
        data = said.get("data") if isinstance(said, dict) else None
        if not isinstance(said, dict) or not isinstance(data, dict):
            raise ServerError(
                f"{self._place}: it answers {one_line(str(raw), 200)!r} to a {kind}: is it another server?"
            )
        if said.get("type") != "error":
            return data
        refusal = f"{self._place}: {one_line(str(data.get('message')))} ({data.get('code')})"
        if data.get("code") == "CAPACITY_REACHED":
            self.close()
            raise ServerError(f"{refusal}: give it more --sessions, or wait")
        raise RequestRefused(refusal)

    def _connected(self) -> "ClientConnection":
        if self._socket is not None:
            return self._socket
        try:
            from websockets.exceptions import InvalidHandshake
            from websockets.sync.client import connect
        except ModuleNotFoundError as error:
            raise UserError("env.name=openenv needs websockets: pip install 'stgrpo[openenv]'") from error
        proxy = None if self._place.is_loopback else True
        try:
            link = connect(self._place.socket, open_timeout=_OPEN_S, max_size=_MOST, compression=None, proxy=proxy)
            self._socket = socket = self._held.enter_context(link)
        except (OSError, InvalidHandshake, EOFError) as error:
            raise Unreachable(f"{self._place}: no session to be had ({one_line(str(error))})") from error
        return socket

    def _observed(self, data: Json) -> Observed:
        """What an answer shows."""
        seen, place = data.get("observation"), self._place
        if not isinstance(seen, dict):
            raise ServerError(f"{place}: its answer has no observation: is it another server?")
        text, actions = seen.get(place.text), seen.get(place.actions)
        if not isinstance(text, str):
            raise self._missing("text", place.text, seen)
        if not isinstance(actions, list) or not all(isinstance(action, str) for action in actions):
            raise self._missing("actions", place.actions, seen)
        goal, cap, reward = seen.get("goal"), seen.get("max_steps"), data.get("reward")
        self.goal = goal if isinstance(goal, str) else ""
        self.max_steps = cap if isinstance(cap, int) and cap > 0 else place.max_steps
        done = data.get("done") is True
        is_paid = done and isinstance(reward, int | float) and reward > 0
        score = seen.get("score")
        return Observed(
            _with_actions(text, actions, self.goal),
            tuple(actions),
            done=done,
            success=seen["success"] is True if "success" in seen else is_paid,
            score=float(score) if isinstance(score, int | float) else None,
        )

    def _missing(self, what: str, name: str, seen: Json) -> ServerError:
        fields = one_line(", ".join(map(str, seen)), 200)
        return ServerError(f"{self._place}: no {what} {name!r} among {fields}: say which by ?{what}=NAME in env.data")


class _Lost(ServerError):
    """A connection ended before its answer came."""


def _closed() -> type[Exception]:
    from websockets.exceptions import ConnectionClosed

    return ConnectionClosed


def _with_actions(text: str, actions: Sequence[str], goal: str) -> str:
    """What an agent is shown: the text, and actions and goal where it does not have them."""
    parts = [text]
    if not all(action in text for action in actions):
        parts.append("\n".join(("Valid Actions:", *actions)))
    if goal and goal not in text:
        parts.append(f"Goal: {goal}")
    return "\n\n".join(parts)
