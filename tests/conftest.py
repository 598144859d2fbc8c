"""Shared by all tests: eight fake CPU devices, tiny models, and the recorded traces of the benchmark."""

import os
import pathlib

os.environ.setdefault("JAX_PLATFORMS", "cpu")
if "xla_force_host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
    os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
if "xla_backend_optimization_level" not in os.environ["XLA_FLAGS"]:  # programs are tiny: compiling is what takes time
    os.environ["XLA_FLAGS"] += " --xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"

import pytest  # noqa: E402

REPOSITORY = pathlib.Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def traces_dir() -> pathlib.Path:
    """Recorded runs of the real engine; they live beside the project, not in it."""
    path = REPOSITORY.parent / "shared" / "traces"
    if not path.is_dir():
        pytest.skip("the recorded traces are not at hand (../shared/traces)")
    return path


@pytest.fixture(scope="session")
def tiny_shape():
    """A decoder small enough to compile in a second, with grouped heads, biases and a tied head."""
    from stgrpo.models.shapes import ModelShape

    return ModelShape(64, 32, 2, heads=4, kv_heads=2, head_dim=8, mlp_width=48, rope_theta=10_000.0, max_position=64)


@pytest.fixture(scope="session")
def make_model():
    """`make_model(shape, seed)`: random parameters, none of them left at the constant where norms and biases start."""
    import functools

    import jax

    from stgrpo.models.transformer import Transformer

    @functools.partial(jax.jit, static_argnums=0)
    def make(shape, seed=0):
        leaves, form = jax.tree.flatten(Transformer(shape, jax.random.key(seed)))
        keys = jax.random.split(jax.random.key(seed + 1), len(leaves))
        return form.unflatten([x + 0.1 * jax.random.normal(k, x.shape) for x, k in zip(leaves, keys, strict=True)])

    return make


@pytest.fixture(scope="session")
def make_groups():
    """`make_groups(prompt_lengths, response_lengths, ...)`: a random `GroupBatch`, its padding full of random ids."""
    import numpy as np

    from stgrpo.training.grpo import GroupBatch, loss_weights

    def make(prompt_len_B, length_BG, *, vocab=64, P=None, R=None, aggregation="token_mean", seed=0):
        rng = np.random.default_rng(seed)
        prompt_len_B, length_BG = np.asarray(prompt_len_B, np.int32), np.asarray(length_BG, np.int32)
        (B, G), P, R = length_BG.shape, P or int(prompt_len_B.max()), R or max(1, int(length_BG.max()))
        weight_BGR = np.asarray(loss_weights(length_BG, R, aggregation))
        return GroupBatch(
            prompt_BP=rng.integers(0, vocab, (B, P), np.int32),
            prompt_len_B=prompt_len_B,
            response_BGR=rng.integers(0, vocab, (B, G, R), np.int32),
            weight_BGR=weight_BGR,
            mask_BGR=(weight_BGR > 0).astype(np.float32),
            adv_BG=rng.normal(size=(B, G)).astype(np.float32),
            ref_logp_BGR=rng.uniform(-5, -3, (B, G, R)).astype(np.float32),
        )

    return make
