"""What the embedded sampler's prefills take, whole and behind what all prompts begin with: one JSON line a figure.

    python benchmarks/prefill.py [--shape=smollm2-135m] [--prompts=16] [--prompt=500] [--prefix=300] [--repeats=3]

Random weights, float32; prompts of one length, padded and prefilled a few at a time as the sampler does. The prefix is
read once in each repeat, its time included. CPU seconds of the process for all prompts, the least of the repeats, which
come in turns.
"""

import argparse
import json
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from stgrpo.models.shapes import named_shapes
from stgrpo.models.transformer import Transformer
from stgrpo.sampling.jax.decode import NewPrompts, prefill_prompts, read_prefix
from stgrpo.sampling.jax.slots import SamplerSizes, prefix_length

DTYPE = jnp.dtype("float32")


def prefills(model: Transformer, prompt_BP: np.ndarray, skip: int) -> Callable[[], None]:
    """Reads all prompts, behind the first `skip` tokens of the first one if there are any."""
    count, length = prompt_BP.shape
    sizes = SamplerSizes(length, batch=count)
    padded = np.zeros((-(-count // sizes.rows) * sizes.rows, sizes.length(length) - skip), np.int32)
    padded[:count, : length - skip] = prompt_BP[:, skip:]
    one_each, numbers = np.full(sizes.rows, length, np.int32), np.arange(sizes.rows, dtype=np.int32)

    def run() -> None:
        before = read_prefix(model, prompt_BP[0, :skip], DTYPE) if skip else None
        for part_BP in padded.reshape(-1, sizes.rows, padded.shape[1]):
            new = NewPrompts[np.ndarray](part_BP, one_each, numbers.astype(np.uint32), numbers)
            jax.block_until_ready(prefill_prompts(model, new, sizes.room, DTYPE, before))

    return run


def main() -> None:
    """Times both, in turns."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", default="smollm2-135m")
    for name, value in {"prompts": 16, "prompt": 500, "prefix": 300, "repeats": 3}.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    given = parser.parse_args()
    shape = named_shapes()[given.shape]
    model = jax.jit(lambda: Transformer(shape, jax.random.key(0)))()
    prompt_BP = np.random.default_rng(0).integers(0, shape.vocab_size, (given.prompts, given.prompt), np.int32)
    prompt_BP[:, : given.prefix] = prompt_BP[0, : given.prefix]
    runs = {skip: prefills(model, prompt_BP, skip) for skip in (0, prefix_length(given.prefix, given.prompt))}
    seconds: dict[int, list[float]] = {skip: [] for skip in runs}
    for repeat in range(given.repeats + 1):  # the first compiles
        for skip, run in runs.items():
            start = time.process_time()
            run()
            if repeat:
                seconds[skip].append(time.process_time() - start)
    for skip, took in seconds.items():
        print(
            json.dumps({"prompts": given.prompts, "prompt": given.prompt, "apart": skip, "cpu_s": round(min(took), 2)})
        )


if __name__ == "__main__":
    main()
