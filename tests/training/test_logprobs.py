"""Chunked log-probabilities against one plain log-softmax, and the compiled program against their promise."""

import dataclasses
import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from stgrpo.models.shapes import ModelShape
from stgrpo.models.sharding import make_mesh
from stgrpo.rl.losses import make_loss
from stgrpo.training.logprobs import token_logprobs
from stgrpo.training.packing import pack
from stgrpo.training.step import build_program

B, T, D, V = 3, 10, 8, 32


@pytest.fixture(scope="module")
def inputs():
    keys = jax.random.split(jax.random.key(0), 3)
    hidden, head = jax.random.normal(keys[0], (B, T, D)), jax.random.normal(keys[1], (V, D))
    return hidden, head, jax.random.randint(keys[2], (B, T), 0, V)


def plain(hidden, head, target, temperature):
    logp = jax.nn.log_softmax(hidden @ head.T / temperature)
    entropy = -jnp.sum(jnp.exp(logp) * logp, axis=-1)
    return jnp.take_along_axis(logp, target[..., None], axis=-1)[..., 0], entropy


@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize("chunk", [1, 7, 9, 12, 30, 1024])
def test_any_chunk_size_equals_log_softmax(inputs, chunk, temperature):
    got = token_logprobs(*inputs, temperature=temperature, chunk=chunk)
    for mine, other in zip(got, plain(*inputs, temperature), strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("chunk", [7, 12, 1024])
def test_gradients_equal_those_of_log_softmax(inputs, chunk):
    hidden, head, target = inputs
    weight = jax.random.normal(jax.random.key(1), (2, B, T))

    def through(function):
        def total(hidden, head):
            logp, entropy = function(hidden, head)
            return jnp.sum(weight[0] * logp + weight[1] * entropy)

        return jax.grad(total, argnums=(0, 1))(hidden, head)

    mine = through(lambda h, w: token_logprobs(h, w, target, temperature=0.9, chunk=chunk))
    other = through(lambda h, w: plain(h, w, target, 0.9))
    for a, b in zip(mine, other, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("chunk", [7, 1024])
@pytest.mark.parametrize("vocab", [1, 29, V, V + 5])
def test_rows_beyond_the_vocabulary_have_no_probability_and_no_gradient(inputs, vocab, chunk):
    hidden, head, target = inputs
    target, kept = jnp.minimum(target, vocab - 1), min(vocab, V)

    def mine(hidden, head):
        return token_logprobs(hidden, head, target, temperature=0.9, vocab=vocab, chunk=chunk)

    def other(hidden, head):
        return plain(hidden, head[:kept], target, 0.9)

    for a, b in zip(mine(hidden, head), other(hidden, head), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)
    grads = [
        jax.grad(lambda h, w, f=f: sum(jnp.sum(x * jnp.arange(T)) for x in f(h, w)), argnums=(0, 1))(hidden, head)
        for f in (mine, other)
    ]
    for a, b in zip(*grads, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)
    assert not np.any(grads[0][1][kept:])


def largest_with(vocab, compiled):
    """The most tokens whose values over the vocabulary lie in one tensor of a compiled program."""
    shapes = {tuple(map(int, s.split(","))) for s in re.findall(r"[a-z]+\d+\[([\d,]+)\]", compiled.as_text())}
    return max(math.prod(s) // vocab for s in shapes if any(n % vocab == 0 for n in s))


@pytest.mark.parametrize("layout", ["groups", "rows"])
@pytest.mark.parametrize("program", ["sft", "sft with prompts", "grpo", "reference"])
def test_no_compiled_program_holds_logits_of_the_whole_batch(make_groups, program, layout):
    vocab, P, R = 4099, 700, 320  # a prime, so that no other size is taken for it
    shape = ModelShape(vocab, 8, 2, heads=2, kv_heads=1, head_dim=4, mlp_width=16)
    mesh = make_mesh(1, 1, 1, jax.devices()[:1])
    loss = make_loss("sft" if program.startswith("sft") else "grpo")
    steps = build_program(shape, mesh, optax.adamw(1e-3), loss=loss)
    batch = make_groups([P] * 4, [[R, R]] * 4, vocab=vocab)
    if program == "sft with prompts":
        batch = dataclasses.replace(batch, prompt_weight_BP=np.full((4, P), 1e-3, np.float32))
    batch = pack(batch, 2 * (P + 2 * R)) if layout == "rows" else batch
    assert batch.terms.mask.size >= 4 * 2 * R > 2 * 1024
    with jax.set_mesh(mesh):
        if program == "reference":
            lowered = steps.logprobs.lower(steps.abstract.params, batch)
        else:
            lowered = steps.update.lower(steps.abstract, batch)
        assert 512 < largest_with(vocab, lowered.compile()) <= 1024  # a chunk is there, so the text was understood
