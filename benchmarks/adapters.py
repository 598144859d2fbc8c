"""What an SFT update takes with adapters in all layers and in the last ones alone: one JSON line a figure.

    python benchmarks/adapters.py [--layers=0,15,8] [--prompt=896] [--response=64] [--repeats=3]
                                  [--prefix=0] [--examples=1] [--parts=0]

SmolLM2-135M's shape with random weights, float32, layers not computed again, examples one after the other or in so
many parts; 0 are all 30 layers. Where fewer have adapters each update is taken twice: through all layers, and behind
what the frozen ones gave (`sft.keep_frozen`), which once an example takes `frozen_cpu_seconds`. With a prefix, so many
tokens of all prompts are the same and taken once an update (`sft.share_prefix`), beside the same update without that.
Updates come in turns; CPU seconds of the process an example, the least of the repeats, and what XLA plans for
temporaries.
"""

import argparse
import dataclasses
import json
import time

import jax
import numpy as np
import optax

from stgrpo.models.flops import training_flops
from stgrpo.models.lora import Lora
from stgrpo.models.shapes import named_shapes
from stgrpo.models.sharding import make_mesh
from stgrpo.rl.losses import make_loss
from stgrpo.training.batch import GroupBatch
from stgrpo.training.step import build_program

SHAPE = named_shapes()["smollm2-135m"]


def examples(count: int, prompt: int, response: int) -> GroupBatch:
    """Prompts with one response each, all of it in the loss."""
    rng = np.random.default_rng(0)
    each = np.ones((count, 1, response), np.float32)
    return GroupBatch(
        prompt_BP=rng.integers(0, SHAPE.vocab_size, (count, prompt), np.int32),
        prompt_len_B=np.full(count, prompt, np.int32),
        response_BGR=rng.integers(0, SHAPE.vocab_size, (count, 1, response), np.int32),
        weight_BGR=each / each.sum(),
        mask_BGR=each,
        adv_BG=np.zeros((count, 1), np.float32),
        ref_logp_BGR=0 * each,
    )


class Job:
    """A compiled update and its state."""

    def __init__(self, batch: GroupBatch, layers: int, prefix: int, parts: int, keeps: bool):
        mesh, self.lora = make_mesh(1, devices=jax.devices()[:1]), Lora(16, 32.0, layers=layers)
        options = {"loss": make_loss("sft"), "remat": False, "lora": self.lora}
        options |= {"micro_batches": parts or len(batch.prompt_BP), "prefix": range(prefix)}
        self.counts, self.prefix, self.keeps = batch.counts.behind(prefix), prefix, keeps
        self.program, self.batch = build_program(SHAPE, mesh, optax.adam(1e-5), **options), jax.device_put(batch)
        self.state, self.seconds = self.program.init(jax.random.key(0)), []
        self.frozen = []
        if keeps:
            self._keep()
        compiled = self.program.update.lower(self.program.abstract, self.batch).compile()
        self.layers, self.temporary = layers, compiled.memory_analysis().temp_size_in_bytes

    def _keep(self) -> None:
        for _ in range(2):  # the first compiles
            start = time.process_time()
            below_BSD = jax.block_until_ready(self.program.below(self.state, self.batch))
            self.frozen.append(time.process_time() - start)
        self.batch = dataclasses.replace(self.batch, below_BSD=below_BSD)

    def run(self) -> None:
        """One update."""
        start = time.process_time()
        self.state, metrics = self.program.update(self.state, self.batch)
        jax.block_until_ready(metrics)
        self.seconds.append(time.process_time() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", default="0,15,8")
    parser.add_argument("--prompt", type=int, default=896)
    parser.add_argument("--response", type=int, default=64)
    parser.add_argument("--prefix", type=int, default=0)
    parser.add_argument("--examples", type=int, default=1)
    parser.add_argument("--parts", type=int, default=0)
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()
    ways = [
        (int(layers), prefix, keeps)
        for layers in given.layers.split(",")
        for prefix in sorted({0, given.prefix})
        for keeps in ((False, True) if int(layers) else (False,))
    ]
    jobs = [
        Job(examples(given.examples, given.prompt - prefix, given.response), layers, prefix, given.parts, keeps)
        for layers, prefix, keeps in ways
    ]
    for _ in range(given.repeats + 1):  # the first is not counted
        for job in jobs:
            job.run()
    for job in jobs:
        figures = {"cpu_seconds": min(job.seconds[1:]) / given.examples, "temporary_gib": job.temporary / 2**30}
        if job.keeps:
            figures["frozen_cpu_seconds"] = job.frozen[-1] / given.examples
        needed = training_flops(SHAPE, job.counts, job.lora, keeps_frozen=job.keeps) / 1e12 / given.examples
        way = {"layers": job.layers or SHAPE.depth, "prefix": job.prefix, "keeps_frozen": job.keeps}
        print(json.dumps({**way, **figures, "tflop_needed": needed}), flush=True)


if __name__ == "__main__":
    main()
