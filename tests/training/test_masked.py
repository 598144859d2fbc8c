"""Masked reductions against numpy's own masked arrays."""

import jax
import jax.numpy as jnp
import numpy as np

from stgrpo.training.masked import length_mask, masked_mean, masked_sum, safe_divide


def test_length_mask_counts_from_the_left():
    mask = length_mask(jnp.array([[0, 1], [3, 5]]), 4)
    expected = [[[0, 0, 0, 0], [1, 0, 0, 0]], [[1, 1, 1, 0], [1, 1, 1, 1]]]
    np.testing.assert_array_equal(mask, expected)
    assert mask.dtype == jnp.float32


def test_sum_and_mean_equal_numpy_masked_arrays():
    rng = np.random.default_rng(0)
    x, mask = rng.normal(size=(5, 7)).astype(np.float32), rng.integers(0, 2, (5, 7)).astype(np.float32)
    other = np.ma.masked_array(x, mask == 0)
    for axis in (None, 0, 1, (0, 1)):
        np.testing.assert_allclose(masked_sum(x, mask, axis), other.sum(axis), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(masked_mean(x, mask, axis), other.mean(axis), rtol=1e-5, atol=1e-6)


def test_weights_other_than_one_weigh():
    np.testing.assert_allclose(masked_sum(jnp.array([2.0, 4.0, 8.0]), jnp.array([0.5, 0.25, 0.0])), 2.0)


def test_what_is_masked_does_not_matter_forward_or_backward():
    x, mask = jnp.array([1.0, jnp.nan, jnp.inf, 2.0]), jnp.array([1.0, 0.0, 0.0, 1.0])
    value, gradient = jax.value_and_grad(lambda x: masked_mean(x, mask))(x)
    assert value == 1.5
    np.testing.assert_array_equal(gradient, [0.5, 0.0, 0.0, 0.5])


def test_nothing_counted_is_zero_with_a_zero_gradient():
    assert safe_divide(jnp.float32(3.0), jnp.float32(0.0)) == 0.0
    value, gradient = jax.value_and_grad(lambda x: masked_mean(x, jnp.zeros(3)))(jnp.ones(3))
    assert value == 0.0
    np.testing.assert_array_equal(gradient, np.zeros(3))
