"""What a train state takes on each device, from its shapes and shardings alone."""

import math

import jax

from stgrpo.training.step import TrainProgram


def bytes_a_device(tree: object) -> int:
    """Of arrays given as shapes with shardings."""
    return sum(x.dtype.itemsize * math.prod(x.sharding.shard_shape(x.shape)) for x in jax.tree.leaves(tree))


def state_parts(steps: TrainProgram, *, reference: bool) -> dict[str, int]:
    """Bytes a device of what stays allocated over an update, by name.

    Args:
        steps: the programs of a stage, with its state as shapes.
        reference: whether the stage has a frozen reference; that of adapters is their base and takes nothing more.
    """
    state = steps.abstract
    parts = {
        "parameters": bytes_a_device(state.params),
        "gradient": bytes_a_device(state.params),
        "optimiser": bytes_a_device((state.opt_state, state.step)),
    }
    if state.base is not None:
        parts["frozen base"] = bytes_a_device(state.base)
    elif reference:
        parts["frozen reference"] = bytes_a_device(state.params)
    if state.critic is not None:
        parts["critic"] = bytes_a_device(state.critic.params)
        parts["critic's optimiser"] = bytes_a_device((state.critic.opt_state, state.critic.step))
    return parts


def size_text(amount: float) -> str:
    """Bytes for a person."""
    return f"{amount / 2**30:.2f} GiB" if amount >= 2**30 else f"{amount / 2**20:.1f} MiB"
