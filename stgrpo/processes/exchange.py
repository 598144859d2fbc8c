"""What processes tell each other, and arrays that lie on the devices of all of them."""

import collections
import itertools
import pickle
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from stgrpo import processes
from stgrpo.errors import RunError
from stgrpo.processes import store

if TYPE_CHECKING:
    from jax.sharding import Mesh, Sharding

Result = TypeVar("Result")
Item = TypeVar("Item")
Tree = TypeVar("Tree")
Outcome = tuple[Result, None] | tuple[None, Exception]
_numbers: collections.defaultdict[str, Iterator[int]] = collections.defaultdict(itertools.count)
_making = threading.local()
_unread: collections.defaultdict[str, list[str]] = collections.defaultdict(list)


def tell(make: Callable[[], Result], *, channel: str = "main") -> Result:
    """What process 0 makes, in all processes; an error of it is raised in all. The others wait, without a device.

    Args:
        make: is called in process 0, alone: what it tells in turn, it tells nobody.
        channel: all processes tell in the same order on each; a thread beside the main one has one of its own.
    """
    if processes.count() == 1 or getattr(_making, "alone", False):
        return make()
    key = f"told/{channel}/{next(_numbers[channel])}"
    if processes.is_first():
        _forget_read(_unread[channel])
        outcome: Outcome[Result] = _outcome(make)
        store.put(key, _pickled(outcome))
        _unread[channel].append(key)
    else:
        outcome = pickle.loads(store.take(key))
        store.put(f"read-{key}/{processes.index()}", b"")
    if outcome[1] is not None:
        raise outcome[1]
    return outcome[0]


def alone(work: Callable[..., Result], *arguments: object) -> Result:
    """Does something, in a thread of its own, in which this process tells the others nothing."""
    _making.alone = True
    return work(*arguments)


def exchange(mine: Item) -> list[Item]:
    """What each process has, by its number, in all of them: over the devices, which is fast for much."""
    if processes.count() == 1:
        return [mine]
    from jax.experimental import multihost_utils

    data = np.frombuffer(pickle.dumps(mine), np.uint8)
    sizes = multihost_utils.process_allgather(np.int32(len(data)))
    filled = np.zeros(1 << max(10, int(sizes.max() - 1).bit_length()), np.uint8)  # few sizes, so few programs
    filled[: len(data)] = data
    rows = multihost_utils.process_allgather(filled)
    return [pickle.loads(row[:size].tobytes()) for row, size in zip(rows, sizes, strict=True)]


def wait(name: str) -> None:
    """Until all processes are here, without a device."""
    if processes.count() > 1:
        store.client().wait_at_barrier(f"{store.PREFIX}/{name}/{next(_numbers['barrier'])}", 24 * 3600 * 1000)


def meet(mesh: "Mesh") -> None:
    """Connects the devices along all axes of a mesh while all processes are here.

    Later one may still compile what another already runs, and on CPUs the other gives up after 30 seconds.
    """
    if not mesh.is_multi_process:
        return
    import jax
    import jax.numpy as jnp
    from jax.sharding import PartitionSpec

    names = [name for name in mesh.axis_names if mesh.shape[name] > 1]
    groups = [group for n in range(1, len(names) + 1) for group in itertools.combinations(names, n)]
    wait("mesh")
    count = jax.shard_map(
        lambda: [jax.lax.psum(jnp.int32(1), group) for group in groups],
        mesh=mesh,
        in_specs=(),
        out_specs=[PartitionSpec()] * len(groups),
        check_vma=False,
    )
    jax.block_until_ready(jax.jit(count)())


def placed(tree: Tree, sharding: "Sharding") -> Tree:
    """Arrays that every process has whole, as global ones: each places what its devices hold."""
    import jax

    def one(x: object) -> object:
        if isinstance(x, jax.Array) and not x.is_fully_addressable:
            return x
        values = np.asarray(x)
        return jax.make_array_from_callback(values.shape, sharding, lambda index: values[index])

    return jax.tree.map(one, tree)


def on_host(tree: Tree) -> Tree:
    """Arrays, whole, in the memory of this process. All processes call it: those on several hosts are gathered."""
    import jax
    from jax.experimental import multihost_utils

    def one(x: jax.Array) -> np.ndarray:
        if x.is_fully_addressable or x.is_fully_replicated:
            return np.asarray(x)
        return multihost_utils.process_allgather(x, tiled=True)

    return jax.tree.map(one, tree)


def _outcome(make: Callable[[], Result]) -> Outcome[Result]:
    _making.alone = True
    try:
        return make(), None
    except Exception as error:  # noqa: BLE001 - whatever it is, all are to know it
        return None, error
    finally:
        _making.alone = False


def _pickled(outcome: Outcome[object]) -> bytes:
    try:
        return pickle.dumps(outcome)
    except Exception as error:  # noqa: BLE001 - an error that holds what cannot be sent
        return pickle.dumps((None, RunError(f"{outcome[1] or error}")))


def _forget_read(unread: list[str]) -> None:
    """Removes what was told and has been read by all."""
    for key in list(unread):
        readers = store.listed(f"read-{key}")
        if len(readers) == processes.count() - 1:
            for name in (key, *(f"read-{key}/{reader}" for reader in readers)):
                store.forget(name)
            unread.remove(key)
