"""Orbax checkpoints that carry all that is needed to go on or to evaluate: state, position, config, shape, tokenizer.

A step folder holds `params` (nested dict of arrays), `opt_state` (flat dict; a critic and its optimiser lie in it too),
`record` (JSON) and files.json.
What is whole, what is damaged, and that nothing else counts as damage, is `step_folders`' affair.
"""

import collections
import concurrent.futures
import contextlib
import dataclasses
import itertools
import logging
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from stgrpo import processes
from stgrpo.errors import DamagedCheckpoint, RunError, UserError
from stgrpo.files import check_place, is_leftover, reason_of, remove, sync, sync_folder, way_on
from stgrpo.models.finite import are_finite
from stgrpo.models.lora import Adapters
from stgrpo.models.transformer import Transformer
from stgrpo.processes import preemption
from stgrpo.processes.exchange import alone, tell
from stgrpo.training.metadata import CheckpointMetadata, load_metadata, unreadable
from stgrpo.training.step import TrainState
from stgrpo.training.step_folders import (
    ITEMS,
    damage,
    has_steps,
    newest,
    prove,
    read_leaves,
    step_folders,
    unfit,
    whole_steps,
    write_sums,
)

__all__ = [
    "CheckpointMetadata",
    "Checkpoints",
    "fingerprint",
    "from_dict",
    "host_scalars",
    "load_metadata",
    "load_newest",
    "load_params",
    "newest",
    "newest_metadata",
    "place",
    "step_folders",
    "to_dict",
]
log = logging.getLogger(__name__)
Params = TypeVar("Params", bound=Transformer | Adapters)
Tree = TypeVar("Tree")


class Checkpoints:
    """The checkpoints of one stage, one folder a step, in a work directory that is this process's own.

    What a killed process left half-written is removed. As a context it ends with what it began to write.

    Args:
        folder: of the stage.
        keep: how many stay, the newest ones.
        keep_best: how many of those with the best validation success rate stay beside them.

    Raises:
        UserError: checkpoints could not be read from a folder of this name, or a file is in its place.
    """

    def __init__(self, folder: Path, *, keep: int = 2, keep_best: int = 0):
        check_place(folder, "--workdir")
        self.folder, self._keep, self._keep_best = Path(folder).absolute(), keep, keep_best
        for path in (self.folder, *self.folder.parents):
            if path.exists() and not path.is_dir():
                raise UserError(f"{path} is a file where a folder belongs: move it away")
        self._orbax = ocp.AsyncCheckpointer(ocp.CompositeCheckpointHandler())
        self._thread, self._read_back = concurrent.futures.ThreadPoolExecutor(1), False
        self._held = contextlib.ExitStack()
        self._pending: tuple[int, concurrent.futures.Future[None]] | None = None
        tell(self._clean)

    def __enter__(self) -> "Checkpoints":
        self._held.enter_context(preemption.no_sudden_end())
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: object) -> None:
        if error is None:
            self.wait()
        elif processes.count() == 1:  # of several, the others may be gone, and this one is ended from without
            try:
                self.wait()
            except RunError as other:
                log.warning("%s", other)
        self.close()
        self._held.close()

    def steps(self) -> list[int]:
        """Steps that are whole, in order.

        Raises:
            DamagedCheckpoint: there are some and none is whole.
            RunError: the last save has failed.
        """
        self.wait()
        return sorted(int(step.name) for step in whole_steps(self.folder)) if has_steps(self.folder) else []

    def newest(self) -> int:
        """The newest whole step, 0 where there is none.

        Raises:
            DamagedCheckpoint: there are some and none is whole.
            RunError: the last save has failed.
        """
        self.wait()
        return int(next(whole_steps(self.folder)).name) if has_steps(self.folder) else 0

    def save(self, state: TrainState, record: CheckpointMetadata) -> None:
        """Writes one checkpoint, and returns when it is whole and on disk. See `start_save`."""
        self.start_save(state, record)
        self.wait()

    def start_save(self, state: TrainState, record: CheckpointMetadata) -> None:
        """Begins to write one checkpoint; it appears only when it is whole. A damaged one of the same step is replaced.

        Returns when all numbers are in the memory of the hosts: the state may be donated then. A thread writes them,
        and removes those older than the ones to be kept, once these are whole. The first save of this process is waited
        for and read back, bit for bit, before it counts. Of several processes each writes what its devices hold, and
        the first does the rest.

        Raises:
            RunError: a number of it is not finite, or it cannot be written or not be read back, or the save before it
                could not; those that were there stand.
        """
        self.wait()
        if not are_finite((state.params, state.opt_state, state.critic)):
            raise RunError(f"{record.stage} step {record.step} has numbers that are not finite: it is not saved")
        record = dataclasses.replace(record, fingerprint=fingerprint(state.params))
        unfinished = self.folder / f"{record.step}.{record.step:08x}.part"
        with self._told(record.step):
            tell(lambda: remove(unfinished))
            self._write(unfinished, state, record)
        self._pending = (
            record.step,
            self._thread.submit(alone, self._finish, unfinished, self.folder / str(record.step)),
        )
        if not self._read_back:
            self.wait()
            self._read_back = True

    def wait(self) -> None:
        """Returns when what was begun is whole and on disk, in all processes.

        Raises:
            RunError: it could not be written.
        """
        if self._pending is None:
            return
        (step, finished), self._pending = self._pending, None
        with self._told(step):
            if not processes.is_first():
                finished.result()
            tell(finished.result)

    @contextlib.contextmanager
    def _told(self, step: int) -> Generator[None]:
        """Makes one line of whatever goes wrong in writing a step, and removes what there is of it."""
        try:
            yield
        except Exception as error:
            if processes.is_first():
                with contextlib.suppress(OSError):
                    self._clean()
            what = f"checkpoint {self.folder}/{step} cannot be written ({reason_of(error)})"
            raise RunError(f"{what}: those before it stand; {way_on(error)}") from error

    def _clean(self) -> None:
        for path in self.folder.iterdir() if self.folder.is_dir() else ():
            if is_leftover(path) or ".orbax-checkpoint-tmp" in path.name:
                remove(path)

    def _write(self, unfinished: Path, state: TrainState, record: CheckpointMetadata) -> None:
        items = {"params": to_dict(state.params), "opt_state": to_dict((state.opt_state, state.step, state.critic))}
        self._orbax.save(
            unfinished,
            args=ocp.args.Composite(
                **{name: ocp.args.StandardSave(arrays) for name, arrays in items.items()},
                record=ocp.args.JsonSave(dataclasses.asdict(record)),
            ),
        )
        if not self._read_back:
            self._orbax.wait_until_finished()
            for name in ITEMS:
                _check_same(unfinished / name, items[name])

    def _finish(self, unfinished: Path, step: Path) -> None:
        """Waits for what is written, in a thread; the first process puts it where it belongs, whole and on disk."""
        self._orbax.wait_until_finished()
        if not processes.is_first():
            return
        write_sums(unfinished)
        sync(unfinished)
        damaged = step.with_name(f"{step.name}.{0:08x}.part")
        if step.exists() or step.is_symlink():
            step.rename(damaged if unfit(step) else _free_name(step))
        unfinished.rename(step)
        sync_folder(self.folder)
        prove(step)
        remove(damaged)
        self._prune()

    def _prune(self) -> None:
        """Removes what is older than the newest whole steps that are to be kept, but for the best ones."""
        found = step_folders(self.folder)
        newest = list(itertools.islice((step for step in found if not unfit(step)), self._keep))
        older = found[found.index(newest[-1]) + 1 :] if len(newest) == self._keep else []
        best = self._best([*newest, *older])
        for step in older:
            if step not in best:
                remove(step.rename(step.with_name(f"{step.name}.{0:08x}.part")))

    def _best(self, steps: Sequence[Path]) -> list[Path]:
        """Those of the highest validation success rate, the later one where two are even."""
        if not self._keep_best:
            return []
        rates = {step: load_metadata(step).validation_sr for step in steps if not unfit(step)}
        known = {step: rate for step, rate in rates.items() if rate is not None}
        return sorted(known, key=lambda step: (known[step], int(step.name)), reverse=True)[: self._keep_best]

    def restore(self, abstract: TrainState) -> tuple[TrainState, CheckpointMetadata] | None:
        """The newest whole checkpoint, on the shardings of `abstract`; None where none was written.

        A frozen base is not in it: the state has none.

        Raises:
            DamagedCheckpoint: there are some and all are damaged. To start anew is for the user to decide.
            RunError: the newest cannot be read now, and nothing proves that it is damaged.
        """
        if not has_steps(self.folder):
            return None
        return newest(self.folder, lambda step: self._restore(step, abstract))

    def _restore(self, step: Path, abstract: TrainState) -> tuple[TrainState, CheckpointMetadata]:
        record, wanted = load_metadata(step), (abstract.opt_state, abstract.step, abstract.critic)
        with _proof_needed(step):
            restored = self._orbax.restore(
                step,
                args=ocp.args.Composite(
                    params=ocp.args.StandardRestore(to_dict(abstract.params)),
                    opt_state=ocp.args.StandardRestore(to_dict(wanted)),
                ),
            )
            opt_state, count, critic = from_dict(wanted, restored["opt_state"])
            params = _checked(from_dict(abstract.params, restored["params"]), record.fingerprint)
        _check_finite(step, (params, opt_state, critic))
        return TrainState(params, opt_state, count, critic=critic), record

    def close(self) -> None:
        """Ends the threads; what was begun is written first."""
        self._thread.shutdown()
        self._orbax.close()


def _free_name(step: Path) -> Path:
    """Where a whole checkpoint goes that another one takes the place of: it is not ours to delete."""
    name = next(name for n in itertools.count(1) if not (name := step.with_name(f"{step.name}.replaced-{n}")).exists())
    log.warning("checkpoint %s was there already, and whole: it is now %s", step, name)
    return name


@contextlib.contextmanager
def _proof_needed(step: Path) -> Generator[None]:
    """Any error in reading a step folder is damage only where its files prove it, now, and else ends the command.

    Of several processes one may fail to read what the first has found whole: that is its host's fault, and ends all.
    """
    try:
        yield
    except Exception as error:
        if processes.count() > 1 or not (why := damage(step, anew=True)):
            raise unreadable(step, error) from error
        raise DamagedCheckpoint(f"{step} is damaged ({why}): use another step") from error


def load_params(folder: Path, abstract: Params) -> Params:
    """The parameters of one step folder, the whole model or its adapters, with the shardings and dtypes of `abstract`.

    Raises:
        DamagedCheckpoint: they are damaged, or not finite.
        RunError: they cannot be read now, or are of another shape.
    """
    check_place(folder, "checkpoint")
    return place(_read_params(folder, abstract), abstract)


def _read_params(folder: Path, abstract: Params) -> Params:
    """In float32, as they were trained."""
    record = load_metadata(folder)
    whole = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, jnp.float32, sharding=x.sharding), abstract)
    with _proof_needed(folder), ocp.StandardCheckpointer() as checkpointer:
        restored = checkpointer.restore(folder.absolute() / "params", to_dict(whole))
        params = _checked(from_dict(abstract, restored), record.fingerprint)
    _check_finite(folder, params)
    return params


def _check_finite(step: Path, tree: object) -> None:
    """Raises a DamagedCheckpoint for a folder that is whole but was written by a run that had diverged."""
    if not are_finite(tree):
        raise DamagedCheckpoint(f"{step} is damaged (it has numbers that are not finite): use another step")


def place(params: Params, abstract: Params) -> Params:
    """Parameters in the form, dtypes and shardings of `abstract`, one at a time.

    Each is let go when its successor is there, so that what nobody else holds takes no room twice; what somebody else
    holds stays as it is. None is deleted: a successor may share memory with it.
    """

    def one(leaf: jax.Array, wanted: jax.ShapeDtypeStruct) -> jax.Array:
        if leaf.dtype == wanted.dtype and leaf.sharding.is_equivalent_to(wanted.sharding, leaf.ndim):
            return leaf
        return jax.block_until_ready(jax.device_put(leaf.astype(wanted.dtype), wanted.sharding))

    wanted, form = jax.tree.flatten(abstract)
    leaves = collections.deque(jax.tree.leaves(params))
    del params
    return form.unflatten([one(leaves.popleft(), w) for w in wanted])


def newest_metadata(folder: Path) -> CheckpointMetadata:
    """The record of a stage's newest whole checkpoint."""
    return newest(folder, load_metadata)


def load_newest(folder: Path, abstract: Transformer) -> Transformer:
    """The parameters of a stage's newest whole checkpoint."""
    return newest(folder, lambda step: load_params(step, abstract))


@jax.jit
def _checksum(leaves: list[jax.Array]) -> jax.Array:
    total = jnp.uint32(0)
    for i, leaf in enumerate(leaves):
        words = jax.lax.bitcast_convert_type(leaf.astype(jnp.float32), jnp.uint32)
        total += jnp.uint32(2 * i + 1) * jnp.sum(words, dtype=jnp.uint32)  # or JAX_ENABLE_X64 counts on
    return total


def fingerprint(params: Transformer | Adapters) -> str:
    """Eight hex digits that any changed bit of a parameter changes; the same on every mesh."""
    return f"{int(_checksum(jax.tree.leaves(params))):08x}"


def to_dict(tree: object) -> dict:
    """A pytree of modules and optimiser states as nested dicts of arrays by name, the form on disk."""
    nested: dict = {}
    for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
        *parents, last = _names(path)
        at = nested
        for name in parents:
            at = at.setdefault(name, {})
        at[last] = leaf
    return nested


def from_dict(like: Tree, nested: dict) -> Tree:
    """The pytree of the form of `like` with the leaves of `to_dict`."""
    paths, treedef = jax.tree_util.tree_flatten_with_path(like)
    leaves = []
    for path, _ in paths:
        at = nested
        for name in _names(path):
            at = at[name]
        leaves.append(at)
    return jax.tree_util.tree_unflatten(treedef, leaves)


def _names(path: tuple) -> list[str]:
    names = []
    for key in path:
        for attribute in ("name", "key", "idx"):
            if hasattr(key, attribute):
                names.append(str(getattr(key, attribute)))
                break
    return names[:-1] if names[-1] == "value" else names


def _checked(params: Params, expected: str) -> Params:
    found = fingerprint(params)
    if found != expected:
        raise ValueError(f"parameters have fingerprint {found}, the record says {expected}")
    return params


def _check_same(item: Path, arrays: dict) -> None:
    """Raises a RunError unless an item that was written is what is in memory, bit for bit."""
    wanted = {tuple(_names(path)): leaf for path, leaf in jax.tree_util.tree_flatten_with_path(arrays)[0]}
    for path, found in read_leaves(item, lambda path: wanted[tuple(_names(path))].sharding):
        leaf = wanted.pop(tuple(_names(path)))
        pairs = zip(leaf.addressable_shards, found.addressable_shards, strict=True)
        if not all(np.asarray(a.data).tobytes() == np.asarray(b.data).tobytes() for a, b in pairs):
            raise RunError(f"{'.'.join(_names(path))} does not come back as it was written")
    if wanted:
        raise RunError(f"{'.'.join(min(wanted))} does not come back")


def host_scalars(metrics: Mapping[str, jax.Array]) -> dict[str, float]:
    """Metrics as Python numbers, in one transfer."""
    return {name: float(np.asarray(value)) for name, value in jax.device_get(dict(metrics)).items()}
