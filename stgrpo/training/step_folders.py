"""The folders of checkpoints, one a step: what is whole and what is proven damaged. Every command goes by this.

A step folder holds `params`, `opt_state`, `record` and `files.json`, which has the size and the SHA-256 of every other
file. It is damaged where that does not fit what is there. An error of the disk or of memory is no proof of damage: it
ends the command and changes nothing. Folders that are older than files.json are read through instead.
"""

import concurrent.futures
import functools
import hashlib
import logging
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar, overload

import jax
import numpy as np
import orbax.checkpoint as ocp
from jax.sharding import Sharding

from stgrpo.errors import DamagedCheckpoint, UserError
from stgrpo.files import check_place, from_json, reason_of, to_json
from stgrpo.processes.exchange import tell
from stgrpo.training.metadata import MISSING, load_metadata, unreadable

log = logging.getLogger(__name__)
Loaded = TypeVar("Loaded")
ITEMS = ("params", "opt_state")
FILES = "files.json"
_PARTS = ("record/metadata", *(f"{item}/{name}" for item in ITEMS for name in ("_METADATA", "manifest.ocdbt")))
# How tensorstore begins to say that bytes are missing or wrong; os_error_code is the system's, 2 for a missing file.
_PROOF = re.compile(r"^(DATA_LOSS|NOT_FOUND|OUT_OF_RANGE|FAILED_PRECONDITION|INVALID_ARGUMENT)\b")
_SYSTEM = re.compile(r"os_error_code='(?!2')")
_THREADS = 8
_proven: dict[Path, tuple] = {}
_told: set[tuple[Path, str]] = set()


def step_folders(folder: Path) -> list[Path]:
    """The step folders of a stage, whole or not, newest first. Of several processes the first looks.

    Raises:
        UserError: there is none.
    """
    return tell(lambda: _step_folders(folder))


def _step_folders(folder: Path) -> list[Path]:
    try:
        steps = [int(path.name) for path in folder.iterdir() if re.fullmatch("0|[1-9][0-9]*", path.name)]
    except MISSING:
        steps = []
    except OSError as error:
        raise unreadable(folder, error) from error
    if not steps:
        raise UserError(f"{folder} holds no checkpoint: run `stgrpo {folder.name}` with this work directory first")
    return [folder / str(step) for step in sorted(steps, reverse=True)]


def whole_steps(folder: Path) -> Iterator[Path]:
    """The step folders of a stage that are whole, newest first; says which were passed over.

    Of several processes the first looks, so that all agree.

    Raises:
        UserError: there is no step folder (DamagedCheckpoint: none is whole). To start anew is for the user to decide.
        RunError: of one it cannot be told now.
    """
    found, why = False, ""
    for step in step_folders(folder):
        if bad := tell(functools.partial(unfit, step)):
            why = why or bad
            pass_over(step, bad)
        else:
            found = True
            yield step
    if not found:
        raise all_damaged(folder, why)


def all_damaged(folder: Path, why: str) -> DamagedCheckpoint:
    """For a stage without a whole checkpoint."""
    fix = "put back a copy, or delete the folder to start anew"
    return DamagedCheckpoint(f"the checkpoints in {folder} cannot be read, all are damaged (the newest: {why}): {fix}")


def pass_over(step: Path, why: str) -> None:
    """Says, once, that a damaged checkpoint is not used."""
    if (step, why) not in _told:
        _told.add((step, why))
        log.warning("checkpoint %s is damaged (%s) and passed over: the checkpoint before it is used", step, why)


def newest(folder: Path, load: Callable[[Path], Loaded]) -> Loaded:
    """What `load` makes of the newest whole step folder of a stage; what it finds damaged is passed over too."""
    why = ""
    for step in whole_steps(folder):
        try:
            return load(step)
        except DamagedCheckpoint as error:
            why = why or str(error).removesuffix(": use another step")
            pass_over(step, why)
    raise all_damaged(folder, why)


def has_steps(folder: Path) -> bool:
    """Whether a stage has a step folder, whole or not."""
    try:
        return bool(step_folders(folder))
    except UserError:
        return False


def unfit(step: Path) -> str:
    """Why a step folder of a stage is passed over: its damage, or that it is another step's; empty where it is not."""
    if bad := damage(step):
        return bad
    found = load_metadata(step).step
    return "" if found == int(step.name) else f"its record is of step {found}"


def damage(step: Path, *, anew: bool = False) -> str:
    """What is wrong with a step folder, every byte looked at; empty where it is whole.

    Args:
        step: the folder.
        anew: also if this process has found it whole before.

    Raises:
        RunError: it cannot be told now.
        UserError: its path is none that checkpoints can be read from, or another version wrote it.
    """
    check_place(step, "checkpoint")
    try:
        if anew or _proven.get(step) != _state(step):
            if bad := _damage(step):
                return bad
            prove(step)
    except OSError as error:
        raise unreadable(step, error) from error
    return ""


def prove(step: Path) -> None:
    """Remembers that a folder is whole as it is now."""
    _proven[step] = _state(step)


def write_sums(step: Path) -> None:
    """Writes files.json of all that a folder holds."""
    sums = _sums(step, _files(step))
    (step / FILES).write_text(to_json(sums, indent=1) + "\n", encoding="utf-8")


def _damage(step: Path) -> str:
    try:
        text = (step / FILES).read_bytes()
    except MISSING:
        return _old_damage(step)
    try:
        wanted = {name: (size, digest) for name, (size, digest) in from_json(text).items()}
    except (ValueError, TypeError, AttributeError):
        return f"{FILES} is torn"
    if missing := sorted(set(_PARTS) - wanted.keys()):
        return f"{missing[0]} is missing in {FILES}"
    for name, (size, _) in wanted.items():
        try:
            there = (step / name).stat().st_size
        except MISSING:
            return f"{name} is missing"
        if there != size:
            return f"{name} has {there} of {size} bytes"
    changed = [name for name, found in _sums(step, list(wanted)).items() if found != list(wanted[name])]
    return f"{changed[0]} is not what was written" if changed else ""


def _old_damage(step: Path) -> str:
    """The same for a folder without sums: its parts are there, and all arrays can be read."""
    for name in _PARTS:
        try:
            (step / name).stat()
        except MISSING:
            return f"{name} is missing"
    try:
        record = load_metadata(step)
    except DamagedCheckpoint as error:
        return str(error).removesuffix(": use another step")
    _sums(step, _files(step))  # an error of the disk shows here, as what it is
    try:
        found = sum_of(leaf for _, leaf in read_leaves(step / "params"))
        for _ in read_leaves(step / "opt_state"):
            pass
    except Exception as error:
        if not _is_proof(error):
            raise unreadable(step, error) from error
        return reason_of(error)
    return "" if found == record.fingerprint else f"parameters have fingerprint {found}, not {record.fingerprint}"


def sum_of(leaves: Iterable[np.ndarray]) -> str:
    """The fingerprint of parameters in the order in which they are on disk: what `fingerprint` says of them."""
    words = (np.ascontiguousarray(leaf, np.float32).view(np.uint32) for leaf in leaves)
    return f"{sum((2 * i + 1) * int(w.sum(dtype=np.uint64)) for i, w in enumerate(words)) % 2**32:08x}"


def _is_proof(error: BaseException) -> bool:
    """Whether an error in reading arrays says that bytes are missing or wrong."""
    said = str(error)
    return isinstance(error, (*MISSING, KeyError)) or bool(_PROOF.match(said) and not _SYSTEM.search(said))


@overload
def read_leaves(item: Path) -> Iterator[tuple[tuple, np.ndarray]]: ...
@overload
def read_leaves(item: Path, shardings: Callable[[tuple], Sharding]) -> Iterator[tuple[tuple, jax.Array]]: ...
def read_leaves(
    item: Path, shardings: Callable[[tuple], Sharding] | None = None
) -> Iterator[tuple[tuple, np.ndarray | jax.Array]]:
    """Reads the arrays of an item one by one, so that no more than one is in memory.

    Args:
        item: `params` or `opt_state` of a step folder.
        shardings: of an array, by its path; without it arrays come as numpy's.

    Yields:
        Path and array.
    """
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as reader:
        tree = reader.metadata(item).item_metadata.tree
        flat, form = jax.tree_util.tree_flatten_with_path(tree, is_leaf=lambda x: hasattr(x, "shape"))
        for number, (path, leaf) in enumerate(flat):
            wanted = [ocp.PLACEHOLDER] * len(flat)
            wanted[number] = leaf
            how = ocp.RestoreArgs(restore_type=np.ndarray)
            if shardings is not None:
                how = ocp.ArrayRestoreArgs(sharding=shardings(path))
            args = ocp.args.PyTreeRestore(item=form.unflatten(wanted), restore_args=form.unflatten([how] * len(flat)))
            restored = jax.tree.leaves(reader.restore(item, args=args))
            (found,) = [x for x in restored if x is not ocp.PLACEHOLDER]
            yield path, found


def _files(step: Path) -> list[str]:
    return [str(path.relative_to(step)) for path in sorted(step.rglob("*")) if path.is_file()]


def _sums(step: Path, names: Sequence[str]) -> dict[str, list]:
    """Size and SHA-256 of files, by name; files are read at the same time."""
    with concurrent.futures.ThreadPoolExecutor(_THREADS) as threads:
        return dict(zip(names, threads.map(lambda name: _sum(step / name), names), strict=True))


def _sum(file: Path) -> list:
    with file.open("rb") as opened:
        digest = hashlib.file_digest(opened, "sha256").hexdigest()
        return [opened.tell(), digest]


def _state(step: Path) -> tuple:
    """What changes when a file of a folder does."""
    found = []
    for path in sorted(step.rglob("*")):
        about = path.lstat()
        found.append((str(path.relative_to(step)), about.st_size, about.st_mtime_ns, about.st_ino))
    return tuple(found)
