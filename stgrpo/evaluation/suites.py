"""The kitchens that an evaluation plays, and how it plays them."""

import dataclasses

from ml_collections import ConfigDict

from stgrpo import envs
from stgrpo.console import ProgressBar
from stgrpo.data.tokenizer import Tokenizer
from stgrpo.envs.stochastic import FlakyEnvironment
from stgrpo.evaluation.episodes import EpisodeConfig, run_episodes
from stgrpo.evaluation.records import Episode
from stgrpo.protocol import Environment, Problem
from stgrpo.react.policy import SamplingParams
from stgrpo.sampling.base import Sampler
from stgrpo.training.inputs import prompt_style


@dataclasses.dataclass(frozen=True)
class Suite:
    """A set of kitchens.

    Attributes:
      name: of the suite in file names.
      family: of layouts; unused by the benchmark's own.
      split: "validation" or "test"; "benchmark" for the ten test layouts a task (the paper's protocol).
      layouts: kitchens a task; the benchmark has its own number.
      tasks: to play.
    """

    name: str
    family: str
    split: str
    layouts: int
    tasks: tuple[str, ...]


def suites(config: ConfigDict) -> list[Suite]:
    """The suites of a config."""
    e, tasks = config.evaluation, tuple(config.evaluation.tasks or config.env.tasks)
    every = {
        "unseen": Suite("unseen", config.env.family, "test", e.layouts, tasks),
        "benchmark": Suite("benchmark", "benchmark", "benchmark", 0, tasks),
    }
    return [every[name] for name in e.suites]


def suite_problems(environment: Environment, suite: Suite) -> list[Problem]:
    """The kitchens of a suite."""
    problems = []
    for task in suite.tasks:
        if suite.split == "benchmark":
            layouts = environment.benchmark_layouts(task)
        else:
            layouts = environment.layouts(task, suite.family, split=suite.split, count=suite.layouts)
        problems += [environment.make(task, layout) for layout in layouts]
    return problems


def play_suite(
    config: ConfigDict, suite: Suite, sampler: Sampler, tokenizer: Tokenizer, label: str = ""
) -> list[Episode]:
    """One episode in every kitchen of a suite; shows progress if there is a label."""
    environment, e = playing_environment(config), config.evaluation
    problems = suite_problems(environment, suite)
    bar = ProgressBar(label, len(problems)) if label else None
    episodes = run_episodes(
        problems,
        [environment.planner(p) for p in problems],
        sampler,
        tokenizer,
        config=EpisodeConfig(
            params=SamplingParams(config.limits.response, e.temperature, e.top_p, e.top_k),
            style=prompt_style(config),
            on_invalid=e.on_invalid,
            retries=e.retries,
            max_prompt_len=config.limits.prompt,
            seed=config.seed,
        ),
        progress=(lambda p: bar.step(p.finished, {"solved": p.solved, "turn": p.turn})) if bar else None,
    )
    if bar:
        bar.close()
    return episodes


def play_settings(config: ConfigDict, suite: Suite) -> dict[str, object]:
    """How the episodes of a suite are played, whoever plays them."""
    e = config.evaluation
    return {
        "suite": dataclasses.asdict(suite),
        "engine": config.env.engine,
        "failure": config.env.failure,
        "temperature": e.temperature,
        "top_p": e.top_p,
        "top_k": e.top_k,
        "on_invalid": e.on_invalid,
        "retries": e.retries,
        "seed": config.seed,
        "limits": {"prompt": config.limits.prompt, "response": config.limits.response},
    }


def playing_environment(config: ConfigDict) -> Environment:
    """The environment in which episodes are played: on the engine of the config, with its failures."""
    environment = envs.get(config.env.name, engine=config.env.engine)
    return FlakyEnvironment(environment, config.env.failure, config.seed) if config.env.failure else environment
