"""What a checkpoint holds training up for, and how long it takes to be on disk: one JSON line.

    python benchmarks/saving.py [--width=128] [--depth=4] [--vocabulary=2048] [--saves=8]

Seconds by the clock, medians over saves of one model with AdamW's moments, on this machine's devices; the first save,
which is waited for and read back, stands apart. While one is written the state is changed and donated, as in training.
"""

import argparse
import dataclasses
import json
import pathlib
import statistics
import tempfile
import time

import jax
import numpy as np

from stgrpo.models.random import random_key
from stgrpo.models.shapes import ModelShape
from stgrpo.models.sharding import make_mesh
from stgrpo.rl.losses import make_loss
from stgrpo.training.checkpointing import CheckpointMetadata, Checkpoints
from stgrpo.training.optimiser import OptimiserSettings, make_optimiser
from stgrpo.training.step import build_program


def main() -> None:
    """Prints the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--depth", type=int, default=4)
    parser.add_argument("--vocabulary", type=int, default=2048)
    parser.add_argument("--saves", type=int, default=8)
    given = parser.parse_args()
    heads = given.width // 32
    shape = ModelShape(given.vocabulary, given.width, given.depth, heads, heads, 32, mlp_width=3 * given.width)
    program = build_program(shape, make_mesh(), make_optimiser(OptimiserSettings(1e-3, 0, 10)), loss=make_loss("sft"))
    state, change = program.init(random_key(0)), jax.jit(_changed, donate_argnums=0)
    record = CheckpointMetadata("sft", 0, given.saves, shape, {}, {})
    held, took = [], []
    with tempfile.TemporaryDirectory() as folder, Checkpoints(pathlib.Path(folder) / "sft") as checkpoints:
        for step in range(given.saves + 1):
            start = time.perf_counter()
            checkpoints.start_save(state, dataclasses.replace(record, step=step + 1))
            held.append(time.perf_counter() - start)
            state = jax.block_until_ready(change(state))
            checkpoints.wait()
            took.append(time.perf_counter() - start)
    size = sum(x.nbytes for x in jax.tree.leaves((state.params, state.opt_state)))
    figures = {"held_up_s": statistics.median(held[1:]), "on_disk_s": statistics.median(took[1:]), "first_s": held[0]}
    print(json.dumps({"parameters": shape.parameter_count(), "mb": round(size / 1e6), **_rounded(figures)}))


def _changed(state):
    return jax.tree.map(lambda x: x + np.ones((), x.dtype), state)


def _rounded(figures: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 3) for name, value in figures.items()}


if __name__ == "__main__":
    main()
