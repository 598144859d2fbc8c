"""What devices send each other in an update depends on their own share of the batch, not on the whole of it."""

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
from stgrpo.training.step import build_program

P, G, R, WIDTH = 256, 2, 128, 8
VOCAB = 4096  # so many that XLA, left alone, would rather gather tokens than the embedding
SHAPE = ModelShape(VOCAB, WIDTH, 2, heads=2, kv_heads=2, head_dim=4, mlp_width=16)
COLLECTIVE = r"= (\(?[^=]*?) (?:all-gather|all-reduce|all-to-all|reduce-scatter|collective-permute)(?:-start)?\("


def largest_collective(text: str) -> int:
    """Elements of the largest result of a collective in a compiled program; the embedding, gathered once, aside."""
    texts = [s for result in re.findall(COLLECTIVE, text) for s in re.findall(r"\[([\d,]+)\]", result)]
    shapes = [tuple(map(int, s.split(","))) for s in texts]
    assert (VOCAB, WIDTH) in shapes
    return max(math.prod(s) for s in shapes if VOCAB not in s)


@pytest.mark.parametrize("program", ["update", "reference"])
@pytest.mark.parametrize(("sizes", "groups"), [((1, 4, 1), 1), ((1, 8, 1), 1), ((4, 2, 1), 2)])
def test_nothing_of_the_size_of_the_batch_is_sent(make_groups, sizes, groups, program):
    mesh = make_mesh(*sizes, devices=jax.devices()[: math.prod(sizes)])
    steps = build_program(SHAPE, mesh, optax.adamw(1e-3), loss=make_loss("grpo"))
    B = groups * sizes[0] * sizes[1]
    batch = make_groups([P] * B, [[R] * G] * B, vocab=VOCAB)
    with jax.set_mesh(mesh):
        if program == "update":
            lowered = steps.update.lower(steps.abstract, batch)
        else:
            lowered = steps.logprobs.lower(steps.abstract.params, batch)
        largest = largest_collective(lowered.compile().as_text())
    own = groups * (P + G * R) * WIDTH
    assert largest <= own < B * (P + G * R) * WIDTH  # the exchange of the embedding lookup


@pytest.mark.parametrize("tokens", [None, 13, 29], ids=["all tokens", "one part empty", "padded"])
@pytest.mark.parametrize("vocab", [32, 31], ids=["cut over tensor", "whole on each device"])
@pytest.mark.parametrize("sizes", [(8, 1, 1), (1, 4, 2), (2, 2, 2)])
def test_log_probabilities_and_gradients_are_the_same_on_every_mesh(sizes, vocab, tokens):
    keys = jax.random.split(jax.random.key(0), 4)
    hidden, head = jax.random.normal(keys[0], (8, 5, 12)), jax.random.normal(keys[1], (vocab, 12))
    target, pull = jax.random.randint(keys[2], (8, 5), 0, tokens or vocab), jax.random.normal(keys[3], (2, 8, 5))

    def both(hidden, head):
        logp, entropy = token_logprobs(hidden, head, target, temperature=0.8, vocab=tokens, chunk=3)
        return jnp.sum(pull[0] * logp + pull[1] * entropy), (logp, entropy)

    function = jax.value_and_grad(both, argnums=(0, 1), has_aux=True)
    expected = jax.device_get(jax.jit(function)(hidden, head))
    with jax.set_mesh(make_mesh(*sizes)):
        got = jax.device_get(jax.jit(function)(hidden, head))
    for mine, other in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-5, atol=1e-5)


def test_the_gradient_of_the_head_is_summed_in_float32():
    hidden, head = jnp.ones((1, 600, 1), jnp.bfloat16), jnp.zeros((2, 1))
    target = jnp.zeros((1, 600), jnp.int32)

    def total(head):
        return jnp.sum(token_logprobs(hidden, head, target, temperature=1.0, chunk=1)[0])

    # Each token adds 1/2; in bfloat16 the sum would stop at 128.
    np.testing.assert_allclose(jax.grad(total)(head), [[300.0], [-300.0]])
