"""What two checks cost that are always on, with and without in one run: one JSON line a figure.

    python benchmarks/checks.py [--repeats=5] [--only=finite,mask,draw]

The model, batch and loss are those of train_step.py, a GRPO update of 8 prompts of 512 tokens with 8 responses of 64.
`finite`: the update against one that does not look at its new parameters and optimiser state. `mask`: the update where
96 of 4096 rows of the head have no token against one where all have. `draw`: the same for sampling these responses.
A ratio is with the check over without; times of both are taken in turns.
"""

import functools
from collections.abc import Callable
from unittest import mock

import jax
from peer import SHAPE, B, G, R, in_turns, parse, say, timed
from sampler import prompts
from train_step import GRPO, Job, grpo_batch

from stgrpo.models.transformer import Transformer
from stgrpo.react.policy import SamplingParams
from stgrpo.sampling.jax.sampler import JaxSampler
from stgrpo.training import step

PADDED = SHAPE.with_tokens(4000)


def update(padded: bool = False) -> Callable[[], object]:
    shape = PADDED if padded else SHAPE
    job = Job(shape, grpo_batch(PADDED), loss=GRPO, remat=True)
    job.run()
    return job.run


def unchecked_update() -> Callable[[], object]:
    with mock.patch.object(step, "state_flags", return_value={}):
        return update()


def draw(padded: bool = False) -> Callable[[], object]:
    policy = jax.jit(Transformer, static_argnums=0)(PADDED if padded else SHAPE, jax.random.key(0))
    rows = (prompts(B) % PADDED.real_vocab).tolist()
    return functools.partial(JaxSampler(policy, stop_ids=()).generate, rows, G, SamplingParams(R), list(range(B)))


FIGURES = {
    "finite": lambda: (update(), unchecked_update()),
    "mask": lambda: (update(padded=True), update()),
    "draw": lambda: (draw(padded=True), draw()),
}


def main() -> None:
    arguments = parse(__doc__)
    for name in arguments.only.split(",") if arguments.only else FIGURES:
        checked, unchecked = FIGURES[name]()
        without, with_it = in_turns(unchecked, functools.partial(timed, checked), arguments.repeats)
        say(
            name,
            ratio_cpu=with_it["cpu_s"] / without["cpu_s"],
            with_cpu_s=with_it["cpu_s"],
            without_cpu_s=without["cpu_s"],
        )


if __name__ == "__main__":
    main()
