"""How the processes of a run find each other: never guessed, but by `--distributed` on the command line.

`HOST:PORT,COUNT,ID` names process 0's address, how many there are, and which this is. `auto` takes the environment's
word: `JAX_COORDINATOR_ADDRESS` with `JAX_NUM_PROCESSES` and `JAX_PROCESS_ID` (or `JOB_COMPLETION_INDEX`, as Kubernetes
sets it), else what JAX itself detects: Slurm, a TPU pod, Open MPI.
"""

import dataclasses
import os
import re
import sys
import threading
from collections.abc import Mapping
from typing import TypedDict

from stgrpo import processes
from stgrpo.errors import RunError, UserError
from stgrpo.processes import failure

HEARTBEAT = 50  # seconds without a sign for JAX, which may count half of them: longer than `failure.LOST` even then
FORM = "give HOST:PORT,COUNT,ID with ID from 0 to COUNT - 1, such as 10.0.0.1:1234,4,0, or auto"


@dataclasses.dataclass(frozen=True)
class Address:
    """Where process 0 listens, how many processes there are, and which this is."""

    coordinator: str
    count: int
    index: int


class Known(TypedDict, total=False):
    """What `jax.distributed.initialize` need not detect."""

    coordinator_address: str
    num_processes: int
    process_id: int
    cluster_detection_method: str
    local_device_ids: list[int] | None


def parse(text: str) -> Address | None:
    """The value of `--distributed`; None for "auto".

    Raises:
        UserError: it is neither.
    """
    if text == "auto":
        return None
    found = re.fullmatch(r"(\S+:(\d{1,5})),(\d{1,6}),(\d{1,6})", text)
    if not found:
        raise UserError(f"--distributed={text} is not understood: {FORM}")
    coordinator, port, count, index = found[1], *map(int, found.groups()[1:])
    if not (0 < port < 65536 and index < count):
        raise UserError(f"--distributed={text} is out of range: {FORM}")
    return Address(coordinator, count, index)


def join(text: str, timeout: int) -> None:
    """Joins the processes of the run; returns when all are there.

    Args:
        text: the value of `--distributed`.
        timeout: seconds to wait for them.

    Raises:
        UserError: the text is wrong, or nothing is detected.
        RunError: the others cannot be joined for a reason that may pass. Where they are not there in time, this process
            ends with 1 as well: whoever starts it again on such a status is right to.
    """
    import jax
    from jax._src.distributed import global_state

    given = parse(text) or of_environment(os.environ)
    known: Known = _explicit(given) if given else {"local_device_ids": slurm_devices(os.environ)}
    patience = {"initialization_timeout": timeout + 60, "heartbeat_timeout_seconds": HEARTBEAT}
    alone = threading.Timer(timeout, _give_up, (text, timeout))
    alone.start()
    try:
        jax.distributed.initialize(**known, **patience, shutdown_timeout_seconds=60)
    except (ValueError, RuntimeError, OSError) as error:
        kind = RunError if isinstance(error, jax.errors.JaxRuntimeError) else UserError
        raise kind(_refusal(text, error)) from error
    finally:
        alone.cancel()
    processes.joined(global_state.process_id, global_state.num_processes)
    failure.watch()


def leave() -> None:
    """Ends the run together: waits for the others, and lets go of them."""
    if processes.count() == 1:
        return
    import jax

    from stgrpo.processes.exchange import wait

    wait("end")
    failure.end_watch()
    jax.distributed.shutdown()


def of_environment(environment: Mapping[str, str]) -> Address | None:
    """The address that variables give; None where they give none.

    Raises:
        UserError: they give part of it, or no numbers.
    """
    coordinator = environment.get("JAX_COORDINATOR_ADDRESS")
    count = environment.get("JAX_NUM_PROCESSES")
    index = environment.get("JAX_PROCESS_ID") or environment.get("JOB_COMPLETION_INDEX")
    if not coordinator or not count:  # JAX may detect the rest
        return None
    if not index:
        raise UserError("JAX_COORDINATOR_ADDRESS and JAX_NUM_PROCESSES are set: set JAX_PROCESS_ID as well")
    return parse(f"{coordinator},{count},{index}")


def slurm_devices(environment: Mapping[str, str]) -> list[int] | None:
    """Which of the GPUs that it sees a Slurm task takes; None to leave it to JAX.

    JAX gives each task the GPU of its number on the host. That is wrong for one task a host, which is to have all, and
    for a task that Slurm shows a single GPU.
    """
    if "SLURM_PROCID" not in environment:
        return None
    visible = [d for d in environment.get("CUDA_VISIBLE_DEVICES", "").split(",") if d]
    seen = len(visible) or int(environment.get("SLURM_GPUS_ON_NODE") or 0)
    tasks = int(environment.get("SLURM_STEP_NUM_TASKS") or environment.get("SLURM_NTASKS") or 1)
    hosts = int(environment.get("SLURM_STEP_NUM_NODES") or environment.get("SLURM_NNODES") or 1)
    if seen and (tasks == hosts or seen == 1):
        return list(range(seen))
    return None


def _explicit(given: Address) -> Known:
    """What JAX needs to ask nobody else."""
    return {
        "coordinator_address": given.coordinator,
        "num_processes": given.count,
        "process_id": given.index,
        "cluster_detection_method": "deactivate",
    }


def _give_up(text: str, timeout: int) -> None:
    """Ends this process, which is still alone: JAX itself would do so with a stack of C++."""
    what = f"--distributed={text}: the other processes were not there within {timeout} s"
    fix = "start all of them, look at the address, or raise --distributed_timeout"
    print(f"stgrpo: {what}: {fix}", file=sys.stderr, flush=True)
    os._exit(1)


def _refusal(text: str, error: Exception) -> str:
    reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
    if (text == "auto" and "should be defined" in reason) or "must be defined" in reason:
        return f"--distributed=auto finds no Slurm step, TPU pod or JAX_COORDINATOR_ADDRESS here: {FORM}"
    return f"--distributed={text} does not work ({reason}): {FORM}"
