"""What frozen layers give, computed once an example: the same losses and gradients as through all layers."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from stgrpo.config import base
from stgrpo.data.examples import Example
from stgrpo.errors import UserError
from stgrpo.models.lora import Lora
from stgrpo.models.sharding import make_mesh
from stgrpo.rl.losses import make_loss
from stgrpo.rl.programs import train_program
from stgrpo.training.frozen_states import FrozenStates, available_memory
from stgrpo.training.inputs import check_given
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
    """A program of two parts and a state whose adapters change something."""

    def make(prefix=(), sizes=(2, 1, 1), dtype=jnp.float32):
        mesh = make_mesh(*sizes, devices=jax.devices()[: int(np.prod(sizes))])
        how = {"loss": make_loss("sft"), "lora": LORA, "prefix": prefix, "micro_batches": 2, "dtype": dtype}
        steps = build_program(tiny_shape, mesh, optax.sgd(0.1), **how)
        model = jax.device_put(make_model(tiny_shape), jax.tree.map(lambda x: x.sharding, steps.model))
        state = steps.init_from(model)
        return steps, dataclasses.replace(state, params=jax.tree.map(lambda x: x + 0.05, state.params))

    return make


@pytest.mark.parametrize(
    ("prefix", "sizes", "dtype", "prompt_weight"),
    [
        pytest.param(COMMON, (2, 1, 1), jnp.float32, 0.0, id="prefix"),
        pytest.param((), (1, 1, 1), jnp.bfloat16, 0.5, id="bfloat16 with prompts"),
        pytest.param((), (1, 2, 2), jnp.float32, 0.0, id="cut model", marks=pytest.mark.slow),
    ],
)
def test_an_update_behind_frozen_layers_is_the_update_through_them(
    examples, start, prefix, sizes, dtype, prompt_weight
):
    steps, state = start(prefix, sizes, dtype)
    shapes, skip, numbers = sft_shapes(examples, len(prefix)), len(prefix), [5, 0, 3, 6]
    with jax.set_mesh(steps.mesh):
        kept = FrozenStates(examples, shapes=shapes, skip=skip, batch=4)
        assert list(kept.compute(range(7), lambda batch: steps.below(state, batch))) == [4, 7]
        batch = sft_batch([examples[i] for i in numbers], prompt_weight, skip=skip, shapes=shapes)
        behind = kept.added_to(batch, numbers)
        if not prompt_weight:  # with other tokens below: nothing but what was kept gives the same
            behind = dataclasses.replace(behind, prompt_BP=np.zeros_like(batch.prompt_BP))
        copy = jax.tree.map(jnp.copy, state)
        (one, metrics), (other, others) = steps.update(state, batch), steps.update(copy, behind)
        assert metrics["loss"] == pytest.approx(float(others["loss"]), rel=1e-5)
    for mine, theirs in zip(jax.tree.leaves(one.params), jax.tree.leaves(other.params), strict=True):
        np.testing.assert_allclose(mine, theirs, atol=2e-6 if dtype == jnp.float32 else 1e-3)


def test_only_what_is_wanted_is_kept_and_its_size_is_known_before(examples, start, tiny_shape):
    steps, state = start()
    shapes, wanted, computed = sft_shapes(examples), {2, 5}, []

    def below(batch):
        computed.append(batch)
        return steps.below(state, batch)

    with jax.set_mesh(steps.mesh):
        some, whole = (FrozenStates(examples, shapes=shapes, skip=0, batch=2) for _ in range(2))
        assert list(some.compute(wanted, below))[-1] == 2 and len(computed) <= 2
        list(whole.compute(range(7), below))
    batch = sft_batch([examples[i] for i in wanted], shapes=shapes)
    below_BSD = some.added_to(batch, list(wanted)).below_BSD
    np.testing.assert_array_equal(below_BSD, whole.added_to(batch, list(wanted)).below_BSD)
    tokens = sum(len(examples[i].prompt_ids) + len(examples[i].response_ids) for i in wanted)
    assert some.size(wanted, tiny_shape.width, 4) == 4 * tiny_shape.width * tokens
    assert np.sum(np.any(below_BSD != 0, axis=-1)) == tokens
    with pytest.raises(KeyError):
        some.added_to(batch, [0, 1])


def test_memory_that_can_be_had_is_some():
    assert 2**20 < available_memory() < 2**50


def test_where_no_layer_is_frozen_or_none_has_all_rows_nothing_can_be_kept(tiny_shape):
    config = base()
    config.sft.keep_frozen, config.lora.rank, config.lora.layers = True, 4, tiny_shape.depth
    mesh = make_mesh(1, devices=jax.devices()[:1])
    with pytest.raises(UserError, match=f"all {tiny_shape.depth} have adapters: use lora.layers below"):
        train_program(config, "sft", tiny_shape, mesh, updates=1)
    train_program(config, "grpo", tiny_shape, mesh, updates=1)


def test_a_run_of_several_processes_is_refused_before_it_collects(monkeypatch):
    config = base()
    config.sft.keep_frozen, config.lora.rank, config.lora.layers = True, 4, 1
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    with pytest.raises(UserError, match=r"sft\.keep_frozen=True is for runs of one process"):
        check_given(config, weights=True)
    config.sft.keep_frozen = False
    check_given(config, weights=True)
