"""What frozen layers give, computed once an example: the same losses and gradients as through all layers."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from stgrpo.data.examples import Example
from stgrpo.models.lora import Lora
from stgrpo.models.sharding import make_mesh
from stgrpo.rl.losses import make_loss
from stgrpo.training.frozen_states import FrozenStates
from stgrpo.training.sft import sft_batch, sft_shapes
from stgrpo.training.step import build_program

COMMON = (7, 3, 9)
LORA = Lora(3, 6.0, layers=1)


@pytest.fixture(scope="module")
def examples():
    rng = np.random.default_rng(0)

    def one(prompt, response):
        ids = tuple(map(int, rng.integers(0, 64, prompt + response)))
        return Example((*COMMON, *ids[:prompt]), ids[prompt:], None, "task", "layout", 0)

    return [one(int(p), int(r)) for p, r in zip(rng.integers(1, 90, 7), rng.integers(1, 40, 7), strict=True)]


@pytest.fixture(scope="module")
def start(tiny_shape, make_model):
    """The program of four parts, over two devices, and a state whose adapters change something."""

    def make(prefix):
        mesh = make_mesh(2, devices=jax.devices()[:2])
        how = {"loss": make_loss("sft"), "lora": LORA, "prefix": prefix, "micro_batches": 2}
        steps = build_program(tiny_shape, mesh, optax.sgd(0.1), **how)
        model = jax.device_put(make_model(tiny_shape), jax.tree.map(lambda x: x.sharding, steps.model))
        state = steps.init_from(model)
        return steps, dataclasses.replace(state, params=jax.tree.map(lambda x: x + 0.05, state.params))

    return make


@pytest.mark.parametrize("prefix", [(), COMMON], ids=["whole", "behind a prefix"])
def test_an_update_behind_frozen_layers_is_the_update_through_them(examples, start, prefix):
    steps, state = start(prefix)
    shapes, skip = sft_shapes(examples, len(prefix)), len(prefix)
    with jax.set_mesh(steps.mesh):
        computed = []

        def compute(batch):
            computed.append(batch.shape_text)
            return steps.frozen(state, batch)

        kept = FrozenStates(compute, examples, shapes=shapes, skip=skip, batch=4)
        assert len(computed) == 2 and len(set(computed)) <= len(shapes.prompt)
        numbers = [5, 0, 3, 6]
        batch = sft_batch([examples[i] for i in numbers], skip=skip, shapes=shapes)
        # with other tokens below: nothing but what was kept gives the same
        tokens = {"prompt_BP": np.zeros_like(batch.prompt_BP)}
        behind = dataclasses.replace(kept.added_to(batch, numbers), **tokens)
        copy = jax.tree.map(jnp.copy, state)
        one, metrics = steps.update(state, batch)
        other, others = steps.update(copy, behind)
        assert metrics["loss"] == pytest.approx(float(others["loss"]), rel=1e-5)
    for mine, theirs in zip(jax.tree.leaves(one.params), jax.tree.leaves(other.params), strict=True):
        np.testing.assert_allclose(mine, theirs, atol=2e-6)


def test_what_is_kept_is_of_real_tokens_and_its_size_is_told(examples, start, tiny_shape):
    steps, state = start(())
    with jax.set_mesh(steps.mesh):
        shapes = sft_shapes(examples)
        kept = FrozenStates(lambda batch: steps.frozen(state, batch), examples, shapes=shapes, skip=0, batch=4)
    tokens = sum(len(e.prompt_ids) + len(e.response_ids) for e in examples)
    assert kept.size == 4 * tiny_shape.width * tokens
    batch = sft_batch(examples[:4], shapes=shapes)
    below_BSD = kept.added_to(batch, range(4)).below_BSD
    P, prompt, response = batch.prompt_BP.shape[1], len(examples[2].prompt_ids), len(examples[2].response_ids)
    real = np.zeros(below_BSD.shape[1], bool)
    real[:prompt] = real[P : P + response] = True
    assert np.all(below_BSD[2, ~real] == 0) and np.all(np.any(below_BSD[2, real] != 0, axis=-1))
