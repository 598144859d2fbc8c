"""The kernels of TPUs and GPUs compiled for devices that are not there, at the shapes of real models."""

import importlib.util

import jax
import jax.numpy as jnp
import optax
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from stgrpo.models.attention.xla import AttentionCore, KeyValues, attend_group, attend_packed
from stgrpo.models.shapes import ModelShape
from stgrpo.models.sharding import BATCH_AXES, make_mesh
from stgrpo.plan.topologies import target
from stgrpo.rl.losses import Coefficients, make_loss
from stgrpo.sampling.jax.decode import prefill
from stgrpo.training.batch import LossTerms
from stgrpo.training.packing import PackedBatch
from stgrpo.training.start import abstract_model
from stgrpo.training.step import build_program

pytestmark = [pytest.mark.slow, pytest.mark.compilers]
WORKSPACE = {"splash": 0, "cudnn": 2**25}  # of cuBLAS, as XLA gives it
PLACES = {  # core: package of the compiler, topology, what a call of the kernel is named
    "splash": ("libtpu", "v5e:2x2", "tpu_custom_call"),
    "cudnn": ("jax_cuda13_plugin", "h100:4", 'custom_call_target="__cudnn$fmha'),
}
P, G, R = 768, 8, 128
S = P + G * R


@pytest.fixture(scope="module", params=list(PLACES))
def place(request):
    """The name of a core, devices for it, a function that compiles for them and one that counts calls of the kernel."""
    package, topology, call = PLACES[request.param]
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"needs the compiler in the package {package}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TPU_SKIP_MDS_QUERY", "1")
        patch.setenv("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")
        there = target(topology)
        yield (
            AttentionCore(request.param),
            there.devices,
            lambda lowered: lowered.compile(compiler_options=dict(there.options)),
            lambda compiled: compiled.as_text().count(call),
        )


@pytest.mark.parametrize("layout", ["groups", "rows", "rows of groups"])
@pytest.mark.parametrize(
    ("heads", "kv_heads", "head_dim", "tensor"), [(12, 2, 128, 1), (14, 2, 64, 1), (12, 2, 128, 2), (12, 2, 128, 4)]
)
def test_forward_and_backward_compile_without_scores_in_memory(place, heads, kv_heads, head_dim, tensor, layout):
    core, devices, compile_for, calls = place
    mesh = make_mesh(1, -1, tensor, devices)
    B = 2 * mesh.shape["fsdp"]

    def array(*sizes, dtype=jnp.int32, heads=None):
        spec = PartitionSpec(BATCH_AXES, *([None, heads] if heads else []))
        return jax.ShapeDtypeStruct((B, *sizes), dtype, sharding=NamedSharding(mesh, spec))

    q = array(S, heads, head_dim, dtype=jnp.bfloat16, heads="tensor")
    kv = array(S, kv_heads, head_dim, dtype=jnp.bfloat16, heads="tensor" if kv_heads % tensor == 0 else None)

    def loss(q, k, v, length, group, branch):
        own = KeyValues(k, v)
        if layout == "groups":
            out = attend_group(q, own, length, P=P, G=G, core=core)
        else:
            several = branch if layout == "rows of groups" else None
            out = attend_packed(q, own, group_BS=group, branch_BS=several, core=core)
        return jnp.sum(out.astype(jnp.float32) ** 2)

    with jax.set_mesh(mesh):
        function = jax.jit(jax.value_and_grad(loss, (0, 1, 2)))
        compiled = compile_for(function.lower(q, kv, kv, array(), array(S), array(S)))
    assert calls(compiled) >= (3 if core.name == "splash" else 2)  # forward, and backward (for queries and for keys)
    scores = 2 * heads // tensor * S * S * 4  # a device's, in float32
    masked = {"splash": ["rows of groups"], "cudnn": ["rows", "rows of groups"]}[core.name]
    masks = 8 * 2 * S * S if layout in masked else 0
    assert compiled.memory_analysis().temp_size_in_bytes < 0.4 * scores + masks + WORKSPACE[core.name]


@pytest.mark.parametrize("tensor", [1, 2])
def test_a_prefill_compiles_without_scores_in_memory(place, tensor):
    """Of the sampler: prompts of 2048 tokens in a model with the heads of Qwen2.5-1.5B, two layers, bfloat16."""
    core, devices, compile_for, calls = place
    shape = ModelShape(1024, 1536, 2, heads=12, kv_heads=2, head_dim=128, mlp_width=1024, max_position=4096)
    mesh, B, length = make_mesh(1, -1, tensor, devices), 2 * len(devices) // tensor, 2048
    model = abstract_model(shape, mesh, core=core)
    rows = NamedSharding(mesh, PartitionSpec(BATCH_AXES))
    prompts = (jax.ShapeDtypeStruct(sizes, jnp.int32, sharding=rows) for sizes in ((B, length), (B,)))
    with jax.set_mesh(mesh):
        compiled = compile_for(jax.jit(prefill, static_argnums=3).lower(model, *prompts, jnp.dtype("bfloat16")))
    assert calls(compiled)
    scores = 2 * 12 // tensor * length**2 * 4  # a device's, in float32
    assert compiled.memory_analysis().temp_size_in_bytes < 0.4 * scores + WORKSPACE[core.name]


@pytest.mark.parametrize("tensor", [2, 4])
def test_an_update_compiles_with_heads_on_several_devices(place, tensor):
    """GRPO in packed rows, with two key and value heads for two and for four devices."""
    core, devices, compile_for, calls = place
    shape = ModelShape(1024, 256, 2, heads=12, kv_heads=2, head_dim=128, mlp_width=512, max_position=4096)
    mesh = make_mesh(1, -1, tensor, devices)
    steps = build_program(
        shape,
        mesh,
        optax.sgd(1.0),
        loss=make_loss("grpo", Coefficients(kl_coef=0.1)),
        dtype=jnp.dtype("bfloat16"),
        core=core,
    )
    rows = NamedSharding(mesh, PartitionSpec(BATCH_AXES))

    def array(*sizes, dtype=jnp.float32):
        return jax.ShapeDtypeStruct((2 * mesh.shape["fsdp"], *sizes), dtype, sharding=rows)

    whole, some = array(S, dtype=jnp.int32), array(G * R, dtype=jnp.int32)
    terms = LossTerms(*(array(G * R),) * 7)
    with jax.set_mesh(mesh):
        batch = PackedBatch(*(whole,) * 4, *(some,) * 2, terms=terms)
        compiled = compile_for(steps.update.lower(steps.abstract, batch))
    assert calls(compiled) >= 2
    scores = 2 * 12 // tensor * S * S * 4  # a device's, in float32
    assert compiled.memory_analysis().temp_size_in_bytes < scores + WORKSPACE[core.name]
