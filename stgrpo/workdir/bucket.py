"""A folder in a bucket (S3, Google Cloud Storage) through fsspec: whole objects, no renaming, no locks."""

import contextlib
import re
from collections.abc import Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from stgrpo.errors import RunError, UserError
from stgrpo.files import reason_of

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

PACKAGES = {"s3": ("s3fs", "s3"), "gs": ("gcsfs", "gcs")}
"""Of each scheme, the package that fsspec asks, and the extra of ours that brings it."""
_URL = re.compile(r"(\w+)://([^/]*)/?(.*)", re.DOTALL)
_THREADS = 8  # files under way at one time
_NO_CREDENTIALS = ("NoCredentialsError", "PartialCredentialsError")  # of packages that need not be there


def is_bucket(path: str) -> bool:
    """Whether this is the address of a folder in a bucket."""
    found = _URL.fullmatch(path)
    return bool(found and found[1] in PACKAGES)


def check_bucket(url: str, name: str) -> None:
    """Refuses an address that names no folder in a bucket.

    Args:
        url: such as "s3://bucket/runs/a".
        name: of the flag that gave it.

    Raises:
        UserError: it has no bucket or no folder in it, or holds what checkpoints could not stand under.
    """
    found = _URL.fullmatch(url.rstrip("/"))
    shown = url if len(url) <= 80 else f"{url[:77]}..."
    if not found or not found[2] or not found[3]:
        raise UserError(f"{name}={shown} names no folder in a bucket: give one such as s3://BUCKET/runs/a")
    if not re.fullmatch(r"[A-Za-z0-9._-]{3,222}", found[2]):
        raise UserError(f"{name}={shown}: {found[2]!r} is no name of a bucket")
    parts = found[3].split("/")
    if odd := sorted(c for c in set(found[3]) if not c.isprintable() or c in "[]*?\\#"):
        raise UserError(f"{name}={ascii(shown)[1:-1]} holds {''.join(odd)!a}: leave it out")
    if any(part in ("", ".", "..") for part in parts) or len(found[3].encode()) > 700:
        raise UserError(f"{name}={shown} is no folder: empty parts, . and .. are none, and 700 bytes are the most")


class Bucket:
    """A folder in a bucket. Names are relative to it, with slashes.

    Args:
        url: see `check_bucket`.

    Raises:
        UserError: the package for such buckets is not installed.
    """

    def __init__(self, url: str):
        self.url = url.rstrip("/")
        found = _URL.fullmatch(self.url)
        assert found  # it was checked
        package, extra = PACKAGES[found[1]]
        try:
            from fsspec.core import url_to_fs

            opened: tuple[AbstractFileSystem, str] = url_to_fs(self.url, use_listings_cache=False)
        except ImportError as error:
            raise UserError(f"{self.url} needs {package}: pip install 'stgrpo[{extra}]'") from error
        self._system, self._root = opened

    def names(self) -> list[str]:
        """All files in it, in order."""
        with self._told("listed"):
            self._system.invalidate_cache()
            return sorted(str(path).removeprefix(f"{self._root}/") for path in self._system.find(self._root))

    def read(self, name: str) -> bytes | None:
        """What a file holds; None where there is none."""
        with self._told("read"):
            try:
                content = self._system.cat_file(self._at(name))
            except FileNotFoundError:
                return None
            return content if isinstance(content, bytes) else str(content).encode()

    def write(self, name: str, content: bytes, *, anew: bool = False) -> bool:
        """Replaces a file at once; with `anew`, only where there is none. Returns whether it was written."""
        with self._told("written"):
            try:
                self._system.pipe_file(self._at(name), content, mode="create" if anew else "overwrite")
            except FileExistsError:
                return False
            return True

    def upload(self, folder: Path, names: Iterable[str]) -> list[str]:
        """Copies files from a folder of this machine; returns those that are there no more, which are left out."""

        def one(name: str) -> str | None:
            if not (folder / name).is_file():
                return name
            try:
                self._system.put_file(str(folder / name), self._at(name))
            except FileNotFoundError:
                if (folder / name).is_file():
                    raise
                return name
            return None

        with self._told("written"), ThreadPoolExecutor(_THREADS) as threads:
            return [name for name in threads.map(one, names) if name is not None]

    def download(self, names: Iterable[str], folder: Path) -> None:
        """Copies files to a folder of this machine."""

        def one(name: str) -> None:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            self._system.get_file(self._at(name), str(folder / name))

        with self._told("read"), ThreadPoolExecutor(_THREADS) as threads:
            list(threads.map(one, names))

    def remove(self, names: Iterable[str]) -> None:
        """Removes files; what is not there is no error."""
        with self._told("written"):
            for name in names:
                with contextlib.suppress(FileNotFoundError):
                    self._system.rm_file(self._at(name))

    def _at(self, name: str) -> str:
        return f"{self._root}/{name}"

    @contextlib.contextmanager
    def _told(self, what: str) -> Generator[None]:
        """Makes one line of whatever a package says: a mistake where something is missing or forbidden."""
        try:
            yield
        except Exception as error:
            line = f"{self.url} cannot be {what} ({reason_of(error)})"
            if isinstance(error, FileNotFoundError | PermissionError) or type(error).__name__ in _NO_CREDENTIALS:
                fix = "see to the bucket, its permissions and the credentials in the environment"
                raise UserError(f"{line}: {fix}") from error
            raise RunError(f"{line}: see to the network, and the same command goes on") from error
