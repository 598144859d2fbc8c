"""Whose a folder is: a lock of the file system, and in the locked file who holds it, for those who are refused.

The lock is `flock`'s: the system gives it up with the process that holds it, however that ends, so the lock of a dead
job is taken over at once and by one alone. Between machines it is as good as the file system. Some network folders know
no locks, or keep them to each machine by itself; so the owner also touches the file every few seconds, and what was
left by an owner whose end cannot be seen from here is watched before it is taken.
"""

import contextlib
import dataclasses
import datetime
import errno
import fcntl
import logging
import os
import platform
import stat
import sys
import threading
import time
from collections.abc import Generator
from pathlib import Path

from stgrpo.errors import RunError, UserError
from stgrpo.files import from_json, reason_of, to_json

log = logging.getLogger(__name__)
BEAT_S = 5.0
"""Between two signs of life of an owner."""
WATCH_S = 3 * BEAT_S
"""How long an owner that cannot be asked may give none."""
_HELD = (errno.EWOULDBLOCK, errno.EACCES)
_NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL)
_open_files: set[int] = set()


@dataclasses.dataclass(frozen=True)
class Owner:
    """A process, told from all others.

    Attributes:
        host: name of its machine.
        boot: the machine since its last start, where that has a number; else its name.
        space: the processes that its number is one of; containers have their own.
        pid: its number.
        started: when, in ticks of the machine's clock; empty where that is not known.
        since: when it took the folder, for a person.
        command: that it does.
    """

    host: str
    boot: str
    space: str
    pid: int
    started: str
    since: str
    command: str

    @classmethod
    def this(cls) -> "Owner":
        """This process."""
        host, since = platform.node(), datetime.datetime.now().astimezone().isoformat(" ", timespec="seconds")
        command = " ".join(["stgrpo", *sys.argv[1:2]])
        return cls(host, _machine(), _space(), os.getpid(), _start(os.getpid()), since, command)

    @classmethod
    def read(cls, text: str) -> "Owner | None":
        """The owner that a lock file names; None where it names none."""
        try:
            return cls(**from_json(text))
        except (ValueError, TypeError):
            return None

    def __str__(self) -> str:
        return f"`{self.command}` on {self.host}, process {self.pid}, since {self.since}"

    @property
    def seen_from_here(self) -> bool:
        """Whether its number means the same here."""
        return (self.boot, self.space) == (_machine(), _space())

    @property
    def runs(self) -> bool:
        """Whether it is there, of one that is seen from here; another process that got its number is not it."""
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            pass
        return _start(self.pid) == self.started


@contextlib.contextmanager
def locked(file: Path, name: str) -> Generator[None]:
    """This process alone has the folder of a lock file until the end; processes that it starts do not keep it.

    Args:
        file: the lock file, made if it is not there. It stays, empty.
        name: what the folder was given as, for the error.

    Raises:
        UserError: another job has it; says which, and since when. Or the folder cannot be written.
    """
    handle, me = _open(file, name), os.getpid()
    try:
        _take(handle, file, name)
    except BaseException:
        os.close(handle)
        raise
    stop = threading.Event()
    heart = threading.Thread(target=_beat, args=(handle, stop), daemon=True)
    heart.start()
    _open_files.add(handle)
    try:
        yield
    finally:
        if os.getpid() == me:  # a fork that leaves by here does not have it
            stop.set()
            heart.join()
            _open_files.discard(handle)
            _let_go(handle)


def _open(file: Path, name: str) -> int:
    try:
        handle = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise UserError(f"{file} is a link: remove it, or give another folder") from error
        raise UserError(f"{name} cannot be written ({reason_of(error)}): give a folder that can") from error
    if not _is_ours(handle):
        os.close(handle)
        raise UserError(f"{file} is somebody else's file, and no lock: move it away, or give another folder")
    return handle


def _is_ours(handle: int) -> bool:
    """Whether a file that is about to be written over is a lock: it is empty, or begins as one does."""
    return stat.S_ISREG(os.fstat(handle).st_mode) and os.pread(handle, 1, 0) in (b"", b"{", b"\0")


def _take(handle: int, file: Path, name: str) -> None:
    exclusive = _flock(handle)
    owner = Owner.read(os.pread(handle, 65536, 0).decode(errors="replace"))
    if exclusive is False or (owner is not None and _alive(owner, file, exclusive=exclusive)):
        who = owner or "another job that has just begun"
        raise UserError(f"{name} is in use by {who}: wait for its end, or use another --workdir")
    text = to_json(dataclasses.asdict(Owner.this())).encode()
    try:
        os.ftruncate(handle, 0)
        os.pwrite(handle, text, 0)
    except OSError as error:
        raise RunError(f"{file} cannot be written ({reason_of(error)}): make room, and try again") from error


def _flock(handle: int) -> bool | None:
    """Whether the lock was had; None where the file system has none."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _HELD:
            return False
        if error.errno not in _NO_LOCKS:
            raise
        log.warning("the file system has no locks: two jobs that begin in the same second both get the work directory")
        return None
    return True


def _alive(owner: Owner, file: Path, *, exclusive: bool | None) -> bool:
    """Whether the owner that a file names is still at work."""
    if exclusive and owner.boot == _machine():
        return False  # the lock is this machine's own, and its holder has let it go
    if owner.seen_from_here:
        return owner.runs
    print(f"stgrpo: {file.parent} was left by {owner}: looking for signs of life", file=sys.stderr, flush=True)
    first, deadline = _touched(file), time.monotonic() + WATCH_S
    while time.monotonic() < deadline:
        time.sleep(BEAT_S / 10)
        if _touched(file) != first:
            return True
    return False


def _touched(file: Path) -> int:
    """When, by the clock of the disk. Opened anew each time: so a network folder asks its server."""
    with file.open("rb") as opened:
        return os.fstat(opened.fileno()).st_mtime_ns


def _beat(handle: int, stop: threading.Event) -> None:
    while not stop.wait(BEAT_S):
        with contextlib.suppress(OSError):
            os.utime(handle)


def _let_go(handle: int) -> None:
    with contextlib.suppress(OSError):  # the folder may be gone
        os.ftruncate(handle, 0)
    with contextlib.suppress(OSError):  # it has no locks
        fcntl.flock(handle, fcntl.LOCK_UN)  # a fork that has only begun may hold the handle for another moment
    os.close(handle)


def _close_in_fork() -> None:
    for handle in _open_files:
        os.close(handle)
    _open_files.clear()


os.register_at_fork(after_in_child=_close_in_fork)


def _machine() -> str:
    return _read("/proc/sys/kernel/random/boot_id") or platform.node()


def _space() -> str:
    try:
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return ""


def _start(pid: int) -> str:
    """When a process began: of a number that is used again it is another time."""
    return (_read(f"/proc/{pid}/stat").rpartition(")")[2].split() + [""] * 20)[19]


def _read(file: str) -> str:
    try:
        return Path(file).read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
