"""Whose a folder in a bucket is: there are no locks, so an object says it, and is written again as a sign of life."""

import contextlib
import dataclasses
import logging
import secrets
import threading
import time

from stgrpo.errors import RunError, UserError
from stgrpo.files import from_json, to_json
from stgrpo.workdir.bucket import Bucket
from stgrpo.workdir.lock import Owner

NAME = "lock"
BEAT_S = 20.0
"""Between two signs of life of an owner."""
WATCH_S = 3 * BEAT_S
"""How long an owner that cannot be asked may give none."""
SETTLE_S = 2.0
"""After which, of several that took it at one time, the last to write knows that it has it, and the others that not."""

_FIX = "wait for its end, or use another --workdir"
log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Held:
    """What the object says.

    Attributes:
        token: of the job that has the folder, or had it last; another for each.
        beat: counts its signs of life.
        owner: None once it has given the folder back.
    """

    token: str
    beat: int
    owner: Owner | None

    @classmethod
    def read(cls, content: bytes | None) -> "Held":
        """One that nobody holds where there is no object.

        Raises:
            ValueError: the object says something else.
        """
        if content is None:
            return cls("", 0, None)
        try:
            values = from_json(content)
            owner = Owner(**values["owner"]) if values["owner"] else None
            return cls(str(values["token"]), int(values["beat"]), owner)
        except (TypeError, KeyError) as error:
            raise ValueError("no owner in it") from error


class Lease:
    """A folder in a bucket, this process's own from `take` to `give_back`."""

    def __init__(self, bucket: Bucket):
        self._bucket, self._beat, self._owner = bucket, 0, Owner.this()
        self.token = secrets.token_hex(8)
        self._lock = threading.Lock()

    def take(self) -> str:
        """Takes the folder, and returns the token of the job that had it last; "" where none had.

        Raises:
            UserError: another job has it; says which, and since when. Or it has a file of the lock's name.
        """
        if self._bucket.write(NAME, self._content(self._owner), anew=True):
            return ""
        before = self._held()
        if before.owner and self._lives(before):
            raise UserError(f"{self._bucket.url} is in use by {before.owner}: {_FIX}")
        self._bucket.write(NAME, self._content(self._owner))
        time.sleep(SETTLE_S)
        if (now := self._held()).token != self.token:
            raise UserError(f"{self._bucket.url} was taken at the same time by {now.owner or 'another job'}: {_FIX}")
        return before.token

    def beat(self) -> None:
        """Gives a sign of life.

        Raises:
            Lost: another job has taken the folder.
        """
        with self._lock:
            now = self._held()
            if now.token != self.token:
                by = now.owner or "another job"
                raise Lost(f"{self._bucket.url} was taken over by {by}, which saw no sign of life of this one")
            self._beat += 1
            self._bucket.write(NAME, self._content(self._owner))

    def give_back(self) -> None:
        """Says that nobody has the folder now."""
        with self._lock, contextlib.suppress(RunError, UserError):  # then the next one watches for a minute
            if self._held().token == self.token:
                self._bucket.write(NAME, self._content(None))

    def _held(self) -> Held:
        try:
            return Held.read(self._bucket.read(NAME))
        except ValueError as error:
            raise UserError(f"{self._bucket.url}/{NAME} is somebody else's file: give another folder") from error

    def _content(self, owner: Owner | None) -> bytes:
        about = dataclasses.asdict(owner) if owner else None
        return to_json({"token": self.token, "beat": self._beat, "owner": about}).encode()

    def _lives(self, held: Held) -> bool:
        """Whether the job that has the folder is still at work."""
        assert held.owner
        if held.owner.seen_from_here:
            return held.owner.runs
        log.warning("%s was left by %s: looking %.0f s for signs of life", self._bucket.url, held.owner, WATCH_S)
        deadline = time.monotonic() + WATCH_S
        while time.monotonic() < deadline:
            time.sleep(BEAT_S / 10)
            if self._held() != held:
                return self._held().owner is not None
        return False


class Lost(RunError):
    """The folder is another job's by now."""
