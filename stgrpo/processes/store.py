"""Words between the processes of a run, through the store that JAX's coordinator keeps: no device takes part.

The store has no public interface in JAX (`multihost_utils` has collectives on devices alone); this is the one place
that touches it.
"""

import time
from typing import Any

PREFIX = "stgrpo"
_POLL_MS = 60_000


def client() -> Any:
    """The connection of this process to the coordinator."""
    from jax._src.distributed import global_state

    return global_state.client


def put(key: str, value: bytes) -> None:
    """Stores a value for all to read; one that is there is replaced."""
    client().key_value_set_bytes(f"{PREFIX}/{key}", value, allow_overwrite=True)


def has(name: str) -> bool:
    """Whether there is a value under a name of JAX's own."""
    try:
        client().key_value_try_get(name)
    except Exception:  # noqa: BLE001 - jaxlib's errors have no public type: it is not there, or the coordinator is not
        return False
    return True


def listed(folder: str) -> dict[str, bytes]:
    """What stands under a folder now, by name.

    Raises:
        Exception: the coordinator cannot be reached.
    """
    found = client().key_value_dir_get_bytes(f"{PREFIX}/{folder}/")
    return {name.rsplit("/", 1)[-1]: value for name, value in found}


def take(key: str) -> bytes:
    """Waits until a value is there, for as long as that takes: what ends the wait otherwise is `failure`."""
    while True:
        try:
            return client().blocking_key_value_get_bytes(f"{PREFIX}/{key}", _POLL_MS)
        except Exception as error:  # jaxlib's errors have no public type
            if "DEADLINE_EXCEEDED" not in str(error):
                time.sleep(1)  # the coordinator is lost: `failure` says so and ends the process
                raise


def forget(key: str) -> None:
    """Removes a value that all have read."""
    client().key_value_delete(f"{PREFIX}/{key}")
