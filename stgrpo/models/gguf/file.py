"""A GGUF file from elsewhere, be it inside a wheel or a zip: its fields held to a type, its tensors dequantised."""

import contextlib
import dataclasses
import functools
import shutil
import tempfile
import zipfile
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from stgrpo.errors import UserError
from stgrpo.files import check_readable

if TYPE_CHECKING:
    from gguf import GGUFReader, ReaderTensor

T = TypeVar("T")
SUFFIX = ".gguf"
AGAIN = "copy it again, or make it anew with llama.cpp's convert_hf_to_gguf.py"


@dataclasses.dataclass(frozen=True)
class GgufFile:
    """What one file holds; it must stay open while tensors are read.

    Attributes:
        source: what an error begins with.
        reader: of the package `gguf`.
    """

    source: str
    reader: "GGUFReader"

    @functools.cached_property
    def tensors(self) -> Mapping[str, "ReaderTensor"]:
        """By name; their shapes are in the reverse of NumPy's order."""
        return {tensor.name: tensor for tensor in self.reader.tensors}

    def get(self, name: str) -> object:
        """A field: a number, a text, or a list of them; None where there is none.

        A float is the shortest decimal number that rounds to the file's 32 bits: 1e-5 is stored as 9.99999975e-6.
        """
        if (field := self.reader.fields.get(name)) is None:
            return None
        try:
            value = field.contents()
        except (ValueError, IndexError) as error:  # a text that is not UTF-8 among them
            raise UserError(f"{self.source}: {name} cannot be read ({error}): {AGAIN}") from error
        return float(str(np.float32(value))) if isinstance(value, float) else value

    def need(self, name: str, kind: type[T]) -> T:
        """A field of a type.

        Raises:
            UserError: there is none, or it is of another type.
        """
        value = self.get(name)
        if not isinstance(value, kind):
            said = "no" if value is None else f"a {type(value).__name__} as"
            raise UserError(f"{self.source} has {said} {name}: {AGAIN}")
        return value

    def array(self, name: str) -> np.ndarray:
        """A tensor, dequantised to float32, its axes in NumPy's order."""
        from gguf.quants import dequantize

        return dequantize(self.tensors[name].data, self.tensors[name].tensor_type)

    def check_types(self) -> None:
        """Raises a UserError if a tensor is of a type that `gguf` does not dequantise."""
        from gguf.quants import dequantize

        for kind, tensor in {tensor.tensor_type: tensor for tensor in self.reader.tensors}.items():
            try:
                dequantize(tensor.data[:1], kind)
            except NotImplementedError as error:
                fix = "use a file in F16, BF16, Q8_0 or Q4_K_M of the same model"
                raise UserError(
                    f"{self.source}: {tensor.name} is quantised as {kind.name}, which the package gguf does not "
                    f"dequantise: {fix}"
                ) from error


@contextlib.contextmanager
def open_gguf(source: Path) -> Generator[GgufFile]:
    """A GGUF file, or the one that a wheel or another zip holds.

    Raises:
        UserError: it cannot be read, the zip has none or several, it is a part of a model, or `gguf` is not installed.
    """
    check_readable(source, "give a GGUF file, or a wheel or zip that holds one")
    with _unpacked(source) as path:
        file = GgufFile(str(source), _reader(path, source))
        parts = file.get("split.count")
        if isinstance(parts, int) and parts > 1:
            raise UserError(f"{source} is one of {parts} parts: join them with llama.cpp's `llama-gguf-split --merge`")
        yield file


@contextlib.contextmanager
def _unpacked(source: Path) -> Generator[Path]:
    if not zipfile.is_zipfile(source):
        yield source
        return
    try:
        with zipfile.ZipFile(source) as archive, tempfile.TemporaryDirectory(prefix="stgrpo-import-") as folder:
            path = Path(folder) / f"model{SUFFIX}"
            with archive.open(_only_member(archive, source)) as packed, path.open("wb") as unpacked:
                shutil.copyfileobj(packed, unpacked, 2**20)
            yield path
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:  # damaged, of another method, encrypted
        raise UserError(
            f"{source} cannot be unpacked ({error}): copy it again, or unpack it and give the file"
        ) from error


def _only_member(archive: zipfile.ZipFile, source: Path) -> str:
    names = [name for name in archive.namelist() if name.lower().endswith(SUFFIX)]
    if len(names) != 1:
        found = ", ".join(names) or "none"
        raise UserError(f"{source} must hold one GGUF file (it has: {found}): unpack it and give the file")
    return names[0]


def _reader(path: Path, source: Path) -> "GGUFReader":
    try:
        from gguf import GGUFReader
    except ImportError as error:
        raise UserError(f'GGUF files are read by the package gguf ({error}): pip install "stgrpo[gguf]"') from error
    try:
        return GGUFReader(path)
    except Exception as error:  # it meets damage wherever it happens to read
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:160]}"
        raise UserError(f"{source} is no GGUF file that can be read ({reason}): {AGAIN}") from error
