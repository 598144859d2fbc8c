"""What all prompts begin with, taken once an update: the same losses and gradients as with every prompt whole."""

import dataclasses

import jax
import numpy as np
import optax
import pytest

from stgrpo.config import base
from stgrpo.data.examples import Example
from stgrpo.models.attention.xla import XLA, AttentionCore
from stgrpo.models.lora import Lora
from stgrpo.models.sharding import make_mesh
from stgrpo.rl.losses import make_loss
from stgrpo.training.packing import pack
from stgrpo.training.sft import sft_batch, shared_prefix
from stgrpo.training.step import build_program

COMMON = (7, 3, 9, 9, 5)


@pytest.fixture(scope="module")
def examples():
    """Eight of all lengths; one prompt is what they have in common and one token more."""
    rng = np.random.default_rng(0)

    def one(prompt, response):
        ids = tuple(map(int, rng.integers(0, 64, prompt + response)))
        return Example((*COMMON, *ids[:prompt]), ids[prompt:], None, "task", "layout", 0)

    return [one(int(p), int(r)) for p, r in zip([1, *rng.integers(2, 30, 7)], rng.integers(1, 12, 8), strict=True)]


@pytest.fixture(scope="module")
def update(tiny_shape, make_model, examples):
    """Loss, and what is trained, after one step of gradient descent."""

    def run(lora, prefix=(), sizes=(1, 1, 1), row=0, **options):
        mesh = make_mesh(*sizes, devices=jax.devices()[: int(np.prod(sizes))])
        how = {"loss": make_loss("sft"), "lora": lora, "prefix": prefix, **options}
        steps = build_program(tiny_shape, mesh, optax.sgd(0.1), **how)
        batch = sft_batch(examples, skip=len(prefix))
        with jax.set_mesh(mesh):
            placed = jax.tree.map(lambda x: x.sharding, steps.model)
            state = steps.init_from(jax.device_put(make_model(tiny_shape), placed))
            if lora:  # B is zero at the start, and with it the gradient of A
                state = dataclasses.replace(state, params=jax.tree.map(lambda x: x + 0.05, state.params))
            state, metrics = steps.update(state, pack(batch, row, unit=4) if row else batch)
        return float(metrics["loss"]), jax.device_get(state.params)

    return run


def same(one, other):
    """Whether the loss, and all that was trained, came out alike."""
    assert one[0] == pytest.approx(other[0], rel=1e-5)
    for mine, theirs in zip(jax.tree.leaves(one[1]), jax.tree.leaves(other[1]), strict=True):
        np.testing.assert_allclose(mine, theirs, atol=2e-6)


def test_adapters_learn_as_from_whole_prompts(update):
    lora = Lora(3, 6.0, layers=1)
    same(update(lora, COMMON, micro_batches=4), update(lora))


@pytest.mark.slow  # 20 CPU seconds of compiling
def test_packed_rows_on_a_mesh_learn_as_whole_prompts(update):
    same(update(None, COMMON, (2, 1, 2), row=64), update(None))


def test_the_prefix_is_what_all_prompts_begin_with(examples):
    config = base()
    assert shared_prefix(config, examples, XLA) == ()
    config.sft.share_prefix = True
    assert shared_prefix(config, examples, XLA) == COMMON
    alike = [examples[0], examples[0]]
    assert shared_prefix(config, alike, XLA) == COMMON  # the last token of a prompt stays its own
    assert shared_prefix(config, examples, AttentionCore("splash")) == ()
    config.sft.prompt_weight = 0.1
    assert shared_prefix(config, examples, XLA) == ()
