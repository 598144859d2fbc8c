"""The shared-prefix layout against plain rows with the prompt repeated, forward and backward."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stgrpo.models.attention.xla import KeyValues, attend_causal
from stgrpo.models.grouped import row_hidden
from stgrpo.models.transformer import dense_hidden

CASES = {
    "ragged": ([5, 1, 7], [[3, 6, 1], [2, 2, 6], [6, 1, 4]]),
    "one response": ([4, 6], [[5], [3]]),
    "empty responses": ([5, 3], [[0, 4], [0, 0]]),
    "one token each": ([1, 1], [[1, 1], [1, 1]]),
}


def dense_rows(model, batch, length_BG):
    """Each response after its own copy of the prompt, one plain row a response, padded on the right."""
    rows = [(b, g, batch.prompt_len_B[b], n) for b, lengths in enumerate(length_BG) for g, n in enumerate(lengths)]
    tokens = np.zeros((len(rows), batch.prompt_BP.shape[1] + batch.response_BGR.shape[2]), np.int32)
    for row, (b, g, prompt_len, _) in zip(tokens, rows, strict=True):
        pair = np.concatenate([batch.prompt_BP[b, :prompt_len], batch.response_BGR[b, g]])
        row[: len(pair)] = pair
    places = [(i, prompt_len - 1 + t) for i, (_, _, prompt_len, n) in enumerate(rows) for t in range(n)]
    return dense_hidden(model, tokens)[tuple(np.array(places).T)]


def grouped_rows(model, batch, length_BG):
    hidden = row_hidden(model, batch.rows)[1]
    return hidden[np.arange(hidden.shape[2]) < np.array(length_BG)[..., None]]


@pytest.fixture(params=[True, False], ids=["qwen, tied", "llama, untied"], scope="module")
def model(request, tiny_shape, make_model):
    return make_model(dataclasses.replace(tiny_shape, qkv_bias=request.param, tie_embeddings=request.param))


@pytest.mark.parametrize("case", CASES)
def test_grouped_equals_dense(model, make_groups, case):
    prompt_len, length = CASES[case]
    batch = make_groups(prompt_len, length, P=8, R=6)
    both = [jax.jit(lambda m, f=f: f(m, batch, length))(model) for f in (grouped_rows, dense_rows)]
    np.testing.assert_allclose(both[0], both[1], atol=1e-5)


def test_gradients_of_grouped_equal_those_of_dense(model, make_groups):
    prompt_len, length = CASES["ragged"]
    batch = make_groups(prompt_len, length, P=8, R=6)
    weight = jax.random.normal(jax.random.key(3), (sum(map(sum, length)), model.shape.width))
    grads = [
        jax.jit(jax.grad(lambda m, f=f: jnp.sum(weight * f(m, batch, length))))(model)
        for f in (grouped_rows, dense_rows)
    ]
    grouped, dense = (jax.tree_util.tree_leaves_with_path(jax.device_get(g)) for g in grads)
    for (path, mine), (_, other) in zip(grouped, dense, strict=True):
        assert np.abs(mine - other).max() <= 1e-4 * np.abs(other).max(), jax.tree_util.keystr(path)


def test_padding_changes_nothing(tiny_shape, make_model, make_groups):
    model = make_model(tiny_shape)
    batch = make_groups([3, 5], [[2, 4], [4, 1]], P=8, R=6)
    other = make_groups([3, 5], [[2, 4], [4, 1]], P=8, R=6, seed=1)
    real_BP = np.arange(8) < batch.prompt_len_B[:, None]
    repadded = dataclasses.replace(
        batch,
        prompt_BP=np.where(real_BP, batch.prompt_BP, other.prompt_BP),
        response_BGR=np.where(batch.mask_BGR > 0, batch.response_BGR, other.response_BGR),
    )
    assert (repadded.prompt_BP != batch.prompt_BP).any()
    rows = [jax.jit(grouped_rows, static_argnums=2)(model, x, ((2, 4), (4, 1))) for x in (batch, repadded)]
    np.testing.assert_array_equal(*rows)


def test_causal_attention_equals_the_library():
    q, k, v = (jax.random.normal(jax.random.key(i), (2, 9, heads, 8)) for i, heads in enumerate((4, 2, 2)))
    other = jax.nn.dot_product_attention(q, k, v, is_causal=True)
    np.testing.assert_allclose(attend_causal(q, KeyValues(k, v)), other, atol=1e-6)
