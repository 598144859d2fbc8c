"""A model of a few hundred parameters, and what a checkpoint of it says of itself."""

import jax
import numpy as np

from stgrpo.models.shapes import ModelShape
from stgrpo.models.sharding import make_mesh
from stgrpo.rl.losses import make_loss
from stgrpo.training.metadata import CheckpointMetadata
from stgrpo.training.optimiser import OptimiserSettings, make_optimiser
from stgrpo.training.step import build_program

SHAPE = ModelShape(vocab_size=64, width=16, depth=2, heads=2, kv_heads=1, head_dim=8, mlp_width=32)
RECORD = CheckpointMetadata("sft", 1, 9, SHAPE, {"seed": 0}, {"tokenizer.json": "{}"}, position=7)


def steps_on(*sizes: int):
    """Its program on a mesh of these sizes."""
    mesh = make_mesh(*sizes, devices=jax.devices()[: np.prod(sizes)])
    return build_program(SHAPE, mesh, make_optimiser(OptimiserSettings(1e-3, 0, 10)), loss=make_loss("sft"))


def same(a, b) -> bool:
    """Whether two trees hold the same bits."""
    return all(np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))
