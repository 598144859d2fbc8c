"""The embedded sampler against the trainer's log-probabilities, dense forward passes, and its own promises."""

import dataclasses
import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import transformers
from jax.extend.core import jaxprs_in_params

from stgrpo.data.padding import pad_rows
from stgrpo.errors import RunError
from stgrpo.models.attention.xla import AttentionCore, KeyValues, attend_prefix
from stgrpo.models.huggingface.config import read_shape
from stgrpo.models.huggingface.weights import load_folder
from stgrpo.models.lora import Adapters, Lora, adapted, merged
from stgrpo.models.sharding import batch_sharding, make_mesh, tree_shardings
from stgrpo.models.transformer import Transformer, dense_hidden
from stgrpo.react.policy import SamplingParams
from stgrpo.sampling.jax.categorical import draw
from stgrpo.sampling.jax.decode import (
    DecodeShape,
    LayerCache,
    NewPrompts,
    attend_cached,
    decode,
    decode_weights,
    empty_slots,
    prefill,
    prefill_prompts,
    read_prefix,
)
from stgrpo.sampling.jax.sampler import JaxSampler
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


@pytest.mark.parametrize("temperature", [1.0, 0.0])
def test_rows_without_a_token_are_never_drawn_and_have_no_probability(tiny_shape, make_model, temperature):
    few = make_model(dataclasses.replace(tiny_shape, tokens=9))
    prompts = [[5, 8, 2], [7]]
    got = JaxSampler(few, (3,)).generate(prompts, 4, SamplingParams(LIMIT, temperature), [1, 2])
    drawn = {token for group in got.tokens for ids in group for token in ids}
    assert drawn <= set(range(9)) and len(drawn) > 2
    for prompt, group, values in zip(prompts, got.tokens, got.logprobs, strict=True):
        logp = jax.nn.log_softmax(logits_after(few, prompt, group[0])[:, :9] / (temperature or 1.0))
        np.testing.assert_allclose(values[0], logp[np.arange(len(group[0])), group[0]], atol=1e-5)
        rows, lengths = pad_rows(group)
        trainers, _ = response_logprobs(few, *pad_rows([prompt]), rows[None], temperature=temperature or 1.0)
        np.testing.assert_allclose(values[0], trainers[0, 0, : lengths[0]], atol=1e-5)


@pytest.mark.parametrize("value", [np.nan, np.inf, 3e38])
@pytest.mark.parametrize("temperature", [1.0, 0.0])
def test_a_policy_without_finite_logits_draws_nothing(model, value, temperature):
    broken = jax.tree.map(lambda x: x, model)
    broken.final_norm[...] = jnp.full_like(model.final_norm[...], value)
    with pytest.raises(RunError, match="a prompt of 3 tokens gets logits that are not finite"):
        JaxSampler(broken, STOPS).generate(PROMPTS[:1], 2, SamplingParams(LIMIT, temperature), SEEDS[:1])


@pytest.mark.parametrize("seed", [-1, 2**32, 2**63, 2**64])
def test_a_seed_beyond_32_bits_is_refused_before_anything_is_drawn(sampler, seed):
    with pytest.raises(ValueError, match=f"seed={seed} must be at least 0 and below 4294967296"):
        sampler.generate(PROMPTS[:1], 1, SamplingParams(LIMIT, 1.0), [seed])


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
    S, P, G = 2, 32, 16
    K, H, F = model.shape.kv_heads, model.shape.head_dim, model.shape.mlp_width
    shape = DecodeShape(G, P, STOPS, SamplingParams(4), jnp.dtype("float32"))
    slots, weights = empty_slots(model.shape, S, shape), decode_weights(model, shape.dtype)
    new = NewPrompts(np.zeros((S, P), np.int32), np.ones(S, np.int32), np.zeros(S, np.uint32), np.arange(S))
    filled = set(array_shapes(jax.make_jaxpr(prefill_prompts, static_argnums=(2, 3))(model, new, P, shape.dtype).jaxpr))
    new = prefill_prompts(model, new, P, shape.dtype)
    decoded = set(array_shapes(jax.make_jaxpr(decode, static_argnums=4)(weights, slots, new, 1, shape).jaxpr))
    assert (S, P, F) in filled and (S, G, F) not in filled  # the MLP over prompts
    assert (S, G, F) in decoded and (S, P, F) not in decoded  # and over one new token a sample
    assert max(map(np.prod, filled | decoded)) < S * G * P * K * H  # no copy of a prompt's keys a sample, in no layer


def test_weights_for_decoding_copy_no_embedding_that_has_the_dtype(model):
    weights, lower = decode_weights(model, jnp.dtype("float32")), decode_weights(model, jnp.dtype("bfloat16"))
    assert weights.embedding_VD.unsafe_buffer_pointer() == model.embedding[...].unsafe_buffer_pointer()
    assert weights.head_VD is weights.embedding_VD and lower.head_VD is lower.embedding_VD  # a tied head
    kinds = {x.dtype for x in jax.tree.leaves(lower) if x.ndim > 1}
    assert kinds == {jnp.dtype("bfloat16")} and lower.layers[1].mlp_norm[...].dtype == jnp.float32
    for at, layer in enumerate(weights.layers):
        np.testing.assert_array_equal(layer.gate_up[...][:, 0], model.layers.gate[...][at])


def test_free_slots_get_the_next_prompts(model):
    rng = np.random.default_rng(0)
    prompts = [rng.integers(0, 64, n).tolist() for n in rng.integers(1, 40, 11)]
    params, seeds = SamplingParams(20), list(range(11))
    names = []
    small = JaxSampler(model, STOPS, batch=8, log=names.append)  # four slots of two
    got = small.generate(prompts, 2, params, seeds)
    single = JaxSampler(model, STOPS)
    alone = [single.generate([p], 2, params, [s]) for p, s in zip(prompts, seeds, strict=True)]
    assert got.tokens == [one.tokens[0] for one in alone]
    assert got.finish == [one.finish[0] for one in alone]
    for values, one in zip(got.logprobs, alone, strict=True):
        for mine, other in zip(values, one.logprobs[0], strict=True):
            np.testing.assert_allclose(mine, other, atol=1e-5)
    (loop,) = {name for name in names if name.startswith("decode")}
    assert loop.startswith("decode loop of 4 slots of ")


def adversarial_calls(rng, limit, groups):
    """Calls of all sizes with prompts of all lengths, one token and the limit among them, in no order."""
    for count in [16, 1, 40, 5, 19, 4, 2, 7, 33, 3, 1, 18]:
        for longest in (int(rng.integers(1, limit * 3 // 4)), limit * 3 // 4, limit):
            lengths = [longest, *rng.integers(1, longest + 1, count - 1)]
            yield [rng.integers(0, 64, n).tolist() for n in lengths], int(rng.choice(groups))


@pytest.mark.parametrize("sizes", [None, (2, 2, 1)])
def test_a_stage_compiles_at_most_eight_programs_whatever_it_is_asked(model, tiny_shape, sizes):
    """A stage draws in two ways: groups for training, single responses for validation."""
    mesh = sizes and make_mesh(*sizes, devices=jax.devices()[: math.prod(sizes)])
    placed = jax.device_put(model, tree_shardings(model, tiny_shape, mesh)) if mesh else model
    names, ways = [], {3: SamplingParams(4, 0.9), 1: SamplingParams(4, 0.0)}
    made = {"limit": 170, "largest": {3: 16, 1: 19}, "mesh": mesh, "log": names.append}
    sampler = JaxSampler(placed, STOPS, batch=48, **made)
    before = prefill_prompts._cache_size(), decode._cache_size()
    for prompts, group in adversarial_calls(np.random.default_rng(1), 170, [*ways]):
        sampler.generate(prompts, group, ways[group], list(range(len(prompts))))
    compiled = prefill_prompts._cache_size() - before[0], decode._cache_size() - before[1]
    kinds = [sum(name.startswith(kind) for name in set(names)) for kind in ("prefill", "decode")]
    assert kinds == list(compiled) == [2, 6]


def test_a_program_is_named_by_what_it_is_compiled_for(model):
    names = []
    sampler = JaxSampler(model, STOPS, batch=32, limit=64, log=names.append)
    sampler.generate([[1] * 40] * 3, 4, SamplingParams(3, 0.9), [0, 1, 2])
    assert names == [
        "prefill of 16 prompts of 64 tokens",
        "decode loop of 4 slots of 64 + 4 x 3 tokens, temperature 0.9, top-p 1, top-k 0",
    ]


def test_what_is_drawn_does_not_depend_on_the_sizes_that_are_compiled(model):
    """Prompts padded little and much, in few slots and many: the same ids, and log-probabilities but for rounding."""
    rng = np.random.default_rng(2)
    prompts = [rng.integers(0, 64, n).tolist() for n in (1, 5, 30, 31, 32, 33, 48, 60)]
    params, seeds = SamplingParams(12, 0.8), list(range(8))
    close = [JaxSampler(model, STOPS).generate([p], 2, params, [s]) for p, s in zip(prompts, seeds, strict=True)]
    for made in (
        {"limit": 64, "batch": 64},
        {"limit": 500, "batch": 4},
        {"limit": 80, "batch": 200, "largest": {2: 40}},
    ):
        got = JaxSampler(model, STOPS, **made).generate(prompts, 2, params, seeds)
        assert got.tokens == [one.tokens[0] for one in close]
        for mine, one in zip(got.logprobs, close, strict=True):
            np.testing.assert_allclose(np.concatenate(mine), np.concatenate(one.logprobs[0]), atol=1e-5)


RULES = np.random.default_rng(5).integers(0, 64, 70).tolist()  # of which 64 are read apart
BEHIND = [[*RULES, *prompt] for prompt in PROMPTS]


def assert_same_draws(got, want):
    assert dataclasses.replace(got, logprobs=[]) == dataclasses.replace(want, logprobs=[])
    for mine, theirs in zip(got.logprobs, want.logprobs, strict=True):
        np.testing.assert_allclose(np.concatenate(mine), np.concatenate(theirs), atol=1e-5)


@pytest.fixture(scope="module")
def whole(model):
    """What is drawn where every prompt is read whole, by group and temperature."""
    ways = [(3, 1.0), (3, 0.0), (1, 0.0)]
    return {
        (G, t): JaxSampler(model, STOPS, limit=96).generate(BEHIND, G, SamplingParams(LIMIT, t), SEEDS) for G, t in ways
    }


@pytest.mark.parametrize("sizes", [None, (1, 1, 1), (8, 1, 1), (1, 4, 2), (2, 2, 2)])
def test_prompts_behind_what_all_begin_with_draw_what_whole_ones_do(model, tiny_shape, whole, sizes):
    mesh = sizes and make_mesh(*sizes, devices=jax.devices()[: math.prod(sizes)])
    placed = jax.device_put(model, tree_shardings(model, tiny_shape, mesh)) if mesh else model
    names = []
    sampler = JaxSampler(placed, STOPS, limit=96, batch=6, prefix=RULES, mesh=mesh, log=names.append)
    for (G, temperature), want in whole.items():
        assert_same_draws(sampler.generate(BEHIND, G, SamplingParams(LIMIT, temperature), SEEDS), want)
    reads = {name for name in names if name.startswith("prefill")}
    assert "prefill of 64 tokens that all prompts begin with" in reads and len(reads) == 2
    assert all("behind 64" in name or "begin with" in name for name in reads)


def test_prompts_behind_what_all_begin_with_have_the_log_probabilities_of_a_plain_forward_pass(model):
    got = JaxSampler(model, STOPS, prefix=RULES).generate(BEHIND, 2, SamplingParams(LIMIT), SEEDS)
    for prompt, (ids, _), (values, _) in zip(BEHIND, got.tokens, got.logprobs, strict=True):
        rows = jnp.asarray([[*prompt, *ids]])
        logits = dense_hidden(model, rows)[0, len(prompt) - 1 : -1] @ model.head_VD.T
        np.testing.assert_allclose(values, jax.nn.log_softmax(logits)[np.arange(len(ids)), ids], atol=1e-5)


@pytest.mark.parametrize("limit", [0, 96])
def test_prompts_that_begin_otherwise_or_with_nothing_more_are_drawn_from_too(model, limit):
    other = [RULES[0] ^ 1, *RULES[1:], 4]
    prompts = [BEHIND[0], RULES[:64], other, [5], RULES[:65], RULES[:10], BEHIND[2]]
    params, seeds = SamplingParams(LIMIT), list(range(7))
    for asked in (prompts, prompts[1:4], prompts[:1]):
        want = JaxSampler(model, STOPS, limit=limit, batch=4).generate(asked, 2, params, seeds[: len(asked)])
        got = JaxSampler(model, STOPS, limit=limit, batch=4, prefix=RULES)
        assert_same_draws(got.generate(asked, 2, params, seeds[: len(asked)]), want)


def test_what_all_prompts_begin_with_is_read_again_by_new_weights(tiny_shape, make_model, model, whole):
    sampler = JaxSampler(make_model(tiny_shape, 7), STOPS, limit=96, prefix=RULES)
    before = sampler.generate(BEHIND, 3, SamplingParams(LIMIT), SEEDS)
    sampler.update_weights(model, 0)
    assert before.tokens != whole[3, 1.0].tokens
    assert_same_draws(sampler.generate(BEHIND, 3, SamplingParams(LIMIT), SEEDS), whole[3, 1.0])


def test_adapters_of_the_last_layers_read_behind_what_all_prompts_begin_with(tiny_shape, model):
    adapters = jax.tree.map(lambda x: x.at[1:].add(0.1), Adapters(tiny_shape, Lora(2, 4.0, layers=1)))
    both = adapted(model, adapters), merged(adapted(model, adapters))
    samplers = JaxSampler(both[0], STOPS, prefix=RULES), JaxSampler(both[1], STOPS)
    got, want = (s.generate(BEHIND, 2, SamplingParams(LIMIT), SEEDS) for s in samplers)
    assert_same_draws(got, want)


def test_what_all_prompts_begin_with_is_computed_once_and_not_once_a_prompt(model):
    B, C, P, F = 3, 64, 32, model.shape.mlp_width
    new = NewPrompts(np.zeros((B, P), np.int32), np.full(B, C + 1), np.zeros(B, np.uint32), np.arange(B))
    before = read_prefix(model, np.zeros(C, np.int32), jnp.dtype("float32"))
    traced = jax.make_jaxpr(prefill_prompts, static_argnums=(2, 3))(model, new, C + P, before.k.dtype, before)
    shapes = set(array_shapes(traced.jaxpr))
    assert (B, P, F) in shapes and not {shape for shape in shapes if shape[-1:] == (F,) and C + P in shape}


def test_a_stage_compiles_at_most_one_program_more_for_what_all_prompts_begin_with(model):
    names, ways = [], {3: SamplingParams(4, 0.8), 1: SamplingParams(4, 0.0)}
    rules = [*RULES, *RULES]
    made = {"limit": 300, "largest": {3: 16, 1: 19}, "prefix": rules, "log": names.append}
    sampler = JaxSampler(model, STOPS, batch=48, **made)
    before = prefill_prompts._cache_size(), decode._cache_size(), read_prefix._cache_size()
    for prompts, group in adversarial_calls(np.random.default_rng(1), 160, [*ways]):
        sampler.generate([[*rules, *p] for p in prompts], group, ways[group], list(range(len(prompts))))
    after = prefill_prompts._cache_size(), decode._cache_size(), read_prefix._cache_size()
    assert [b - a for a, b in zip(before, after, strict=True)] == [2, 6, 1]
    assert len(set(names)) == 9


def test_another_attention_reads_prompts_whole(model, samples):
    names = []
    sampler = JaxSampler(with_core(model, "splash"), STOPS, prefix=RULES, log=names.append)
    sampler.generate(BEHIND[:1], 1, SamplingParams(LIMIT, 0.0), SEEDS[:1])
    assert not any("begin with" in name or "behind" in name for name in names)


def test_a_prompt_beyond_the_limit_is_refused(model):
    with pytest.raises(ValueError, match="a prompt of 33 tokens is longer than limit=32"):
        JaxSampler(model, STOPS, limit=32).generate([[1], [2] * 33], 1, SamplingParams(3), [0, 1])


def test_adapters_draw_what_the_merged_model_draws(tiny_shape, model):
    adapters = jax.tree.map(lambda x: x + 0.1, Adapters(tiny_shape, Lora(2, 4.0)))  # B starts at zero
    both = adapted(model, adapters), merged(adapted(model, adapters))
    first, second = (JaxSampler(m, STOPS).generate(PROMPTS, 3, SamplingParams(LIMIT), SEEDS) for m in both)
    assert first.tokens == second.tokens
    assert first.tokens != JaxSampler(model, STOPS).generate(PROMPTS, 3, SamplingParams(LIMIT), SEEDS).tokens


def with_core(model, name, emulated=True):
    """The same parameters, their attention by another implementation."""
    other = lambda: Transformer(model.shape, jax.random.key(0), core=AttentionCore(name, emulated))  # noqa: E731
    return jax.tree.unflatten(jax.tree.structure(jax.eval_shape(other)), jax.tree.leaves(model))


@pytest.mark.parametrize("sizes", [(1, 1, 1), (2, 2, 2)])
@pytest.mark.parametrize("name", ["splash", "cudnn"])
def test_prompts_are_read_by_the_models_attention_and_the_same_is_drawn(model, tiny_shape, samples, name, sizes):
    mesh, other = make_mesh(*sizes, devices=jax.devices()[: math.prod(sizes)]), with_core(model, name)
    sampler = JaxSampler(jax.device_put(other, tree_shardings(other, tiny_shape, mesh)), STOPS, mesh=mesh)
    got = sampler.generate(PROMPTS, 3, SamplingParams(LIMIT, 1.0), SEEDS)
    assert dataclasses.replace(got, logprobs=[]) == dataclasses.replace(samples[1.0], logprobs=[])
    for mine, theirs in zip(got.logprobs, samples[1.0].logprobs, strict=True):
        np.testing.assert_allclose(np.concatenate(mine), np.concatenate(theirs), atol=1e-5)


@pytest.mark.parametrize(
    ("name", "platform", "call"), [("splash", "tpu", "tpu_custom_call"), ("cudnn", "cuda", "fmha")]
)
def test_a_prefill_asks_for_the_kernel_of_its_platform(model, name, platform, call, monkeypatch):
    """Lowered for a device that is not there; the version of cuDNN is all that must be made up."""
    monkeypatch.setattr("jax._src.cudnn.fused_attention_stablehlo.check_cudnn_version", lambda: 91_000)
    prompts = jnp.zeros((2, 128), jnp.int32), jnp.full(2, 100)
    traced = jax.jit(prefill, static_argnums=3).trace(with_core(model, name, emulated=False), *prompts, jnp.bfloat16)
    assert call in traced.lower(lowering_platforms=(platform,)).as_text()


def test_no_prompts_are_no_work(model):
    assert JaxSampler(model, STOPS).generate([], 4, SamplingParams(3), []).tokens == []


def test_cached_attention_equals_the_trainers(tiny_shape):
    """Random caches, one slot young, one past its end, against the one attention core over gathered columns."""
    S, G, P, R, c, clock = 3, 2, 5, 6, tiny_shape, 16
    K, H, N = c.kv_heads, c.head_dim, c.heads
    keys = jax.random.split(jax.random.key(0), 5)
    sizes = [(S, G, N, H), (S, K, H, P), (S, K, P, H), (S, G, K, H, R), (S, G, K, R, H)]
    q, *caches = (jax.random.normal(k, size) for k, size in zip(keys, sizes, strict=True))
    cache, prompt_len_S, at_S = LayerCache(*caches), np.array([5, 1, 3]), np.array([0, 3, 5])
    seen_SR = (clock % R - np.arange(R)) % R <= at_S[:, None]
    got = attend_cached(q, cache, prompt_len_S, seen_SR)
    for s in range(S):
        columns = [(clock - back) % R for back in range(at_S[s], -1, -1)]
        own = KeyValues(
            jnp.moveaxis(cache.own_k_SGKHR[s : s + 1][..., columns], -1, 2),
            jnp.moveaxis(cache.own_v_SGKRH[s : s + 1, :, :, columns], 3, 2),
        )
        keys, values = cache.prefix_k_SKHP[s : s + 1], cache.prefix_v_SKPH[s : s + 1]
        prefix = KeyValues(jnp.moveaxis(keys, 3, 1), values.swapaxes(1, 2))
        mask = jnp.ones((1, len(columns)), bool)
        want = attend_prefix(q[s : s + 1, :, None], own, mask, prefix, prompt_len_S[s : s + 1])
        np.testing.assert_allclose(got[s], want[0, :, 0], atol=1e-6)


@pytest.mark.parametrize("kind", ["Qwen2", "Qwen3"])
def test_greedy_is_what_transformers_generates(kind, tmp_path):
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    sizes |= {"num_key_value_heads": 2, "vocab_size": 64, "max_position_embeddings": 64, "head_dim": 8}
    torch.manual_seed(0)
    config = getattr(transformers, f"{kind}Config")(**sizes)
    theirs = getattr(transformers, f"{kind}ForCausalLM")(config).float().eval()
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    theirs.save_pretrained(tmp_path)
    abstract = jax.eval_shape(lambda: Transformer(read_shape(tmp_path), jax.random.key(0)))
    mesh = make_mesh(1, devices=jax.devices()[:1])
    places = tree_shardings(abstract, read_shape(tmp_path), mesh)
    place = lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s)  # noqa: E731
    mine = load_folder(tmp_path, jax.tree.map(place, abstract, places))
    got = JaxSampler(mine, STOPS, batch=2).generate(PROMPTS, 1, SamplingParams(12, 0.0), SEEDS)
    options = {"do_sample": False, "max_new_tokens": 12, "eos_token_id": list(STOPS), "pad_token_id": 0}
    for prompt, (ids,) in zip(PROMPTS, got.tokens, strict=True):
        rows = torch.tensor([prompt])
        assert ids == theirs.generate(rows, attention_mask=torch.ones_like(rows), **options)[0, len(prompt) :].tolist()


@pytest.mark.parametrize("sizes", [(1, 1, 1), (8, 1, 1), (2, 2, 2)])
def test_every_mesh_draws_the_same(tiny_shape, model, samples, sizes):
    mesh = make_mesh(*sizes, devices=jax.devices()[: math.prod(sizes)])
    split = jax.device_put(model, tree_shardings(model, tiny_shape, mesh))
    sampler = JaxSampler(split, STOPS, batch=6, mesh=mesh)  # fewer slots than prompts on some meshes
    got = sampler.generate(PROMPTS, 3, SamplingParams(LIMIT, 1.0), SEEDS)
    assert dataclasses.replace(got, logprobs=[]) == dataclasses.replace(samples[1.0], logprobs=[])


def test_slots_and_weights_lie_split_over_the_mesh(tiny_shape, model):
    mesh, shape = make_mesh(2, 2, 2), DecodeShape(3, 32, STOPS, SamplingParams(4), jnp.dtype("float32"), 4)
    with jax.set_mesh(mesh):
        split = jax.device_put(model, tree_shardings(model, tiny_shape, mesh))
        slots, weights = empty_slots(tiny_shape, 8, shape), decode_weights(split, shape.dtype)
        prompts = NewPrompts(np.ones((8, 32), np.int32), np.full(8, 9), np.zeros(8, np.uint32), np.tile([0, 1], 4))
        new = prefill_prompts(split, jax.device_put(prompts, batch_sharding(mesh)), 32, shape.dtype)
        slots = decode(weights, slots, new, 8, shape)
    cache = slots.layers[0]
    for x in (cache.prefix_k_SKHP, cache.prefix_v_SKPH, cache.own_k_SGKHR, cache.own_v_SGKRH):
        assert x.sharding.shard_shape(x.shape)[0] == 2  # of 8 slots over data x fsdp
    for x, axis in ((cache.prefix_k_SKHP, 1), (cache.own_k_SGKHR, 2), (cache.own_v_SGKRH, 2)):
        assert x.sharding.shard_shape(x.shape)[axis] == 1  # of 2 heads over tensor
    gate = weights.layers[0].gate_up[...]
    assert gate.sharding.shard_shape(gate.shape) == (gate.shape[0], 2, gate.shape[2] // 2)  # whole along fsdp


@pytest.mark.parametrize("sizes", [(1, 8, 1), (2, 4, 1)])
def test_devices_decode_by_themselves(tiny_shape, model, sizes):
    mesh, shape = make_mesh(*sizes), DecodeShape(3, 32, STOPS, SamplingParams(4), jnp.dtype("float32"), 8)
    with jax.set_mesh(mesh):
        split = jax.device_put(model, tree_shardings(model, tiny_shape, mesh))
        slots, weights = empty_slots(tiny_shape, 8, shape), decode_weights(split, shape.dtype)
        prompts = NewPrompts(np.ones((8, 32), np.int32), np.full(8, 9), np.zeros(8, np.uint32), np.zeros(8, np.int32))
        new = prefill_prompts(split, jax.device_put(prompts, batch_sharding(mesh)), 32, shape.dtype)
        text = decode.lower(weights, slots, new, 8, shape).compile().as_text()
    sent = re.findall(r"= (\S+) (?:all-gather|all-reduce|all-to-all|reduce-scatter|collective-permute)\(", text)
    assert sent == ["s32[]"]  # how many slots are free: no weights, no tokens
