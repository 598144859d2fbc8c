"""One client's place at the server: the episode that it plays, as messages of OpenEnv's protocol say it.

A message is a JSON object with a "type" and "data"; so is an answer. What is asked wrongly raises `Refused`, and the
episode is what it was.
"""

import uuid
from collections.abc import Mapping

from stgrpo.envs.sessions import open_session
from stgrpo.errors import UserError
from stgrpo.protocol import SPLITS, Environment, InvalidAction, Judging, Observed, Session

INVALID_JSON, UNKNOWN_TYPE, VALIDATION_ERROR, EXECUTION_ERROR, CAPACITY_REACHED = (
    "INVALID_JSON",
    "UNKNOWN_TYPE",
    "VALIDATION_ERROR",
    "EXECUTION_ERROR",
    "CAPACITY_REACHED",
)
"""The codes of errors, as OpenEnv names them."""
RESET_FIELDS = {
    "task": str,
    "layout": str,
    "family": str,
    "split": str,
    "index": int,
    "seed": int,
    "distance": bool,
    "episode_id": str,
}
_MOST = 1 << 31
_LONGEST_INDEX = 10_000

Json = dict[str, object]


class Refused(Exception):
    """A request that is answered with an error and changes nothing; `code` is one of OpenEnv's."""

    def __init__(self, code: str, message: str):
        super().__init__(message)
        self.code = code


class Seat:
    """A place at the server.

    Args:
        environment: that is played; others play it too.
    """

    def __init__(self, environment: Environment):
        self._environment = environment
        self._session: Session | None = None
        self._seen: Observed | None = None
        self._episode, self._steps, self._with_distance = "", 0, False

    def reset(self, data: Mapping[str, object]) -> Json:
        """Begins an episode.

        Args:
            data: may have task, layout, or a family and a split with the index of a layout in the list that a seed
                gives; distance, whether observations say how far the goal is; episode_id. What is missing is the
                first of each.

        Raises:
            Refused: there is no such thing.
            UserError: so says the environment.
        """
        given = _fields(data, RESET_FIELDS)
        task, layout = self._chosen(given)
        session = open_session(self._environment, task, layout)
        try:
            seen = session.reset()
        except BaseException:
            session.close()
            raise
        self.close()
        self._session, self._seen, self._steps = session, seen, 0
        self._with_distance = bool(given.get("distance", False))
        self._episode = str(given.get("episode_id") or uuid.uuid4())
        return self._observation(reward=None)

    def _chosen(self, given: Mapping[str, object]) -> tuple[str, str]:
        environment = self._environment
        task = str(given.get("task") or environment.tasks()[0])
        if "layout" in given:
            if clash := {"family", "split", "index", "seed"} & given.keys():
                raise Refused(VALIDATION_ERROR, f"layout and {min(clash)} are two ways to choose: leave one out")
            return task, str(given["layout"])
        family = str(given.get("family") or environment.families()[0])
        split, index, seed = str(given.get("split", "train")), _number(given, "index"), _number(given, "seed")
        return task, list_layouts(environment, task, family, split=split, count=index + 1, seed=seed)[-1]

    def step(self, data: Mapping[str, object]) -> Json:
        """Does an action; one that is not valid now changes nothing, is told as `invalid`, and counts as a step.

        Raises:
            Refused: there is no episode, or it is over, or no text.
        """
        text = _fields(data, {"text": str, "metadata": dict}).get("text")
        if not isinstance(text, str):
            raise Refused(VALIDATION_ERROR, 'a step has {"text": ACTION} as its data')
        if self._session is None or self._seen is None:
            raise Refused(EXECUTION_ERROR, "there is no episode yet: reset first")
        if self._is_done():
            raise Refused(EXECUTION_ERROR, "the episode is over: reset first")
        try:
            self._seen, invalid = self._session.step(text), False
        except InvalidAction:
            invalid = True
        self._steps += 1
        seen = self._seen
        ends = float(seen.success) if seen.score is None else seen.score
        return self._observation(reward=ends if self._is_done() else 0.0, invalid=invalid)

    def _is_done(self) -> bool:
        assert self._session is not None and self._seen is not None
        return self._seen.done or self._steps >= self._session.max_steps

    def state(self) -> Json:
        """Returns where the episode is; without one there are no steps yet."""
        said: Json = {"episode_id": self._episode or None, "step_count": self._steps}
        if self._session is not None and self._seen is not None:
            said |= {"task": self._session.task, "layout": self._session.layout, "max_steps": self._session.max_steps}
            said |= {"done": self._is_done(), "success": self._seen.success}
        return said

    def close(self) -> None:
        """Gives back what the episode holds."""
        if self._session is not None:
            self._session.close()
        self._session = self._seen = None

    def _observation(self, *, reward: float | None, invalid: bool = False) -> Json:
        session, seen = self._session, self._seen
        assert session is not None and seen is not None
        observation: Json = {
            "text": seen.observation,
            "valid_actions": list(seen.valid_actions),
            "goal": session.goal,
            "task": session.task,
            "layout": session.layout,
            "max_steps": session.max_steps,
            "success": seen.success,
            "score": seen.score,
            "invalid": invalid,
            "metadata": {},
        }
        if self._with_distance:
            observation["distance"] = _distance(session)
        return {"observation": observation, "reward": reward, "done": self._is_done()}


def _distance(session: Session) -> int | None:
    """The least number of steps to the goal; None where there is no planner, or it knows none."""
    if not isinstance(session, Judging) or session.planner is None:
        return None
    try:
        return session.planner.distance(session.state)
    except UserError:
        return None


def list_layouts(environment: Environment, task: str, family: str, *, split: str, count: int, seed: int) -> list[str]:
    """Lists layouts of names that somebody else has given.

    Raises:
        Refused: there is no such task, family or split, or more are asked for than are listed at once.
        UserError: there are fewer.
    """
    for what, value, known in (
        ("task", task, environment.tasks()),
        ("family", family, environment.families()),
        ("split", split, SPLITS),
    ):
        if value not in known:
            raise Refused(VALIDATION_ERROR, f"{what} {value[:80]!r}: unknown; use one of {', '.join(known)}")
    if not 1 <= count <= _LONGEST_INDEX:
        raise Refused(VALIDATION_ERROR, f"{count} layouts: ask for 1 to {_LONGEST_INDEX}")
    return list(environment.layouts(task, family, split=split, count=count, seed=seed))


def _fields(data: object, kinds: Mapping[str, type]) -> dict[str, object]:
    """The fields of a message, each of its kind; null is as if it was left out."""
    if not isinstance(data, dict):
        raise Refused(VALIDATION_ERROR, "data must be a JSON object")
    given = {name: value for name, value in data.items() if value is not None}
    for name, value in given.items():
        if name not in kinds:
            raise Refused(VALIDATION_ERROR, f"{name[:80]!r} is unknown here: use {', '.join(kinds)}")
        if not isinstance(value, kinds[name]) or (kinds[name] is int and isinstance(value, bool)):
            raise Refused(VALIDATION_ERROR, f"{name} must be of the kind {kinds[name].__name__}")
        if isinstance(value, str) and name == "episode_id" and len(value) > 255:
            raise Refused(VALIDATION_ERROR, "episode_id has more than 255 characters")
    return given


def _number(given: Mapping[str, object], name: str) -> int:
    value = given.get(name, 0)
    if not isinstance(value, int) or not 0 <= value < _MOST:
        raise Refused(VALIDATION_ERROR, f"{name}={value}: use a whole number from 0 to below {_MOST}")
    return value
