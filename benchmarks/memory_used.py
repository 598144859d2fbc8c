"""Peak memory of an update and of a sampling call, as compiled, which `stgrpo plan` tells, and as used: JSON lines.

    python benchmarks/memory_used.py [--config=configs/tiny.py] [--only=update,sample] [--config.grpo.prompts=8 ...]

`update`: the GRPO update on the largest batch that the config's limits allow, the state included. `sample`: responses
to the prompts of one rollout, all as long as the limits, without the policy's own parameters: the weights for decoding,
the slots, and the larger of what the prefill and the decode loop need besides. What is used is the growth of the
process from before the arrays are made to its peak (Linux counts pages that were touched), or on other devices the
allocator's peak. As compiled: XLA's own peak, or arguments, temporaries and results for a CPU, whose own is too low.
"""

import argparse
import functools
import gc
import json
import os
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from stgrpo.cli import parse
from stgrpo.models.sharding import make_mesh
from stgrpo.models.transformer import Transformer
from stgrpo.plan.batches import abstract_batch
from stgrpo.plan.compiling import peak_bytes
from stgrpo.plan.sampling import sampling_memory
from stgrpo.react.policy import SamplingParams
from stgrpo.rl.programs import train_program
from stgrpo.sampling.jax.sampler import JaxSampler
from stgrpo.training.context import attention_core
from stgrpo.training.start import abstract_model, starting_shape


def zeros(tree: object) -> object:
    """Arrays for shapes with or without shardings."""
    return jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype, device=getattr(x, "sharding", None)), tree)


def used(call: Callable[[], object]) -> int:
    """Bytes by which a call's peak is over what was in use before it."""
    gc.collect()
    stats = jax.devices()[0].memory_stats()
    if stats:  # its peak is of the whole process: nothing before may have been larger
        before = stats["bytes_in_use"]
        jax.block_until_ready(call())
        return jax.devices()[0].memory_stats()["peak_bytes_in_use"] - before
    Path("/proc/self/clear_refs").write_text("5")  # the peak is now what is in use
    before = _resident("VmRSS")
    jax.block_until_ready(call())
    return _resident("VmHWM") - before


def _resident(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(field))


def say(figure: str, predicted: int, measured: int, **values: int) -> None:
    """One JSON line, in megabytes."""
    line = {"predicted_mb": predicted, "measured_mb": measured} | {f"{k}_mb": v for k, v in values.items()}
    short = {k: round(v / 1e6, 1) for k, v in line.items()}
    print(json.dumps({"figure": figure} | short | {"ratio": round(measured / predicted, 3)}), flush=True)


def update_figure(config: ConfigDict) -> None:
    """Prints the update's."""
    mesh = make_mesh(1, devices=jax.devices()[:1])
    steps = train_program(config, "grpo", starting_shape(config), mesh, updates=100)
    batch = abstract_batch(config, mesh)
    with jax.set_mesh(mesh):
        compiled = steps.update.lower(steps.abstract, batch).compile()
        memory = compiled.memory_analysis()
        zeros(steps.abstract)  # compiles what makes zeros
        measured = used(lambda: compiled(zeros(steps.abstract), zeros(batch)))
    sizes = {"arguments": memory.argument_size_in_bytes, "temporary": memory.temp_size_in_bytes}
    say(f"update, {batch.shape_text}", peak_bytes(compiled, mesh), measured, **sizes)


def sample_figure(config: ConfigDict) -> None:
    """Prints the sampler's."""
    mesh, shape = make_mesh(1, devices=jax.devices()[:1]), starting_shape(config)
    policy = abstract_model(shape, mesh, core=attention_core(config, shape, mesh))
    predicted = sampling_memory(config, policy, mesh)
    G, P, params = (
        config.grpo.group_size,
        config.limits.prompt,
        SamplingParams(config.limits.response, config.grpo.temperature),
    )
    model = jax.device_put(jax.jit(Transformer, static_argnums=0)(shape, jax.random.key(0)), mesh.devices.flat[0])
    model = jax.tree.unflatten(jax.tree.structure(policy), jax.tree.leaves(model))
    sampler = JaxSampler(
        model,
        (),
        dtype=jnp.dtype(config.model.dtype),
        batch=config.rollout.batch,
        limit=P,
        largest={G: config.grpo.prompts},
        mesh=mesh,
    )
    prompts = np.random.default_rng(0).integers(0, shape.vocab_size, (config.grpo.prompts, P)).tolist()
    call = functools.partial(sampler.generate, prompts, G, params, list(range(len(prompts))))
    call()  # compiles
    measured = used(lambda: [call() and 0])
    sizes = {name: getattr(predicted, name) for name in ("weights", "slots", "temporary")}
    say(
        f"sample, {len(prompts)} prompts of {P}, {G} responses of {params.max_tokens}",
        predicted.peak,
        measured,
        **sizes,
    )


def main() -> None:
    """Prints all figures, or those asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="configs/tiny.py")
    parser.add_argument("--only", default="update,sample")
    arguments, changes = parser.parse_known_args()
    config = parse(["plan", f"--config={arguments.config}", *changes]).config
    for name, figure in (("update", update_figure), ("sample", sample_figure)):
        if name in arguments.only.split(","):
            figure(config)


if __name__ == "__main__":
    main()
