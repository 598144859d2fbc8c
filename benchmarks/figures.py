"""Figures that show a regression: cheap, and ratios, bytes and counts instead of seconds. One JSON line a figure.

    python benchmarks/figures.py [--only=engine,planner,memory,padding,programs]

`engine`: CPU time of a step of a random walk with text, in steps of a plain Python loop in the same process, in turns,
the fastest of each. `planner`: steps that the search tries on five test kitchens of two tasks. `memory`: bytes that XLA
plans for the tiny config's update and for its sampler, on one CPU device. `padding`: the share of tokens computed for
nothing when 32 groups of one size each, or rows of 2048 tokens, hold them. `programs`: what the embedded sampler has
compiled for eight calls with 1 to 48 prompts.

`compare.py` compares them with those of `baselines/`.
"""

import argparse
import json
import os
import pathlib
import random
import sys
import time
from collections.abc import Callable, Iterable, Iterator

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax

from stgrpo.cli import parse
from stgrpo.data.padding import bucket
from stgrpo.envs.robotouille import RobotouilleProblem, State, make
from stgrpo.envs.robotouille.kitchen.benchmark import TESTING_SEEDS
from stgrpo.envs.robotouille.planner.planner import RobotouillePlanner
from stgrpo.models.shapes import ModelShape
from stgrpo.models.transformer import Transformer
from stgrpo.plan.programs import compile_update, stage_programs
from stgrpo.plan.sampling import sampling_memory
from stgrpo.plan.topologies import target
from stgrpo.react.policy import SamplingParams
from stgrpo.sampling.jax.sampler import JaxSampler
from stgrpo.training.packing import fit_rows

TINY = pathlib.Path(__file__).resolve().parents[1] / "configs" / "tiny.py"
Figures = Iterator[tuple[str, float]]


def engine() -> Figures:
    """Yields the time of a step in several kitchens, in plain steps."""
    for task, layout in (("burger", "default"), ("double_cheese_burger", "test:42")):
        problem = make(task, layout)
        turns = [(_seconds(_walk, problem, 4_000), _seconds(_plain_steps, 4_000)) for _ in range(15)]
        step, unit = map(min, zip(*turns, strict=True))
        yield f"engine/{task}/{layout}", step / unit


def _seconds(call: Callable[..., object], *arguments: object) -> float:
    began = time.process_time()
    call(*arguments)
    return time.process_time() - began


def _plain_steps(steps: int) -> int:
    """What any Python program does: picks from a list, joins words, looks into a dictionary."""
    rng, words, seen = random.Random(0), [f"word{n}" for n in range(64)], {}
    for _ in range(steps):
        text = "\n".join(words[rng.randrange(64)] for _ in range(8))
        seen[text] = seen.get(text, 0) + 1
    return len(seen)


def _walk(problem: RobotouilleProblem, steps: int) -> None:
    rng, state = random.Random(0), problem.initial_state()
    for _ in range(steps):
        problem.observation(state)
        state = problem.step(state, rng.choice(problem.valid_actions(state)))
        problem.is_goal(state)


class _CountedProblem(RobotouilleProblem):
    """Counts the steps that are asked of it."""

    steps = 0

    def step(self, state: State, action: str) -> State:
        self.steps += 1
        return super().step(state, action)


def planner() -> Figures:
    """Yields the steps that the search tries for the optimum of the test kitchens; each is a state to look at."""
    for task in ("double_cheese_burger", "potato_soup"):
        tried = 0
        for layout in (f"test:{seed}" for seed in TESTING_SEEDS[:5]):
            problem = _CountedProblem(make(task, layout).kitchen, task=task, layout=layout)
            RobotouillePlanner(problem).solve(problem.initial_state())
            tried += problem.steps
        yield f"planner/{task}/steps", tried


def memory() -> Figures:
    """Yields bytes: of the state, of the update's temporaries, of the sampler's weights, slots and temporaries."""
    config = parse(["plan", f"--config={TINY}"]).config
    programs = stage_programs(config, "grpo", target(""))
    yield "memory/update/state", sum(programs.parts.values())
    yield "memory/update/temporary", compile_update(programs).temporary
    sampling = sampling_memory(config, programs.policy, programs.mesh, programs.target)
    for part in ("weights", "slots", "temporary"):
        yield f"memory/sampling/{part}", getattr(sampling, part)


def padding() -> Figures:
    """Yields shares of padding: of groups as long as the longest, and of rows that groups are fitted into."""
    rng = random.Random(0)
    sizes = [rng.randrange(200, 500) + sum(rng.randrange(20, 80) for _ in range(8)) for _ in range(32)]
    for name, length in (("groups", bucket(max(sizes), smallest=1)), ("rows", bucket(2048, smallest=2048))):
        rows = len(sizes) if name == "groups" else len(fit_rows(sizes, length))
        yield f"padding/{name}", 1 - sum(sizes) / (rows * length)


def programs() -> Figures:
    """Yields how many programs XLA was asked for, by calls with different numbers and lengths of prompts."""
    shape = ModelShape(64, 32, 2, heads=4, kv_heads=2, head_dim=8, mlp_width=48, rope_theta=10_000.0, max_position=512)
    model, rng, asked = jax.jit(Transformer, static_argnums=0)(shape, jax.random.key(0)), random.Random(0), []
    sampler = JaxSampler(model, (), batch=16, limit=200)
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, *_, **__: asked.append(event) if event.endswith("backend_compile_duration") else None
    )
    for count in (1, 2, 3, 5, 8, 13, 21, 48):
        prompts = [[rng.randrange(64) for _ in range(rng.randrange(20, 200))] for _ in range(count)]
        sampler.generate(prompts, 1, SamplingParams(16, 1.0), list(range(count)))
    yield "programs/sampling", len(asked)


FIGURES = {"engine": engine, "planner": planner, "memory": memory, "padding": padding, "programs": programs}


def measure(names: Iterable[str] = tuple(FIGURES)) -> dict[str, float]:
    """Returns figure -> value of some of the groups of figures."""
    return {figure: round(float(value), 4) for name in names for figure, value in FIGURES[name]()}


def main() -> None:
    """Prints them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(FIGURES))
    for name in parser.parse_args().only.split(","):
        if name not in FIGURES:
            sys.exit(f"figures.py: --only={name} is unknown: use some of {','.join(FIGURES)}")
        for figure, value in measure([name]).items():
            print(json.dumps({"figure": figure, "value": value}), flush=True)


if __name__ == "__main__":
    main()
