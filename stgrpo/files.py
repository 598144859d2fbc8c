"""Files that a killed process leaves whole, one that is replaced at once and one that grows by a line a step.

And files from elsewhere: what they hold is looked at before it is used.
"""

import codecs
import contextlib
import errno
import hashlib
import json
import math
import os
import re
import secrets
import shutil
import unicodedata
from collections.abc import Generator, Iterator, Mapping
from pathlib import Path
from typing import Any

from stgrpo.errors import RunError, UserError

_LEFTOVER = re.compile(r".+\.[0-9a-f]{8}\.part")
# What versions before 0.2 called them.
_OLD_LEFTOVER = re.compile(
    r"((config|environment)\.json|(metrics|samples)\.jsonl|report\.html|tokenizer|.+\.\d+)\.part"
)
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_PART = 255  # bytes that file systems take for one name
_PATH = 3800  # for a path, with room for the names of the files of a checkpoint in it
_POINTER = b"version https://git-lfs"
_HALF = re.compile("[\ud800-\udfff]")
_HALF_IN_JSON = re.compile(r"\\u[dD][89a-fA-F]|[\ud800-\udfff]")
_KINDS = {list: "a list", str: "a text", bool: "true or false", type(None): "null"}
_MARKS = (codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


class LineLog:
    """A JSON-lines file that a resumed run continues as if it had never stopped.

    On opening, lines of this stage after `step` are dropped, and with them whatever a killed process left half-written.
    """

    def __init__(self, path: Path, stage: str, step: int):
        self._stage = stage
        kept = [line for line in read_lines(path) if line.get("stage") != stage or line.get("step", 0) <= step]
        write_atomically(path, "".join(to_json(line) + "\n" for line in kept))
        self._file = path.open("a", encoding="utf-8")

    def write(self, step: int, values: Mapping[str, object]) -> None:
        """Appends one object with the stage and the step in front.

        Raises:
            RunError: a value is not finite, which JSON has no number for, or the disk does not take the line.
        """
        try:
            line = to_json({"stage": self._stage, "step": step, **values})
        except RunError as error:
            raise RunError(f"{self._stage} step {step}: {error} to log: the run stops here") from error
        with self._told():
            self._file.write(line + "\n")
            self._file.flush()

    def sync(self) -> None:
        """Returns when the lines outlive the machine, not only the process."""
        with self._told():
            os.fsync(self._file.fileno())

    def close(self) -> None:
        """Closes the file; nothing is buffered."""
        with contextlib.suppress(OSError):  # every line was flushed, or its error was raised
            self._file.close()

    @contextlib.contextmanager
    def _told(self) -> Generator[None]:
        try:
            yield
        except OSError as error:
            way_on = "make room, and the same command goes on from the last checkpoint"
            raise RunError(f"{self._file.name} takes no more ({error.strerror}): {way_on}") from error


def to_json(value: object, *, indent: int | None = None, ensure_ascii: bool = True, sort_keys: bool = False) -> str:
    """JSON as its standard has it; the layout is that of `json.dumps`.

    Raises:
        RunError: a number is not finite, for which JSON has no word; it is named.
    """
    try:
        return json.dumps(value, allow_nan=False, indent=indent, ensure_ascii=ensure_ascii, sort_keys=sort_keys)
    except ValueError as error:
        wrong = ", ".join(f"{at}={number}" for at, number in _not_finite(value))
        raise RunError(f"{wrong or error}, no finite number") from error


def json_digest(value: object, digits: int = 12) -> str:
    """So many hexadecimal digits of the SHA-256 of a value as JSON; the order of an object's keys does not count."""
    return hashlib.sha256(to_json(value, sort_keys=True).encode()).hexdigest()[:digits]


def from_json(text: str | bytes) -> Any:
    """What a JSON text says, whose form its reader knows or looks at.

    Halves of surrogate pairs, which no file takes, become U+FFFD; other text stays as it is.

    Raises:
        ValueError: it is none, is nested too deeply, or has NaN, an infinity or a number too large to be told from one.
    """
    text = text if isinstance(text, str) else text.decode("utf-8", errors="surrogatepass")
    try:
        value = json.loads(text, parse_constant=_refuse, parse_float=_finite)
        return _encodable(value) if _HALF_IN_JSON.search(text) else value
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def _encodable(value: object) -> object:
    if isinstance(value, str):
        return _HALF.sub("\ufffd", value)
    if isinstance(value, list):
        return [_encodable(item) for item in value]
    if isinstance(value, dict):
        return {_HALF.sub("\ufffd", key): _encodable(item) for key, item in value.items()}
    return value


def _not_finite(value: object, at: str = "") -> Iterator[tuple[str, float]]:
    if isinstance(value, float) and not math.isfinite(value):
        yield at or "value", value
    parts = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list | tuple) else ()
    for key, part in parts:
        yield from _not_finite(part, f"{at}.{key}" if at else str(key))


def _refuse(word: str) -> float:
    raise ValueError(f"{word} is no number in JSON")


def _finite(text: str) -> float:
    number = float(text)
    return number if math.isfinite(number) else _refuse(text)


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The whole lines of a JSON-lines file; a last line that was cut off by a kill is left out.

    Raises:
        UserError: a line is no JSON object; it is named.
    """
    if not path.is_file():
        return
    for number, line in enumerate(path.read_bytes().split(b"\n")[:-1], start=1):
        try:
            found = from_json(line)
        except ValueError as error:  # no JSON, or not even text
            raise UserError(f"{path}:{number} is not JSON ({error}): delete that line") from error
        if not isinstance(found, dict):
            raise UserError(f"{path}:{number} is no JSON object: delete that line")
        if not (isinstance(found.get("stage"), str) and type(found.get("step", 0)) is int):
            raise UserError(f"{path}:{number} has no stage, or no whole number as its step: delete that line")
        yield found


def write_atomically(path: Path, text: str) -> None:
    """The file has its old content or the new one, whenever the process is killed or the machine fails.

    Raises:
        RunError: the disk is full, or does not let itself be written.
    """
    with replacing(path) as unfinished:
        unfinished.write_text(text, encoding="utf-8")


@contextlib.contextmanager
def replacing(path: Path) -> Generator[Path]:
    """A place for a file or a folder that becomes `path` at the end, whole and on disk, or not at all.

    Raises:
        RunError: the disk is full, or does not let itself be written; what stood before stands.
    """
    unfinished = path.with_name(f"{path.name}.{secrets.token_hex(4)}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield unfinished
        sync(unfinished)
        unfinished.replace(path)
        sync_folder(path.parent)
    except Exception as error:  # libraries in Rust and C++ have classes of their own for what the disk says
        if not isinstance(error, OSError) and not _system_code(error):
            raise
        stands = f"what was there stands; {way_on(error)}"
        raise RunError(f"{path} cannot be written ({reason_of(error)}): {stands}") from error
    finally:
        with contextlib.suppress(OSError):
            remove(unfinished)


def reason_of(error: BaseException) -> str:
    """The first line of what an exception says, without the path that it may name."""
    said = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    if code := _system_code(error):
        return os.strerror(code)
    return (said.strip().splitlines() or [type(error).__name__])[0][:160]


def way_on(error: BaseException) -> str:
    """What a person does after an error of the disk."""
    code = error.errno if isinstance(error, OSError) else _system_code(error)
    return f"{'make room' if code in _FULL else 'mend that'}, and the same command goes on"


def _system_code(error: BaseException) -> int | None:
    """The number of the system's error that safetensors, tokenizers or tensorstore put into their words."""
    found = re.search(r"\bos[_ ]error(?:_code=')? ?(\d+)\b", str(error))
    return int(found[1]) if found else None


def sync(path: Path) -> None:
    """Returns when a file, or a folder with all that is in it, is on disk."""
    if path.is_dir():
        for inner in path.iterdir():
            sync(inner)
        sync_folder(path)
        return
    with path.open("rb") as file:
        os.fsync(file.fileno())


def sync_folder(path: Path) -> None:
    """Returns when the names in a folder are on disk, where the file system can say so."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(handle)


def remove(path: Path) -> None:
    """Removes a file, a link, or a folder with all that is in it; nothing where there is none."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def is_leftover(path: Path) -> bool:
    """Whether this is what a killed process left of `replacing`."""
    return bool(_LEFTOVER.fullmatch(path.name) or _OLD_LEFTOVER.fullmatch(path.name))


def check_place(path: str | os.PathLike[str], name: str) -> None:
    """Refuses the path of a folder that checkpoints could not be read from.

    Args:
        path: of the folder.
        name: of the flag or field that gave it.

    Raises:
        UserError: it holds what Orbax takes for a pattern or a server, what is no text, or is too long.
    """
    text = os.fspath(path)
    shown = text if len(text) <= 80 else f"{text[:77]}..."
    if not all(map(_is_text, text)):
        raise UserError(f"{name}={shown!r} holds what is no text: use letters, digits and . _ = - in its name")
    if odd := sorted(set(text) & set("[]*?\\")):
        raise UserError(f"{name}={shown} holds {' '.join(odd)}, which checkpoints cannot stand under: leave it out")
    if re.search(r"(^|/)\w+:(/|$)", text):
        raise UserError(f"{name}={shown} is no folder of this machine: mount it, or end no name with a colon")
    longest = max((len(part.encode()) for part in text.split("/")), default=0)
    if longest > _PART or len(text.encode()) > _PATH:
        raise UserError(f"{name}={shown} is too long: {_PART} bytes a name, {_PATH} in all")


def _is_text(character: str) -> bool:
    return unicodedata.category(character) not in ("Cc", "Cs", "Zl", "Zp")


def check_readable(file: Path, fix: str) -> None:
    """Looks at a file from elsewhere before a library reads it.

    Args:
        file: to be read.
        fix: what to do where it is not there.

    Raises:
        UserError: it is not there, is no file, may not be read, or is what git leaves in the place of a large one.
    """
    try:
        if file.is_symlink() and not file.exists():
            raise UserError(f"{file} is a link to {file.readlink()}, which does not exist: {fix}")
        if not file.exists():
            raise UserError(f"{file} does not exist: {fix}")
        if not file.is_file():
            raise UserError(f"{file} is {'a folder' if file.is_dir() else 'no file'}: {fix}")
        with file.open("rb") as opened:
            start = opened.read(len(_POINTER))
    except (OSError, ValueError) as error:  # ValueError: a name that no file can have
        reason = getattr(error, "strerror", None) or error
        raise UserError(
            f"{file} cannot be read ({reason}): see to its permissions and its disk, or copy it again"
        ) from error
    if start == _POINTER:
        raise UserError(f"{file} is a git-lfs pointer, not the file itself: run `git lfs pull` in {file.parent}")


def refuse_gguf(path: Path) -> None:
    """Raises a UserError that names the command to import it where a model is given as GGUF, not as a folder."""
    inside = sorted(path.glob("*.gguf")) if path.is_dir() and not (path / "config.json").exists() else []
    for file in [path] if path.suffix in (".gguf", ".whl") and not path.is_dir() else inside:
        how = f"`stgrpo import-model {file} --workdir=FOLDER`"
        raise UserError(f"{file} is no Hugging Face folder: make one of it with {how} and give that")


def read_object(file: Path, fix: str) -> dict[str, Any]:
    """A JSON object in a file from elsewhere.

    Args:
        file: to be read.
        fix: what to do where it is not there.

    Raises:
        UserError: see `check_readable`; or it is not JSON in UTF-8, or no object.
    """
    check_readable(file, fix)
    content = file.read_bytes()
    if content.startswith(_MARKS):
        raise UserError(f"{file} begins with a byte order mark: save it as UTF-8 without one")
    try:
        values = from_json(content.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{file} is not JSON ({error}): copy it again") from error
    if not isinstance(values, dict):
        raise UserError(f"{file} holds {_KINDS.get(type(values), 'a number')}, not a JSON object: copy it again")
    return values
