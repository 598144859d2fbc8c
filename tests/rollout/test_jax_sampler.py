"""The embedded sampler against the trainer's log-probabilities, dense forward passes, and its own promises."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import jaxprs_in_params

from stgrpo.data.padding import pad_rows
from stgrpo.models.transformer import dense_hidden
from stgrpo.rollout.base import SamplingParams
from stgrpo.rollout.jax_sampler import DecodeShape, JaxSampler, _generate_groups, draw
from stgrpo.training.logprobs import response_logprobs

PROMPTS = [[5, 9, 2], [7], [1, 2, 3, 4, 5, 6, 7, 8], [60, 61, 62, 63, 0]]
SEEDS = [11, 12, 13, 2**32 - 1]
STOPS = (3, 17, 20, 33, 41, 55)
LIMIT = 6


@pytest.fixture(scope="module")
def model(tiny_shape, make_model):
    return make_model(tiny_shape)


@pytest.fixture(scope="module")
def sampler(model):
    return JaxSampler(model, STOPS)


@pytest.fixture(scope="module")
def samples(sampler):
    """By temperature."""
    return {t: sampler.generate(PROMPTS, 3, SamplingParams(LIMIT, t), SEEDS) for t in (1.0, 0.7, 0.0)}


@jax.jit
def dense_logits(model, row):
    return dense_hidden(model, row[None])[0] @ model.head_VD.T


def logits_after(model, prompt, response):
    """[tokens of the response, V]: what a plain forward pass over one row predicts at each of them."""
    row = np.zeros(16, np.int32)
    row[: len(prompt) + len(response)] = [*prompt, *response]
    return dense_logits(model, row)[len(prompt) - 1 : len(prompt) + len(response) - 1]


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_log_probabilities_equal_the_trainers(model, samples, temperature):
    got = samples[temperature]
    prompt_BP, prompt_len_B = pad_rows(PROMPTS)
    rows, lengths = pad_rows([ids for group in got.tokens for ids in group])
    logp, _ = response_logprobs(
        model, prompt_BP, prompt_len_B, rows.reshape(len(PROMPTS), 3, -1), temperature=temperature
    )
    mine = [x for group in got.logprobs for values in group for x in values]
    trainers = np.asarray(logp).reshape(rows.shape)[np.arange(rows.shape[1]) < lengths[:, None]]
    np.testing.assert_allclose(mine, trainers, atol=1e-5)


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_log_probabilities_equal_a_plain_forward_pass(model, samples, temperature):
    got = samples[temperature]
    for prompt, group, values in zip(PROMPTS, got.tokens, got.logprobs, strict=True):
        logp = jax.nn.log_softmax(logits_after(model, prompt, group[0]) / temperature)
        np.testing.assert_allclose(values[0], logp[np.arange(len(group[0])), group[0]], atol=1e-5)


def test_greedy_takes_the_most_probable_token_each_step(model, samples):
    got = samples[0.0]
    for prompt, group, values in zip(PROMPTS, got.tokens, got.logprobs, strict=True):
        assert group[0] == group[1] == group[2]
        logits = logits_after(model, prompt, group[0])
        assert group[0] == jnp.argmax(logits, axis=-1).tolist()
        np.testing.assert_allclose(values[0], jnp.max(jax.nn.log_softmax(logits), axis=-1), atol=1e-5)


def test_stop_tokens_end_a_response_and_the_limit_cuts_it(samples):
    ends = set()
    for got in samples.values():
        for group, finishes, values in zip(got.tokens, got.finish, got.logprobs, strict=True):
            for ids, finish, logp in zip(group, finishes, values, strict=True):
                assert 1 <= len(ids) == len(logp) <= LIMIT
                assert not set(ids[:-1]) & set(STOPS)
                assert finish == ("stop" if ids[-1] in STOPS else "length")
                assert finish == "stop" or len(ids) == LIMIT
                ends.add(finish)
    assert ends == {"stop", "length"}


def test_a_response_depends_on_its_prompt_and_seed_alone(model, samples):
    order = [2, 0, 3, 1]
    small = JaxSampler(model, STOPS, batch=3)  # one prompt a loop
    params = SamplingParams(LIMIT, 1.0)
    again = small.generate([PROMPTS[i] for i in order], 3, params, [SEEDS[i] for i in order])
    for at, i in enumerate(order):
        assert again.tokens[at] == samples[1.0].tokens[i]
        assert again.finish[at] == samples[1.0].finish[i]
        for mine, other in zip(again.logprobs[at], samples[1.0].logprobs[i], strict=True):
            np.testing.assert_allclose(mine, other, atol=1e-5)
    wider = JaxSampler(model, STOPS).generate(PROMPTS[:1], 5, params, SEEDS[:1])
    assert wider.tokens[0][:3] == samples[1.0].tokens[0]


def test_other_seeds_and_samples_of_a_group_differ(sampler, samples):
    tokens = samples[1.0].tokens
    assert len({tuple(ids) for ids in tokens[0]}) == 3
    other = sampler.generate(PROMPTS, 3, SamplingParams(LIMIT, 1.0), [s - 1 for s in SEEDS])
    assert all(a != b for a, b in zip(other.tokens, tokens, strict=True))


def test_new_weights_are_used_and_their_version_reported(tiny_shape, make_model, model, samples):
    sampler = JaxSampler(make_model(tiny_shape, 7), STOPS)
    params = SamplingParams(LIMIT, 1.0)
    before = sampler.generate(PROMPTS, 3, params, SEEDS)
    assert before.version == 0 and before.tokens != samples[1.0].tokens
    sampler.update_weights(model, 5)
    after = sampler.generate(PROMPTS, 3, params, SEEDS)
    assert after.version == 5 and after.tokens == samples[1.0].tokens


def chi_square(counts, probabilities):
    """Pearson's statistic less its mean, in standard deviations; places expected under 5 times are one."""
    expected = probabilities * counts.sum()
    rare = expected < 5
    counts = np.append(counts[~rare], counts[rare].sum())
    expected = np.append(expected[~rare], expected[rare].sum())
    degrees = len(counts) - 1
    return (np.sum((counts - expected) ** 2 / np.maximum(expected, 1e-9)) - degrees) / np.sqrt(2 * degrees)


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_first_tokens_follow_the_softmax(model, temperature):
    got = JaxSampler(model, STOPS, batch=4096).generate(PROMPTS[:1], 4096, SamplingParams(1, temperature), [0])
    counts = np.bincount([ids[0] for ids in got.tokens[0]], minlength=64)
    logits = logits_after(model, PROMPTS[0], [0])[0]
    assert abs(chi_square(counts, np.asarray(jax.nn.softmax(logits / temperature)))) < 4
    assert chi_square(counts, np.asarray(jax.nn.softmax(logits / temperature / 1.3))) > 4  # it would be seen


LOGITS = np.log(np.array([0.4, 0.02, 0.25, 0.15, 0.08, 0.06, 0.04]))
# temperature, top_p, top_k -> the tokens that stay
TRUNCATIONS = [
    (1.0, 1.0, 0, {0, 1, 2, 3, 4, 5, 6}),
    (1.0, 1.0, 3, {0, 2, 3}),
    (1.0, 1.0, 1, {0}),
    (1.0, 0.39, 0, {0}),
    (1.0, 0.5, 0, {0, 2}),
    (1.0, 0.7, 0, {0, 2, 3}),
    (1.0, 0.7, 2, {0, 2}),
    (1.0, 0.6, 2, {0}),  # of the two that top-k leaves, the first has 0.4 / 0.65 = 0.615
    (0.5, 0.9, 0, {0, 2, 3}),  # squares 0.16, 0.0625, 0.0225, ... of 0.2576: 0.621, 0.864, 0.951
]


@pytest.mark.parametrize(("temperature", "top_p", "top_k", "kept"), TRUNCATIONS)
def test_top_k_and_top_p_keep_the_right_tokens(temperature, top_p, top_k, kept):
    keys = jax.random.split(jax.random.key(0), 2000)[None]
    logits = jnp.broadcast_to(jnp.asarray(LOGITS, jnp.float32), (1, 2000, 7))
    tokens, logp = jax.jit(draw, static_argnums=2)(logits, keys, SamplingParams(1, temperature, top_p, top_k))
    counts = np.bincount(tokens[0], minlength=7)
    assert set(np.flatnonzero(counts)) == kept
    expected = np.exp(LOGITS / temperature) * np.isin(np.arange(7), list(kept))
    assert len(kept) == 1 or abs(chi_square(counts, expected / expected.sum())) < 4
    whole = np.asarray(jax.nn.log_softmax(LOGITS / temperature))
    np.testing.assert_allclose(logp[0], whole[tokens[0]], rtol=1e-5)


def array_shapes(jaxpr):
    """Shapes of all intermediate arrays, those of inner programs included."""
    for equation in jaxpr.eqns:
        yield from (v.aval.shape for v in equation.outvars)
        for inner in jaxprs_in_params(equation.params):
            yield from array_shapes(inner)


def test_a_prompt_is_prefilled_once_and_not_once_a_sample(model):
    B, P, G = 2, 32, 16
    K, H, F = model.shape.kv_heads, model.shape.head_dim, model.shape.mlp_width
    shape = DecodeShape(G, STOPS, SamplingParams(4), jnp.dtype("float32"))
    arguments = (np.zeros((B, P), np.int32), np.ones(B, np.int32), np.zeros(B, np.uint32), np.ones(B, bool))
    traced = jax.make_jaxpr(_generate_groups, static_argnums=5)(model, *arguments, shape)
    shapes = set(array_shapes(traced.jaxpr))
    assert (B, P, F) in shapes  # the MLP over prompts
    assert (B, G, F) in shapes  # and over one new token a sample
    assert max(map(np.prod, shapes)) < B * G * P * K * H  # no copy of a prompt's keys a sample, not of one layer


def test_data_parallel_sampling_draws_the_same(tiny_shape, model, samples):
    from stgrpo.models.sharding import make_mesh, tree_shardings

    mesh = make_mesh(2, 2, 2)
    split = jax.device_put(model, tree_shardings(model, tiny_shape, mesh))
    with jax.set_mesh(mesh):
        got = JaxSampler(split, STOPS, mesh=mesh).generate(PROMPTS, 3, SamplingParams(LIMIT, 1.0), SEEDS)
    assert dataclasses.replace(got, logprobs=[]) == dataclasses.replace(samples[1.0], logprobs=[])
