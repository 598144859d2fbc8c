"""Operations that a model needs: against the products in JAX's own programs, and against counting pairs one by one."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import jaxprs_in_params
from jax.interpreters.partial_eval import dce_jaxpr

from stgrpo.models.attention.xla import attend_causal
from stgrpo.models.flops import TokenCounts, forward_flops, group_counts, training_flops
from stgrpo.models.lora import Adapters, Lora, adapted, frozen
from stgrpo.models.peaks import peak_flops
from stgrpo.models.transformer import Transformer, dense_hidden

TOKENS = 24


def products(jaxpr, times=1):
    """Operations of all matrix products of a program, those of a scan once a turn."""
    total = 0
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            inputs = equation.invars[0].aval.shape
            total += 2 * times * math.prod(equation.outvars[0].aval.shape) * math.prod(inputs[i] for i in contracted)
        turns = equation.params.get("length", 1) if equation.primitive.name == "scan" else 1
        for inner in jaxprs_in_params(equation.params):
            total += products(inner, times * turns)
    return total


def probabilities(model, token_BS):
    """Of the whole vocabulary, in the plainest way: every token sees all of its row, masked or not."""
    return dense_hidden(model, token_BS) @ model.head_VD.T


def test_a_text_before_a_group_counts_like_a_longer_prompt():
    length_BG = np.array([[3, 5]])
    assert group_counts(np.array([4]), length_BG).behind(7) == group_counts(np.array([11]), length_BG)


def counted(function, *arguments):
    jaxpr = jax.make_jaxpr(function)(*arguments).jaxpr
    needed, _ = dce_jaxpr(jaxpr, [True] * len(jaxpr.outvars))
    return products(needed)


@pytest.fixture
def counts():
    """Two rows: as the plain program does it, each token is multiplied with every token of its row."""
    return TokenCounts(tokens=2 * TOKENS, predicted=2 * TOKENS, pairs=2 * TOKENS**2)


@pytest.mark.parametrize("tied", [True, False])
def test_a_pass_and_an_update_need_the_products_that_jax_makes(tiny_shape, counts, tied):
    shape = dataclasses.replace(tiny_shape, tie_embeddings=tied)
    model, tokens = Transformer(shape, jax.random.key(0), remat=False), jnp.zeros((2, TOKENS), jnp.int32)
    assert forward_flops(shape, counts) == counted(probabilities, model, tokens)
    both = jax.value_and_grad(lambda model: probabilities(model, tokens).sum())
    assert training_flops(shape, counts) == counted(both, model)


@pytest.mark.parametrize("layers", [0, 1])
def test_adapters_spare_the_gradient_of_what_is_frozen(tiny_shape, counts, layers):
    lora, tokens = Lora(4, 8.0, layers=layers), jnp.zeros((2, TOKENS), jnp.int32)
    base, adapters = (
        frozen(Transformer(tiny_shape, jax.random.key(0), remat=False), "float32"),
        Adapters(tiny_shape, lora),
    )
    both = jax.value_and_grad(lambda adapters: probabilities(adapted(base, adapters), tokens).sum())
    assert training_flops(tiny_shape, counts, lora) == counted(both, adapters)
    assert training_flops(tiny_shape, counts, lora) < training_flops(tiny_shape, counts)


def test_behind_what_frozen_layers_gave_these_need_nothing(tiny_shape, counts):
    lora, tokens = Lora(4, 8.0, layers=1), jnp.zeros((2, TOKENS), jnp.int32)
    base, adapters = Transformer(tiny_shape, jax.random.key(0), remat=False), Adapters(tiny_shape, lora)
    below_BSD = jnp.ones((2, TOKENS, tiny_shape.width))

    def attend(q, kv):
        return attend_causal(q, kv), None

    def loss(adapters):
        model = adapted(base, adapters)
        hidden, _ = model.hidden(tokens, jnp.arange(TOKENS)[None], attend, below_BSD=below_BSD)
        return (hidden @ model.head_VD.T).sum()

    needed = training_flops(tiny_shape, counts, lora, keeps_frozen=True)
    assert needed == counted(jax.value_and_grad(loss), adapters) < training_flops(tiny_shape, counts, lora)


@pytest.mark.parametrize("prompt_weight", [False, True])
def test_a_batch_counts_what_is_real_and_what_each_token_sees(make_groups, prompt_weight):
    prompts, lengths = [5, 1, 7], [[4, 3], [1, 6], [2, 2]]
    batch = make_groups(prompts, lengths, P=16, R=8)
    if prompt_weight:
        batch = dataclasses.replace(batch, prompt_weight_BP=np.ones((3, 16), np.float32))
    pairs = 0
    for prompt, responses in zip(prompts, lengths, strict=True):
        pairs += sum(1 for query in range(prompt) for key in range(prompt) if key <= query)
        for length in responses:
            row = prompt + length
            pairs += sum(1 for query in range(prompt, row) for key in range(row) if key <= query)
    of_prompts = sum(prompts) - 3 if prompt_weight else 0
    assert batch.counts == TokenCounts(batch.tokens, int(np.sum(lengths)) + of_prompts, pairs)
    assert batch.tokens == sum(prompts) + np.sum(lengths)


def test_a_peak_is_known_of_devices_that_have_one_alone():
    assert peak_flops("NVIDIA H200", "bfloat16") == 989.5e12
    assert peak_flops("NVIDIA H200", "float32") is None
    assert peak_flops("cpu", "bfloat16") is None
