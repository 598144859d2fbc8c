"""New weights for servers, and rollouts from them: what they take, each beside a peer in the same run.

    python benchmarks/rollout.py export [--model=qwen2.5-1.5b] [--folder=/dev/shm]
        writes a version in bfloat16; the peer is a plain copy of the same file within the folder
    python benchmarks/rollout.py serve --python=VLLM_ENVIRONMENT/bin/python
        a tiny model on a real vLLM: seconds of a whole weight sync by part, tokens a second; the peer is the embedded
        sampler on the same machine

One JSON object a figure.
"""

import argparse
import json
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from stgrpo.data.tokenizer import Tokenizer, train_tokenizer
from stgrpo.envs.robotouille.kitchen.names import OBJECT_NAMES
from stgrpo.models.huggingface.weights import save_description
from stgrpo.models.shapes import ModelShape, named_shapes
from stgrpo.models.sharding import make_mesh
from stgrpo.models.transformer import Transformer
from stgrpo.react.policy import SamplingParams
from stgrpo.sampling.base import Sampler
from stgrpo.sampling.jax.sampler import JaxSampler
from stgrpo.sampling.vllm.sampler import VllmSampler, VllmSettings
from stgrpo.sampling.vllm.server import ServerSettings, VllmServer
from stgrpo.sampling.vllm.weight_sync import SHARED_MEMORY, WeightFolder
from stgrpo.training.start import abstract_model

REPEATS = 3
PROMPTS, GROUP, RESPONSE = 32, 8, 48


def timed(work: Callable[[], object]) -> float:
    """Seconds that something takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def filled(shape: ModelShape) -> Transformer:
    """A model full of numbers that cost nothing to make."""
    abstract = abstract_model(shape, make_mesh())

    def fill(leaf: jax.ShapeDtypeStruct) -> jax.Array:
        row = jnp.linspace(-1.0, 1.0, leaf.shape[-1])
        return jnp.broadcast_to(row, leaf.shape).copy()

    return jax.tree.map(fill, abstract)


def export(name: str, folder: Path) -> None:
    """Writes and copies in turns; medians."""
    weights = WeightFolder(folder, f"benchmark {os.getpid()}", "bfloat16")
    model = filled(named_shapes()[name])
    jax.block_until_ready(model)
    copies, writes, copy = [], [], folder / f"stgrpo-benchmark-{os.getpid()}"
    try:
        for version in range(REPEATS + 1):
            published = weights.publish(model, version)
            weights.remove_before(published)
            copies.append(timed(lambda source=published.path: copy_plainly(source, copy)))
            writes.append(published.seconds)
            copy.unlink()
    finally:
        weights.clear()
        copy.unlink(missing_ok=True)
    write, plain = statistics.median(writes[1:]), statistics.median(copies[1:])  # the first compiles
    show("export", model=name, folder=str(folder), gigabytes=published.size / 1e9, seconds=write, first=writes[0])
    show("export against a plain copy", ratio=plain / write, copy_seconds=plain, writes=writes[1:], copies=copies[1:])


def copy_plainly(source: Path, target: Path) -> None:
    """Reads and writes, as a program does that looks at the bytes; `shutil` would let the kernel share them."""
    with source.open("rb", buffering=0) as a, target.open("wb", buffering=0) as b:
        while piece := a.read(2**22):
            b.write(piece)


def serve(python: str) -> None:
    """One server, tiny model: sync, and tokens a second of both engines."""
    texts = ["a robot moves from table1 to stove1"] * 4
    tokenizer = Tokenizer(train_tokenizer(texts, vocab_size=1024, names=OBJECT_NAMES))
    shape = ModelShape(
        vocab_size=tokenizer.vocab_size,
        width=128,
        depth=3,
        heads=4,
        kv_heads=2,
        head_dim=32,
        mlp_width=384,
        rope_theta=10_000.0,
        max_position=512,
    )
    folder = Path(tempfile.mkdtemp(prefix="stgrpo-benchmark-"))
    save_description(shape, tokenizer, folder, dtype="float32")
    settings = ServerSettings(folder, shape, "float32", 512, python)
    with VllmServer(settings, folder / "log") as server:
        show("start of a server", seconds=timed(server.start))
        sampler = VllmSampler(VllmSettings((server.address,), "benchmark", shape, "float32", 512), tokenizer.stop_ids)
        models = [Transformer(shape, jax.random.key(seed)) for seed in range(4)]
        syncs = [timed(lambda v=v, m=m: sampler.update_weights(m, v)) for v, m in enumerate(models)]
        writes = [sampler.publish(m, 9).seconds for m in models]
        sync, write = statistics.median(syncs[1:]), statistics.median(writes)
        show("weight sync", seconds=sync, writing=write, parameters=shape.parameter_count())
        own = JaxSampler(models[-1], ())
        speeds = {"vllm": [], "embedded": []}
        for _ in range(REPEATS + 1):
            for name, engine in (("vllm", sampler), ("embedded", own)):
                speeds[name].append(tokens_per_second(engine, shape))
        sampler.close()
    vllm, embedded = (statistics.median(speeds[name][1:]) for name in ("vllm", "embedded"))
    show("rollout", vllm_tokens_per_second=vllm, embedded_tokens_per_second=embedded, ratio=vllm / embedded)
    shutil.rmtree(folder)


def tokens_per_second(sampler: Sampler, shape: ModelShape) -> float:
    """Sampled tokens a second of wall time."""
    rng = np.random.default_rng(0)
    prompts = [rng.integers(0, shape.vocab_size, 200).tolist() for _ in range(PROMPTS)]
    start = time.perf_counter()
    got = sampler.generate(prompts, GROUP, SamplingParams(RESPONSE), range(PROMPTS))
    return sum(len(ids) for group in got.tokens for ids in group) / (time.perf_counter() - start)


def show(figure: str, **values: object) -> None:
    """One line."""
    rounded = {k: float(f"{v:.4g}") if isinstance(v, float) else v for k, v in values.items()}
    print(json.dumps({"figure": figure, **rounded}), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("export", "serve"))
    parser.add_argument("--model", default="qwen2.5-1.5b", choices=sorted(named_shapes()))
    parser.add_argument("--folder", type=Path, default=SHARED_MEMORY)
    parser.add_argument("--python", default="")
    arguments = parser.parse_args()
    if arguments.what == "export":
        export(arguments.model, arguments.folder)
    else:
        serve(arguments.python)


if __name__ == "__main__":
    main()
