"""A file on what went wrong, to be attached to a report of it: stacks, config, versions, devices, the last figures.

A failure that is nobody's mistake leaves one a process. What the interpreter dies of, such as a segmentation fault, is
written by `faulthandler` behind what was known at the start; the next command of the work directory finds it. A file
that cannot be written is no failure of its own: the run ends as it would have.
"""

import contextlib
import dataclasses
import datetime
import faulthandler
import logging
import os
import platform
import re
import sys
import threading
import traceback
from collections.abc import Callable, Generator, Mapping
from pathlib import Path
from typing import TextIO

from stgrpo import processes
from stgrpo.errors import UserError
from stgrpo.files import to_json

log = logging.getLogger(__name__)
_LINES = 20  # last ones of each log
_TAIL = 64 << 10  # bytes in which these are looked for
_LONGEST = 100_000  # characters of an error
_WITHIN = 10.0  # seconds that writing may take: a network folder may be what hangs
_FATAL = re.compile("Fatal Python error: (.*)")
_VARIABLES = ("CUDA_VISIBLE_DEVICES", "GLIBC_TUNABLES", "JAX_", "JOB_COMPLETION_INDEX", "LIBTPU_", "NCCL_", "SLURM_")
_VARIABLES += ("TPU_", "XLA_")


@dataclasses.dataclass
class _Run:
    """What a report says of the run, and where it goes.

    Attributes:
        folder: the work directory's.
        facts: by the title of their part.
        hide: takes keys out of a text.
        stage: at work.
        path: of the report, once there is one.
        watched: what `faulthandler` would write into, while the run is at work.
    """

    folder: Path
    facts: Mapping[str, object]
    hide: Callable[[str], str]
    stage: str = "start"
    path: Path | None = None
    watched: TextIO | None = None


@dataclasses.dataclass
class _Here:
    run: _Run | None = None


_here = _Here()
_writing = threading.Lock()


@contextlib.contextmanager
def reported(folder: Path, facts: Mapping[str, object], hide: Callable[[str], str]) -> Generator[None]:
    """What fails within leaves a report, unless it is a mistake of the user or an end that was asked for.

    Args:
        folder: where reports go; made when there is one.
        facts: what they say of the run, by title.
        hide: takes keys out of a text.
    """
    _here.run = run = _Run(folder, facts, hide)
    run.watched = _watch_interpreter(run)
    try:
        yield
    except (UserError, BrokenPipeError):
        raise
    except Exception as error:
        write(f"{type(error).__name__}: {error}", error)
        raise
    finally:
        settle()
    forget()


def at(stage: str) -> None:
    """Says which stage is at work."""
    if _here.run is not None:
        _here.run.stage = stage


def forget() -> None:
    """The run is over: from here on nothing is reported, and no report is named."""
    _here.run = None


def settle() -> None:
    """Removes what only a crash would have needed; also before a process ends itself."""
    run = _here.run
    if run is not None:
        file, run.watched = run.watched, None
        _end_watch(file)


def path() -> Path | None:
    """The report of this process, if there is one."""
    return None if _here.run is None else _here.run.path


def named(text: str) -> str:
    """What is said of a failure at the end, with the report in it if there is one, and then without keys."""
    run = _here.run
    return text if run is None or run.path is None else f"{run.hide(text)} (report: {run.path})"


def hidden(text: str) -> str:
    """What a failure shows, without keys."""
    return text if _here.run is None else _here.run.hide(text)


def write(reason: str, error: BaseException | None = None) -> None:
    """Writes the report of this process; what is known by then. A further reason is added to the one that is there.

    Args:
        reason: why the run ends.
        error: with its traceback, where there is one.
    """
    run = _here.run
    if run is None:
        return
    with contextlib.suppress(Exception):  # of whatever kind: there is a failure already
        stacks = _stacks()
        writer = threading.Thread(target=_try_to_write, args=(run, reason, error, stacks), daemon=True)
        writer.start()
        writer.join(_WITHIN)


def keep_crashes(folder: Path) -> None:
    """Gives what an interpreter died of in a run before its lasting name, and says so; the rest of such runs goes."""
    for file in sorted(folder.glob("running-*.txt")):
        with contextlib.suppress(OSError):
            found = _FATAL.search(file.read_text(encoding="utf-8", errors="replace"))
            if found is None:
                file.unlink()
                continue
            date = datetime.datetime.fromtimestamp(file.stat().st_mtime, datetime.UTC)
            kept = _free(folder, date, f"crash-{file.stem.removeprefix('running-')}")
            file.rename(kept)
            log.warning("a run before ended in a crash of the interpreter (%s): report in %s", found[1], kept)
    with contextlib.suppress(OSError):
        folder.rmdir()


def _try_to_write(run: _Run, reason: str, error: BaseException | None, stacks: str) -> None:
    place = None
    try:
        with _writing:
            if run.path is not None:
                with run.path.open("a", encoding="utf-8", errors="replace") as file:
                    file.write(run.hide(f"\n== and then ==\n{reason}\n\n{_traceback(error)}{stacks}"))
                return
            text = run.hide(_text(run, reason, _traceback(error) + stacks))
            run.folder.mkdir(exist_ok=True)
            place = _free(run.folder, datetime.datetime.now(datetime.UTC), f"{run.stage}-{_process()}")
            place.write_text(text, encoding="utf-8", errors="replace")
            run.path = place
    except Exception:  # noqa: BLE001 - a full disk, a folder that is gone: there is a failure already
        if place is not None and run.path is None:
            _remove(place)


def _text(run: _Run, reason: str, stacks: str) -> str:
    now = datetime.datetime.now(datetime.UTC).isoformat(" ", timespec="seconds")
    head = {
        "date": now,
        "stage": run.stage,
        "process": f"{processes.index()} of {processes.count()}, number {os.getpid()} on {platform.node()}",
        "reason": reason[:_LONGEST],
    }
    variables = {name: value for name, value in sorted(os.environ.items()) if name.startswith(_VARIABLES)}
    parts = {name: to_json(fact, indent=2) for name, fact in {**run.facts, "variables": variables}.items()}
    tails = {f"last lines of {name}": _tail(run.folder.parent / name) for name in ("metrics.jsonl", "programs.log")}
    written = "".join(f"\n== {title} ==\n{text}\n" for title, text in {**parts, **tails}.items() if text)
    return "".join(f"{name}: {text}\n" for name, text in head.items()) + "\n" + stacks + written


def _traceback(error: BaseException | None) -> str:
    if error is None:
        return ""
    text = "".join(traceback.format_exception(error))
    if len(text) > 2 * _LONGEST:
        text = f"{text[:_LONGEST]}\n...\n{text[-_LONGEST:]}"
    return f"== error ==\n{text}\n"


def _stacks() -> str:
    """What each thread does, without values of variables."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    stacks = [
        f"thread {names.get(number, 'of another kind')}\n{''.join(traceback.format_stack(frame))}"
        for number, frame in sys._current_frames().items()
    ]
    return "== threads ==\n" + "\n".join(stacks)


def _tail(file: Path) -> str:
    """The last lines of a file; nothing where there is none."""
    try:
        with file.open("rb") as opened:
            opened.seek(max(0, file.stat().st_size - _TAIL))
            return "\n".join(opened.read().decode(errors="replace").splitlines()[-_LINES:])
    except OSError:
        return ""


def _free(folder: Path, date: datetime.datetime, what: str) -> Path:
    """A name that no report has, not even one of the same second."""
    stem = f"{date:%Y-%m-%dT%H-%M-%S}-{what}"
    names = (folder / f"{stem}{f'-{number}' if number else ''}.txt" for number in range(10_000))
    return next(name for name in names if not name.exists())


def _process() -> str:
    return f"process-{processes.index()}"


def _watch_interpreter(run: _Run) -> TextIO | None:
    """Has `faulthandler` write into a file of this process, unless whoever started it wants it elsewhere."""
    if faulthandler.is_enabled():
        return None
    file = None
    try:
        run.folder.mkdir(exist_ok=True)
        file = (run.folder / f"running-{_process()}.txt").open("w", encoding="utf-8", errors="replace")
        file.write(run.hide(_text(run, "the interpreter died, of what stands at the end", "")))
        file.flush()
        faulthandler.enable(file)
    except Exception:  # noqa: BLE001 - such as a full disk: the run goes on without
        _end_watch(file)
        return None
    return file


def _end_watch(file: TextIO | None) -> None:
    if file is None:
        return
    faulthandler.disable()
    with contextlib.suppress(OSError):
        file.close()
    _remove(Path(file.name))


def _remove(file: Path) -> None:
    with contextlib.suppress(OSError):
        file.unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # it has others
        file.parent.rmdir()
