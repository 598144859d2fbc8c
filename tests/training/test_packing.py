"""Packed rows against unpacked groups: the same log-probabilities, losses and gradients, on every mesh."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from stgrpo.models.sharding import make_mesh
from stgrpo.rl.losses import Coefficients, make_loss
from stgrpo.training.masked import length_mask
from stgrpo.training.packing import fit_rows, pack, row_count
from stgrpo.training.step import accumulate, batch_logprobs, build_program, loss_inputs

LOSS = make_loss("grpo", Coefficients(kl_coef=0.1, clip_low=0.2, clip_high=0.2), temperature=0.7)


def test_first_fit_by_hand():
    # 6 | 6 4 opens and fills the first row, 5 4 the second, 3 3 2 the third; the second 4 comes after the first.
    assert fit_rows([3, 4, 6, 5, 4, 3, 2], 10) == [[2, 1], [3, 4], [0, 5, 6]]
    assert fit_rows([], 10) == []
    with pytest.raises(ValueError, match="item of 11 tokens does not fit a row of 10"):
        fit_rows([3, 11], 10)


def test_few_row_counts_and_little_padding():
    for unit in (1, 3, 8):
        counts = [row_count(rows, unit) for rows in range(1, 600)]
        assert all(n >= rows and n % unit == 0 for rows, n in enumerate(counts, start=1))
        assert all(n <= 1.13 * rows + 2 * unit for rows, n in enumerate(counts, start=1))
        assert len({n for n in counts if 256 * unit <= n < 512 * unit}) <= 8


def test_a_row_by_hand(make_groups):
    batch = make_groups([2, 3], [[2, 0], [1, 3]], P=4, R=4)
    packed = pack(batch, 16)
    (a, b), (p, q) = batch.prompt_BP, batch.response_BGR
    np.testing.assert_array_equal(packed.token_XS, [[*b[:3], q[0, 0], *q[1, :3], *a[:2], *p[0, :2], *[0] * 5]])
    np.testing.assert_array_equal(packed.segment_ids_XS, [[1] * 7 + [2] * 4 + [0] * 5])
    np.testing.assert_array_equal(packed.response_ids_XS, [[0, 0, 0, 1, 2, 2, 2, 0, 0, 1, 1, *[0] * 5]])
    np.testing.assert_array_equal(packed.position_XS, [[0, 1, 2, 3, 3, 4, 5, 0, 1, 2, 3, *[0] * 5]])
    np.testing.assert_array_equal(packed.source_XM, [[2, 2, 4, 5, 8, 9, *[0] * 10]])
    np.testing.assert_array_equal(packed.target_XM, [[q[0, 0], *q[1, :3], *p[0, :2], *[0] * 10]])
    advantages = [batch.adv_BG[1, 0], *[batch.adv_BG[1, 1]] * 3, *[batch.adv_BG[0, 0]] * 2, *[0] * 10]
    np.testing.assert_array_equal(packed.terms.adv, [advantages])
    np.testing.assert_array_equal(packed.terms.mask, [[1] * 6 + [0] * 10])
    assert pack(batch, 16, unit=4).token_XS.shape == (4, 16)
    assert pack(batch, 4).token_XS.shape == (2, 8)  # rows as long as the longest group needs


@pytest.fixture(scope="module")
def ragged(make_groups):
    """Nine groups of up to three responses, one of them without any."""
    rng = np.random.default_rng(0)
    length_BG = rng.integers(0, 7, (9, 3))
    length_BG[4] = 0
    batch = make_groups(rng.integers(1, 9, 9), length_BG, P=8, R=6)
    old = batch.ref_logp_BGR + rng.normal(scale=0.3, size=(*length_BG.shape, 6)).astype(np.float32)
    return dataclasses.replace(batch, old_logp_BGR=old)


def with_prompts(batch):
    """The batch with its prompts in the loss."""
    mask_BP = np.asarray(length_mask(jnp.asarray(batch.prompt_len_B), batch.prompt_BP.shape[1]))
    return dataclasses.replace(batch, prompt_weight_BP=0.3 * mask_BP / mask_BP.sum())


def part_of(loss):
    """The loss and its sums as a function of model and batch."""

    def run(model, batch):
        inputs = loss_inputs(model, batch, temperature=loss.temperature, dtype=jnp.float32)
        return loss.function(inputs)

    return run


CASES = {
    "grpo": (part_of(LOSS), lambda batch: batch),
    "sft": (part_of(make_loss("sft")), lambda batch: batch),
    "sft with prompts": (part_of(make_loss("sft")), with_prompts),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("responses", [1, 3])
def test_loss_and_gradient_equal_those_of_unpacked_groups(tiny_shape, make_model, ragged, case, responses):
    loss_fn, change = CASES[case]
    short = jax.tree.map(lambda x: x[:, :responses] if x.ndim > 1 and x.shape[1] == 3 else x, ragged)
    batch, model = change(short), make_model(tiny_shape)
    packed = pack(batch, 64)
    assert (packed.response_ids_XS is None) == (responses == 1)
    assert packed.token_XS.size < batch.size
    (loss, sums), grads = jax.jit(jax.value_and_grad(loss_fn, has_aux=True))(model, batch)
    (mine, my_sums), my_grads = jax.jit(jax.value_and_grad(loss_fn, has_aux=True))(model, packed)
    np.testing.assert_allclose(mine, loss, rtol=1e-5)
    assert set(sums) == set(my_sums)
    for name in sums:
        np.testing.assert_allclose(my_sums[name], sums[name], rtol=1e-5, err_msg=name)
    for a, b in zip(jax.tree.leaves(my_grads), jax.tree.leaves(grads), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5 * np.abs(b).max())


def test_log_probabilities_equal_those_of_unpacked_groups(tiny_shape, make_model, ragged):
    model = make_model(tiny_shape)
    marked = dataclasses.replace(ragged, ref_logp_BGR=np.arange(ragged.mask_BGR.size).reshape(ragged.mask_BGR.shape))
    packed = pack(marked, 32)
    place = packed.terms.ref_logp.astype(int)[packed.terms.mask > 0]  # where each token lies in the unpacked batch
    both = [jax.jit(lambda m, b=b: batch_logprobs(m, b, temperature=0.7))(model) for b in (packed, marked)]
    for mine, other in zip(*both, strict=True):
        np.testing.assert_allclose(np.asarray(mine)[packed.terms.mask > 0], np.ravel(other)[place], atol=2e-5)
    assert len(place) == ragged.mask_BGR.sum()


@pytest.mark.parametrize("sizes", [(1, 1, 1), (2, 2, 2)])
def test_updates_on_packed_rows_equal_those_on_groups(tiny_shape, make_model, make_groups, sizes):
    """Also in micro-batches, whose rows hold unequal numbers of tokens, and over devices; the first ratio is one."""
    rng = np.random.default_rng(3)
    batch = make_groups(rng.integers(1, 9, 16), rng.integers(1, 7, (16, 2)), P=8, R=6)
    mesh = make_mesh(*sizes, devices=jax.devices()[: int(np.prod(sizes))])
    results = []
    for layout, micro_batches in ((batch, 1), (pack(batch, 40, unit=8), 2)):
        steps = build_program(tiny_shape, mesh, optax.sgd(0.1), loss=LOSS, micro_batches=micro_batches)
        with jax.set_mesh(mesh):
            model = jax.device_put(make_model(tiny_shape), jax.tree.map(lambda x: x.sharding, steps.abstract.params))
            old = np.asarray(steps.logprobs(model, layout))
            name = "terms" if micro_batches == 2 else "old_logp_BGR"
            layout = dataclasses.replace(
                layout, **{name: dataclasses.replace(layout.terms, old_logp=old) if name == "terms" else old}
            )
            state, metrics = steps.update(steps.init_from(model), layout)
            results.append((jax.device_get(metrics), jax.device_get(state.params)))
    (expected, params), (metrics, my_params) = results
    np.testing.assert_allclose(metrics["ratio"], 1.0, atol=1e-6)
    for name in expected:
        np.testing.assert_allclose(metrics[name], expected[name], rtol=1e-4, atol=1e-6, err_msg=name)
    for a, b in zip(jax.tree.leaves(my_params), jax.tree.leaves(params), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_what_is_seen_does_not_depend_on_accumulation(tiny_shape, make_model, ragged):
    model = make_model(tiny_shape)
    packed = pack(ragged, 24, unit=4)

    def run(parts):
        return jax.jit(lambda m: accumulate(CASES["grpo"][0], m, packed, parts))(model)

    (whole, loss, _), (grads, mine, _) = run(1), run(4)
    np.testing.assert_allclose(mine, loss, rtol=1e-5)
    for a, b in zip(jax.tree.leaves(grads), jax.tree.leaves(whole), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5 * np.abs(b).max())
