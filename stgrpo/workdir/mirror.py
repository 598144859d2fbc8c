"""A work directory in a bucket: a copy on this machine, in which all is done, and threads that bring what is new there.

Object stores append to no file and rename no folder, so no part of a run writes there by itself. A copy goes on as it
is where this machine was the last that had the folder; otherwise it is made anew from the bucket. A pass brings things
in the order in which a run writes them: lines before the checkpoint that follows them, and of a step folder
`files.json`, which makes it whole, last.
"""

import contextlib
import hashlib
import itertools
import logging
import os
import re
import secrets
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from pathlib import Path

from stgrpo.errors import RunError, UserError
from stgrpo.files import check_place, from_json, is_leftover, remove, to_json, write_atomically
from stgrpo.processes.failure import fail
from stgrpo.workdir.bucket import Bucket, is_bucket
from stgrpo.workdir.lease import BEAT_S, NAME, Lease, Lost
from stgrpo.workdir.lock import locked

PUSH_S = 30.0
"""Between two passes: what a machine that is lost may take with it, besides what is under way."""
SUMS = "files.json"
_STEP = re.compile(r"checkpoints/\w+/\d+/")
Stamp = list[int]  # size and time of change of a file, in nanoseconds

log = logging.getLogger(__name__)


@contextlib.contextmanager
def local_folder(path: str, *, results_only: bool = False) -> Generator[Path]:
    """The folder of this machine to work in: the path itself, or a copy that is this job's own of one in a bucket.

    Args:
        path: as --workdir has it.
        results_only: it takes results of an evaluation, and may be somebody else's: nothing else is copied.

    Raises:
        UserError: another job has the folder, it is no work directory, or the bucket cannot be used.
        RunError: the bucket cannot be reached, at the beginning or for the rest at the end.
    """
    if not is_bucket(path):
        yield Path(path)
        return
    bucket = Bucket(path)
    local = scratch() / _name(bucket.url)
    local.parent.mkdir(parents=True, exist_ok=True)
    with locked(local.with_name(f"{local.name}.lock"), f"--workdir={path}"):
        lease = Lease(bucket)
        mirror = Mirror(bucket, local, results_only=results_only)
        mirror.check()
        before = lease.take()
        try:
            mirror.pull(before, lease.token)
            print(f"{path} is worked on in {local}", flush=True)
            with _kept_up(mirror, lease):
                yield local
        finally:
            lease.give_back()


@contextlib.contextmanager
def looked_at(path: str) -> Generator[Path]:
    """A copy of a work directory without its checkpoints, whoever has it; the report made in it goes to the bucket."""
    if not is_bucket(path):
        yield Path(path)
        return
    bucket = Bucket(path)
    names = _wanted(bucket.names())
    if "config.json" not in names:
        raise UserError(f"--workdir={path} has no config.json: give the folder of a run")
    local = scratch() / f"{_name(bucket.url)}.report"
    remove(local)
    bucket.download([name for name in names if not name.startswith("checkpoints/")], local)
    yield local
    bucket.upload(local, ["report.html"])


def fetched(path: str) -> Path:
    """A step folder, copied from a bucket unless that was done; a path of this machine as it is.

    Raises:
        UserError: there is no whole checkpoint at that address.
    """
    if not is_bucket(path):
        return Path(path)
    bucket = Bucket(path)
    local = scratch() / "checkpoints" / _name(bucket.url) / Path(bucket.url).name
    sums = bucket.read(SUMS)
    if sums is None:
        raise UserError(f"--checkpoint={path} is no whole checkpoint: it has no {SUMS}")
    if not (local / SUMS).is_file() or (local / SUMS).read_bytes() != sums:
        unfinished = local.with_name(f"{local.name}.{secrets.token_hex(4)}.part")
        try:
            bucket.download(bucket.names(), unfinished)
            remove(local)
            with contextlib.suppress(OSError):  # another process of this machine was first
                unfinished.rename(local)
        finally:
            remove(unfinished)
    return local


def scratch() -> Path:
    """Where copies are: $STGRPO_SCRATCH, or a folder of the user's cache.

    Raises:
        UserError: there is no such place, or checkpoints could not stand in it.
    """
    given = os.environ.get("STGRPO_SCRATCH", "")
    if given:
        check_place(Path(given).absolute(), "STGRPO_SCRATCH")
        return Path(given).absolute()
    import platformdirs

    try:
        return platformdirs.user_cache_path("stgrpo", appauthor=False).absolute() / "buckets"
    except RuntimeError as error:  # the user has no home
        raise UserError("a copy of a bucket needs a place: set STGRPO_SCRATCH to a folder") from error


class Mirror:
    """A folder in a bucket and its copy on this machine.

    Beside the copy is NAME.json: the token of the job that it is of, and what each file was when it was brought there.
    """

    def __init__(self, bucket: Bucket, local: Path, *, results_only: bool = False):
        self.bucket, self.local, self._results_only = bucket, local, results_only
        self._record = local.with_name(f"{local.name}.json")
        self._there: dict[str, Stamp] = {}
        self._token = ""

    def check(self) -> None:
        """Looks, before anything is written or copied, whether this can be a work directory.

        Raises:
            UserError: it has files and no config.json.
        """
        names = self._names_there()
        if names and "config.json" not in names and not self._results_only and _is_strange(names):
            raise UserError(f"{self.bucket.url} is not empty and has no config.json: give a new or empty folder")

    def pull(self, before: str, token: str) -> None:
        """Makes the copy the newest there is, and this job's.

        Args:
            before: token of the job that had the folder last.
            token: of this one.
        """
        of, self._there = self._read_record()
        if not before or of != before or not self.local.is_dir():
            self._set_aside()
            self._copy()
        self._token = token
        self._write_record()

    def push(self) -> None:
        """Brings to the bucket what is new here, and removes there what is here no more."""
        before = dict(self._there)
        steps, files = self._found()
        self._bring([name for name in files if self._is_new(name, files)], files)
        for step in steps:
            self._bring_step(step, steps[step])
        kept = {*files, *(name for step in steps.values() for name in step)}
        gone = [name for name in self._there if name not in kept]
        self._forget(sorted(gone, key=lambda name: not name.endswith(f"/{SUMS}")))
        if self._there != before:
            self._write_record()

    def _found(self) -> tuple[dict[str, dict[str, Stamp]], dict[str, Stamp]]:
        """The files here: those of whole steps, by their folders, looked for first; and all others."""
        names = sorted(_wanted(_names(self.local)))
        stamps = {name: stamp for name in names if (stamp := _stamp(self.local / name))}
        steps: dict[str, dict[str, Stamp]] = {}
        for name in stamps:
            if step := _STEP.match(name):
                steps.setdefault(step[0], {})[name] = stamps[name]
        return steps, {name: stamp for name, stamp in stamps.items() if not name.startswith("checkpoints/")}

    def _bring_step(self, step: str, files: dict[str, Stamp]) -> None:
        new = [name for name in files if self._is_new(name, files)]
        if not new:
            return
        last = f"{step}{SUMS}"
        self._forget([last] if last in self._there else [])
        if not self._bring([name for name in new if name != last], files):
            self._bring([last], files)

    def _bring(self, names: Iterable[str], stamps: dict[str, Stamp]) -> list[str]:
        """Copies files there; returns those that are gone from here meanwhile."""
        names = list(names)
        gone = self.bucket.upload(self.local, names)
        self._there |= {name: stamps[name] for name in names if name not in gone}
        return gone

    def _forget(self, names: Iterable[str]) -> None:
        for name in names:
            self.bucket.remove([name])
            self._there.pop(name, None)

    def _is_new(self, name: str, stamps: dict[str, Stamp]) -> bool:
        return self._there.get(name) != stamps[name]

    def _copy(self) -> None:
        """All of the bucket that is whole, in the place of the copy at once."""
        unfinished = self.local.with_name(f"{self.local.name}.{secrets.token_hex(4)}.part")
        names = self._names_there()
        try:
            unfinished.mkdir(parents=True)
            self.bucket.download(names, unfinished)
            unfinished.rename(self.local)
        finally:
            remove(unfinished)
        self._there = {name: stamp for name in names if (stamp := _stamp(self.local / name))}

    def _names_there(self) -> list[str]:
        names = _wanted(self.bucket.names())
        return [name for name in names if name.startswith("evaluation/")] if self._results_only else names

    def _set_aside(self) -> None:
        """Another machine went on since. What never came to the bucket from here stays, under another name."""
        for old in self.local.parent.glob(f"{self.local.name}.*.part"):
            remove(old)
        steps, files = self._found()
        if any(self._is_new(name, part) for part in (files, *steps.values()) for name in part):
            names = (self.local.with_name(f"{self.local.name}.old-{n}") for n in itertools.count(1))
            aside = next(path for path in names if not path.exists())
            log.warning(
                "another job went on with %s before it had all of %s, now %s", self.bucket.url, self.local, aside
            )
            self.local.rename(aside)
        remove(self.local)

    def _read_record(self) -> tuple[str, dict[str, Stamp]]:
        try:
            values = from_json(self._record.read_bytes())
            return str(values["token"]), {str(name): list(stamp) for name, stamp in values["files"].items()}
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            return "", {}

    def _write_record(self) -> None:
        write_atomically(self._record, to_json({"token": self._token, "files": self._there}))


@contextlib.contextmanager
def _kept_up(mirror: Mirror, lease: Lease) -> Generator[None]:
    """Signs of life and passes in threads, and a last pass at the end, whatever that is."""
    stop = threading.Event()
    work = ((BEAT_S, lease.beat), (PUSH_S, mirror.push))
    threads = [threading.Thread(target=_every, args=(*each, stop, mirror), daemon=True) for each in work]
    for thread in threads:
        thread.start()
    ended = False
    try:
        yield
        ended = True
    finally:
        stop.set()
        for thread in threads:
            thread.join()
        try:
            lease.beat()
            mirror.push()
        except (RunError, UserError) as error:
            line = f"{error}; all is in {mirror.local} on this machine"
            if ended:
                raise RunError(line) from error
            log.warning("%s", line)


def _every(seconds: float, work: Callable[[], None], stop: threading.Event, mirror: Mirror) -> None:
    """Does something now and then. What fails is said once, and tried again; a folder that is lost ends the run."""
    fails = False
    while not stop.wait(seconds):
        try:
            work()
            fails = False
        except Lost as error:
            fail(f"{error}: what is new is in {mirror.local}")
        except Exception as error:  # noqa: BLE001 - of a server or a disk, which may be well again before the end
            if not fails:
                log.warning("%s; until then what is new is in %s alone", error, mirror.local)
            fails = True


def _names(folder: Path) -> Iterator[str]:
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink():
            yield path.relative_to(folder).as_posix()


def _wanted(names: Iterable[str]) -> list[str]:
    """Files of a work directory that another machine can use: no lock, nothing half-written, whole checkpoints."""
    names = [name for name in names if name != NAME and not _is_unfinished(name)]
    whole = {step[0] for name in names if (step := _STEP.match(name)) and name == step[0] + SUMS}
    return [
        name
        for name in names
        if not name.startswith("checkpoints/") or ((step := _STEP.match(name)) and step[0] in whole)
    ]


def _is_strange(names: Iterable[str]) -> bool:
    """Whether files are not such as a work directory has before it has a config."""
    return any(not name.startswith(("expert/", "faults/", "logs/")) for name in names)


def _is_unfinished(name: str) -> bool:
    return any(is_leftover(Path(part)) or ".orbax-checkpoint-tmp" in part for part in name.split("/"))


def _stamp(file: Path) -> Stamp | None:
    try:
        about = file.stat()
    except FileNotFoundError:
        return None
    return [about.st_size, about.st_mtime_ns]


def _name(url: str) -> str:
    """A name for the copy that tells a person what it is of, and no other copy has."""
    words = re.sub(r"[^A-Za-z0-9._-]+", "-", url.partition("://")[2])[-80:]
    return f"{words}-{hashlib.sha256(url.encode()).hexdigest()[:8]}"
