"""Every implementation of attention against one dense softmax with the mask written out, forward and backward."""

import dataclasses
import functools
import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from stgrpo.models.attention.xla import AttentionCore, KeyValues, attend_causal, attend_group, attend_packed
from stgrpo.models.shapes import ModelShape
from stgrpo.models.sharding import make_mesh
from stgrpo.rl.losses import Coefficients, make_loss
from stgrpo.training.step import build_program

CORES = {
    "xla": AttentionCore(),
    "splash": AttentionCore("splash", emulated=True),
    "cudnn": AttentionCore("cudnn", emulated=True),
}
GROUPS = {  # prompt lengths, then of each group the lengths of its responses
    "ragged": ([37, 1, 130], [[3, 60, 1], [60, 2, 6], [6, 33, 4]]),
    "one response": ([4, 61], [[5], [60]]),
    "empty responses": ([5, 64], [[0, 4], [0, 0]]),
    "one token each": ([1, 1], [[1, 1], [1, 1]]),
}
ROWS = {  # of each row the groups: a prompt and its responses
    "several groups": [[(3, 2, 5), (130, 1, 0), (9, 7, 7)], [(40, 20, 1)]],
    "one response a group": [[(3, 2), (120, 11), (1, 1)], [(200, 3)]],
}


def dense(q, kv, seen_BSS):
    """One softmax over all keys, the forbidden ones at minus infinity."""
    k, v = (jnp.repeat(x, q.shape[2] // x.shape[2], axis=2) for x in (kv.k, kv.v))
    scores = jnp.einsum("bsnh,bunh->bnsu", q, k) / jnp.sqrt(q.shape[-1])
    return jnp.einsum("bnsu,bunh->bsnh", jax.nn.softmax(jnp.where(seen_BSS[:, None], scores, -jnp.inf)), v)


def group_mask(prompt_len, P, R, G):
    """Who sees whom in [prompt | responses], token by token."""
    owner = np.array([0] * P + [g for g in range(1, G + 1) for _ in range(R)])
    seen = np.zeros((len(prompt_len), len(owner), len(owner)), bool)
    for row, length in zip(seen, prompt_len, strict=True):
        for i, mine in enumerate(owner):
            for j in range(i + 1):
                row[i, j] = i == j or (owner[j] == mine != 0) or (owner[j] == 0 and j < length)
    return jnp.asarray(seen)


def packed_places(rows, S):
    group, branch = np.zeros((2, len(rows), S), np.int32)
    for x, groups in enumerate(rows):
        at = 0
        for number, (prompt, *responses) in enumerate(groups, 1):
            for part, size in enumerate((prompt, *responses)):
                group[x, at : at + size], branch[x, at : at + size] = number, part
                at += size
    return group, branch


def random_inputs(B, S, N=4, K=2, H=16):
    keys = jax.random.split(jax.random.key(0), 3)
    return [jax.random.normal(k, (B, S, heads, H)) for k, heads in zip(keys, (N, K, K), strict=True)]


def outputs_and_gradients(attend, real_BS, inputs):
    """The output where it is real, and the gradient of a random function of it to queries, keys and values."""
    weight = jax.random.normal(jax.random.key(9), inputs[0].shape)

    @jax.jit
    def both(*inputs):
        out, pull = jax.vjp(lambda q, k, v: attend(q, KeyValues(k, v)) * real_BS[..., None, None], *inputs)
        return dict(zip(("out", "dq", "dk", "dv"), (out, *pull(weight)), strict=True))

    return jax.device_get(both(*inputs))


def compare(mine, other):
    for name, expected in other.items():
        assert np.isfinite(mine[name]).all(), name
        assert np.abs(mine[name] - expected).max() <= 1e-5 * max(1.0, np.abs(expected).max()), name


def check(attend, seen_BSS, real_BS, inputs):
    """The implementation equals the dense softmax at all real positions."""
    expected = outputs_and_gradients(lambda q, kv: dense(q, kv, seen_BSS), real_BS, inputs)
    compare(outputs_and_gradients(attend, real_BS, inputs), expected)


@pytest.mark.parametrize("case", GROUPS)
@pytest.mark.parametrize("name", CORES)
def test_groups(name, case):
    prompt_len, lengths = GROUPS[case]
    P, R, G = max(prompt_len) + 3, max(max(row) for row in lengths) + 1, len(lengths[0])
    inputs = random_inputs(len(prompt_len), P + G * R)
    position = np.arange(R)
    real = np.concatenate(
        [np.arange(P) < np.array(prompt_len)[:, None], (position < np.array(lengths)[..., None]).reshape(-1, G * R)], 1
    )
    seen = group_mask(prompt_len, P, R, G)
    length = jnp.asarray(prompt_len)
    check(
        lambda q, kv: attend_group(q, kv, length, P=P, G=G, core=CORES[name]),
        seen,
        real,
        inputs,
    )


@pytest.mark.parametrize("case", ROWS)
@pytest.mark.parametrize("name", CORES)
def test_packed_rows(name, case):
    S = 210
    group, branch = packed_places(ROWS[case], S)
    several = branch.max() > 1
    seen = (group[:, :, None] == group[:, None]) & np.tri(S, dtype=bool)
    if several:
        seen &= (branch[:, None] == 0) | (branch[:, None] == branch[:, :, None])
    places = {"group_BS": jnp.asarray(group), "branch_BS": jnp.asarray(branch) if several else None}
    check(
        lambda q, kv: attend_packed(q, kv, **places, core=CORES[name]),
        jnp.asarray(seen),
        group > 0,
        random_inputs(2, S),
    )


@pytest.mark.parametrize("name", CORES)
@pytest.mark.parametrize("S", [1, 9, 200])
def test_causal_rows(name, S):
    check(
        lambda q, kv: attend_causal(q, kv, core=CORES[name]),
        jnp.tri(S, dtype=bool)[None],
        np.ones((1, S), bool),
        random_inputs(1, S),
    )


@pytest.mark.parametrize(("heads", "kv_heads"), [(4, 2), (4, 1), (6, 3), (3, 1)])
@pytest.mark.parametrize("name", [n for n in CORES if n != "xla"])
def test_kernels_are_split_over_rows_and_heads(name, heads, kv_heads):
    """Also where `tensor` = 2 divides no key and value heads, or no heads at all."""
    check_groups_on_a_mesh(name, heads, kv_heads, tensor=2)


@pytest.mark.parametrize(("heads", "kv_heads", "tensor"), [(12, 2, 2), (12, 2, 4), (14, 2, 4)])
@pytest.mark.parametrize("layout", ["groups", "several groups", "one response a group"])
def test_splash_is_split_over_the_heads_of_real_models(layout, heads, kv_heads, tensor):
    """Those of Qwen2.5: at `tensor` = 4 two key and value heads go to two devices each, and 14 heads to all."""
    if layout == "groups":
        check_groups_on_a_mesh("splash", heads, kv_heads, tensor)
        return
    S = 120
    rows = [[(3, 2, 5), (80, 1, 0), (9, 7, 7)], [(40, 20, 1)]] * 2
    group, branch = packed_places(
        rows if layout == "several groups" else [[group[:2] for group in row] for row in rows], S
    )
    places = {"group_BS": group, "branch_BS": branch if layout == "several groups" else None}
    inputs = random_inputs(len(rows), S, N=heads, K=kv_heads, H=8)
    mine, xla = (
        functools.partial(attend_packed, **jax.tree.map(jnp.asarray, places), core=CORES[name])
        for name in ("splash", "xla")
    )
    with jax.set_mesh(make_mesh(1, 8 // tensor, tensor)):
        got = outputs_and_gradients(mine, group > 0, inputs)
    compare(got, outputs_and_gradients(xla, group > 0, inputs))


def check_groups_on_a_mesh(name, heads, kv_heads, tensor):
    P, R, G = 20, 5, 2
    length = np.array([20, 7, 1, 13])
    inputs = random_inputs(len(length), P + G * R, N=heads, K=kv_heads)
    position = np.arange(P + G * R)
    real = (position < length[:, None]) | (position >= P)

    def attend(q, kv):
        return attend_group(q, kv, jnp.asarray(length), P=P, G=G, core=CORES[name])

    with jax.set_mesh(make_mesh(1, 8 // tensor, tensor)):
        mine = outputs_and_gradients(attend, real, inputs)
    seen = group_mask(length, P, R, G)
    compare(mine, outputs_and_gradients(lambda q, kv: dense(q, kv, seen), real, inputs))


def first_update(core, shape, batch, sizes=(1, 1, 1)):
    """Metrics of an update whose old log-probabilities were just taken, and the parameters after it."""
    mesh = make_mesh(*sizes, devices=jax.devices()[: math.prod(sizes)])
    steps = build_program(shape, mesh, optax.sgd(1.0), loss=make_loss("grpo", Coefficients(kl_coef=0.1)), core=core)
    with jax.set_mesh(mesh):
        state = steps.init(jax.random.key(0))
        old = np.asarray(steps.logprobs(state.params, batch))
        state, metrics = steps.update(state, dataclasses.replace(batch, old_logp_BGR=old))
        return jax.device_get(metrics), jax.device_get(jax.tree.leaves(state.params))


def test_first_update_after_a_rollout_has_ratio_one_and_the_loss_of_xla(tiny_shape, make_groups):
    batch = make_groups([20, 3], [[3, 6], [0, 2]], P=20, R=6)
    metrics = {name: first_update(core, tiny_shape, batch)[0] for name, core in CORES.items()}
    for mine in metrics.values():
        np.testing.assert_allclose(mine["ratio"], 1.0, atol=1e-6)
        for key, expected in metrics["xla"].items():
            np.testing.assert_allclose(mine[key], expected, rtol=1e-4, atol=1e-6, err_msg=key)


@pytest.mark.parametrize("tensor", [2, 4])
def test_an_update_with_heads_on_several_devices_is_that_of_xla_on_one(tensor, make_groups):
    """Two key and value heads, as Qwen2.5 has them: at `tensor` = 4 each is on two devices, its gradient from both."""
    shape = ModelShape(64, 32, 2, heads=12, kv_heads=2, head_dim=8, mlp_width=48, rope_theta=10_000.0, max_position=64)
    batch = make_groups([20, 3, 1, 9], [[3, 6], [0, 2], [6, 6], [1, 5]], P=20, R=6)
    expected, wanted = first_update(CORES["xla"], shape, batch)
    metrics, params = first_update(CORES["splash"], shape, batch, (1, 8 // tensor, tensor))
    np.testing.assert_allclose(metrics["ratio"], 1.0, atol=1e-6)
    for key, value in expected.items():
        np.testing.assert_allclose(metrics[key], value, rtol=1e-4, atol=1e-6, err_msg=key)
    for mine, other in zip(params, wanted, strict=True):  # the gradient is in them, at a learning rate of 1
        np.testing.assert_allclose(mine, other, atol=1e-5)


@pytest.mark.parametrize("layout", ["groups", "rows of groups"])
def test_cudnn_is_what_a_gpu_is_asked_for(layout, monkeypatch):
    """Lowered for a GPU that is not there, forward and backward; the library's version is all that must be made up."""
    monkeypatch.setattr("jax._src.cudnn.fused_attention_stablehlo.check_cudnn_version", lambda: 91_000)
    P, G, R = 256, 4, 63

    def loss(q, k, v, length, group, branch):
        own, core = KeyValues(k, v), AttentionCore("cudnn")
        if layout == "groups":
            out = attend_group(q, own, length, P=P, G=G, core=core)
        else:
            out = attend_packed(q, own, group_BS=group, branch_BS=branch, core=core)
        return jnp.sum(out.astype(jnp.float32))

    def array(*sizes, dtype=jnp.int32):
        return jax.ShapeDtypeStruct((2, *sizes), dtype)

    S = P + G * R
    q, kv = (array(S, heads, 128, dtype=jnp.bfloat16) for heads in (12, 2))
    function = jax.jit(jax.value_and_grad(loss, (0, 1, 2)))
    text = function.trace(q, kv, kv, array(), array(S), array(S)).lower(lowering_platforms=("cuda",)).as_text()
    calls = 2 if layout == "groups" else 1  # prompts and responses; whole rows
    assert len(re.findall(r"@__cudnn\$fmha\w*Softmax\b", text)) == calls
    assert len(re.findall(r"@__cudnn\$fmha\w*SoftmaxBackward\b", text)) == calls
