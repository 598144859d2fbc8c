"""Optimisers against NumPy, and their state: its size, its shards, and what a checkpoint gives back."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import PartitionSpec as P

from stgrpo.models.shapes import ModelShape
from stgrpo.models.sharding import make_mesh
from stgrpo.rl.losses import make_loss
from stgrpo.training.checkpointing import CheckpointMetadata, Checkpoints
from stgrpo.training.optimiser import OptimiserSettings, learning_rate, make_optimiser
from stgrpo.training.step import build_program

PLAIN = OptimiserSettings(1e-2, 0, 10, schedule="constant", clip_norm=0.0)
KINDS = {
    "adamw": PLAIN,
    "bf16 moments": dataclasses.replace(PLAIN, moment_dtype="bfloat16"),
    "muon": dataclasses.replace(PLAIN, name="muon"),
    "adafactor": dataclasses.replace(PLAIN, name="adafactor"),
}
# Large enough in width and MLP for Adafactor to keep means over rows and columns.
SHAPE = ModelShape(vocab_size=64, width=128, depth=2, heads=4, kv_heads=2, head_dim=8, mlp_width=160)


def changes_of(settings, gradients, params):
    """What an optimiser makes of a sequence of gradients."""
    optimiser, made = make_optimiser(settings), []
    state = optimiser.init(params)
    for gradient in gradients:
        changes, state = jax.jit(optimiser.update)(gradient, state, params)
        made.append(changes)
    return made, state


def noise(seed, *sizes):
    return np.random.default_rng(seed).normal(size=sizes).astype(np.float32)


def test_adamw_by_hand():
    settings = dataclasses.replace(PLAIN, weight_decay=0.1, clip_norm=1.0)
    params = {"q": noise(0, 3, 4), "q_bias": noise(1, 4)}
    gradients = [{"q": noise(i, 3, 4), "q_bias": noise(9 + i, 4)} for i in range(3)]
    made, _ = changes_of(settings, gradients, params)
    mu, nu = (dict.fromkeys(params, 0.0) for _ in range(2))
    for step, (gradient, changes) in enumerate(zip(gradients, made, strict=True), start=1):
        norm = np.sqrt(sum((g**2).sum() for g in gradient.values()))
        for name, g in gradient.items():
            g = g / max(norm, 1.0)
            mu[name], nu[name] = 0.9 * mu[name] + 0.1 * g, 0.95 * nu[name] + 0.05 * g**2
            wanted = mu[name] / (1 - 0.9**step) / (np.sqrt(nu[name] / (1 - 0.95**step)) + 1e-8)
            wanted = wanted + (0.1 * params[name] if name == "q" else 0.0)  # no decay of biases
            np.testing.assert_allclose(changes[name], -1e-2 * wanted, rtol=1e-5, atol=1e-8)


def test_adafactor_by_hand():
    params, gradients = {"gate": noise(0, 130, 140), "q_bias": noise(1, 5)}, []
    for i in range(3):
        gradients.append({"gate": noise(2 + i, 130, 140) * np.arange(1, 141, dtype=np.float32), "q_bias": noise(7, 5)})
    made, state = changes_of(KINDS["adafactor"], gradients, params)
    row, column, second = np.zeros(140), np.zeros(130), np.zeros(5)
    for step, (gradient, changes) in enumerate(zip(gradients, made, strict=True), start=1):
        decay = 1 - step**-0.8
        square = gradient["gate"].astype(np.float64) ** 2
        row = decay * row + (1 - decay) * square.mean(0)
        column = decay * column + (1 - decay) * square.mean(1)
        second = decay * second + (1 - decay) * gradient["q_bias"] ** 2
        estimate = {"gate": np.outer(column, row) / row.mean(), "q_bias": second}
        for name, v in estimate.items():
            wanted = gradient[name] / np.sqrt(v)
            wanted /= max(1.0, np.sqrt((wanted**2).mean()))
            np.testing.assert_allclose(changes[name], -1e-2 * wanted, rtol=1e-4, atol=1e-7)
    assert sum(x.size for x in jax.tree.leaves(state)) < 300  # of 18,205 parameters


@pytest.mark.parametrize(
    ("name", "sizes", "inputs"), [("q", (2, 6, 4, 2), 6), ("o", (2, 4, 2, 6), 8), ("up", (2, 6, 9), 6)]
)
def test_muon_turns_a_layers_map_by_its_gradient_made_orthogonal(name, sizes, inputs):
    """The first change: singular vectors of the gradient, singular values near 1, of AdamW's size."""
    gradient = noise(0, *sizes) * np.array([1.0, 1e-3]).reshape(2, *[1] * (len(sizes) - 1))
    (changes,), _ = changes_of(KINDS["muon"], [{name: gradient}], {name: gradient})
    for layer in range(2):  # each by itself, however large its gradient
        g, c = (np.asarray(x[layer], np.float64).reshape(inputs, -1) for x in (gradient, changes[name]))
        left, _, right = np.linalg.svd(g, full_matrices=False)
        inside = left.T @ (c / (-1e-2 * 0.2 * np.sqrt(max(g.shape)))) @ right.T
        np.testing.assert_allclose(inside, np.diag(np.diag(inside)), atol=1e-3)
        assert np.all(np.abs(np.diag(inside) - 0.95) < 0.3)  # five steps of Newton and Schulz come no nearer
        assert 0.001 < np.sqrt((c**2).mean()) < 0.0025


def test_muon_leaves_embedding_norms_and_biases_to_adamw():
    gradients = [
        {"embedding": noise(i, 5, 3), "q_bias": noise(9 + i, 2, 3), "final_norm": noise(4, 3)} for i in range(3)
    ]
    (muon, _), (adamw, _) = (changes_of(KINDS[k], gradients, gradients[0]) for k in ("muon", "adamw"))
    jax.tree.map(np.testing.assert_array_equal, muon, adamw)


def test_moments_in_bfloat16_cost_less_than_a_hundredth_of_a_change():
    """Rounding to the nearest, for gradients over six orders of magnitude that shrink tenfold over 400 updates."""
    scale = 10.0 ** np.random.default_rng(0).uniform(-6, 0, 2048)
    params = {"q": np.zeros(2048, np.float32)}
    gradients = [{"q": (scale * 10 ** (-i / 400) * (0.3 + noise(i, 2048))).astype(np.float32)} for i in range(400)]
    (exact, _), (rounded, state) = (changes_of(KINDS[k], gradients, params) for k in ("adamw", "bf16 moments"))
    moments = [x.dtype for x in jax.tree.leaves(state) if x.size > 1]
    assert moments == [jnp.bfloat16, jnp.bfloat16]
    for step in (0, 10, 399):
        mine, other = rounded[step]["q"], exact[step]["q"]
        assert jnp.linalg.norm(mine - other) < 0.01 * jnp.linalg.norm(other)
        assert abs(float(jnp.vdot(mine, other) / jnp.vdot(other, other)) - 1) < 1e-3  # and no shorter


def test_moments_that_rounding_would_stop_are_refused():
    with pytest.raises(ValueError, match="b2=0.999"):
        make_optimiser(dataclasses.replace(KINDS["bf16 moments"], b2=0.999))


@pytest.fixture(scope="module")
def batch(make_groups):
    rng = np.random.default_rng(0)
    return make_groups(rng.integers(1, 9, 8), rng.integers(1, 7, (8, 2)), P=8, R=6)


def steps_on(sizes, kind):
    mesh = make_mesh(*sizes, devices=jax.devices()[: int(np.prod(sizes))])
    return build_program(SHAPE, mesh, make_optimiser(KINDS[kind]), loss=make_loss("sft"))


def updated(steps, state, batch, count):
    """The state after some updates, and their losses and gradient norms."""
    metrics = []
    with jax.set_mesh(steps.mesh):
        for _ in range(count):
            state, values = steps.update(state, batch)
            metrics.append([float(values["loss"]), float(values["grad_norm"])])
    return state, metrics


def start(steps, make_model):
    return steps.init_from(jax.device_put(make_model(SHAPE), jax.tree.map(lambda x: x.sharding, steps.abstract.params)))


@pytest.mark.parametrize("kind", KINDS)
def test_updates_on_eight_devices_equal_those_on_one_and_go_on_from_a_checkpoint(kind, make_model, batch, tmp_path):
    one, eight = steps_on((1, 1, 1), kind), steps_on((2, 2, 2), kind)
    _, expected = updated(one, start(one, make_model), batch, 4)
    state, metrics = updated(eight, start(eight, make_model), batch, 2)
    checkpoints = Checkpoints(tmp_path / "sft")
    checkpoints.save(state, CheckpointMetadata("sft", 2, 4, SHAPE, {}, {}))
    _, rest = updated(eight, state, batch, 2)
    np.testing.assert_allclose(metrics + rest, expected, rtol=1e-4)
    state, _ = checkpoints.restore(eight.abstract)
    assert updated(eight, state, batch, 2)[1] == rest  # to the last bit
    state, _ = checkpoints.restore(one.abstract)
    np.testing.assert_allclose(updated(one, state, batch, 2)[1], expected[2:], rtol=1e-4)


def test_the_state_is_cut_as_its_parameters_are():
    def shards(tree):
        return {
            jax.tree_util.keystr(path): x.size // int(np.prod(x.sharding.shard_shape(x.shape)))
            for path, x in jax.tree_util.tree_leaves_with_path(tree)
        }

    adam = steps_on((2, 2, 2), "bf16 moments").abstract
    moments = optax.tree.get(adam.opt_state, "mu")
    assert set(shards(moments).items()) == set(shards(adam.params).items())
    factored = steps_on((2, 2, 2), "adafactor").abstract.opt_state
    rows, columns, whole = (optax.tree.get(factored, name) for name in ("v_row", "v_col", "v"))
    # gate is [L, D over fsdp, M over tensor]; its mean over M is [L, D], that over D [L, M]. q is kept whole.
    assert rows.layers.gate.shape == (2, 128) and rows.layers.gate.sharding.spec == P(None, "fsdp")
    assert columns.layers.gate.shape == (2, 160) and columns.layers.gate.sharding.spec == P(None, "tensor")
    assert whole.layers.q.sharding.spec == P(None, "fsdp", "tensor", None)
    assert whole.layers.gate.shape == (1,) and whole.layers.gate.sharding.is_fully_replicated


@pytest.mark.parametrize("schedule", ["cosine", "constant"])
@pytest.mark.parametrize("total", [1, 2, 3, 10])
@pytest.mark.parametrize("warm", [0, 1, 2, 3, 9, 10, 99])
def test_no_update_has_a_rate_of_zero_and_at_least_one_the_peak(schedule, total, warm):
    rate = learning_rate(OptimiserSettings(2.0, warm, total, schedule=schedule))
    rates, kept = [float(rate(i)) for i in range(total)], min(warm, total - 1)
    np.testing.assert_allclose(rates[: kept + 1], [2.0 * (i + 1) / (kept + 1) for i in range(kept + 1)], rtol=1e-6)
    after = np.arange(total - kept) / (total - kept)
    cosine = 2.0 * (0.1 + 0.9 * (1 + np.cos(np.pi * after)) / 2)
    np.testing.assert_allclose(rates[kept:], cosine if schedule == "cosine" else [2.0] * len(after), rtol=1e-6)


def test_the_first_update_changes_the_parameters():
    settings = dataclasses.replace(PLAIN, warmup_steps=3)
    ((changes,), _) = changes_of(settings, [{"q": np.ones(4, np.float32)}], {"q": np.zeros(4, np.float32)})
    np.testing.assert_allclose(changes["q"], -1e-2 / 4, rtol=1e-5)
