"""The layouts that an evaluation plays, and how it plays them."""

import dataclasses
import hashlib
import math
from collections.abc import Sequence

from ml_collections import ConfigDict

from stgrpo.config.environments import environment_of
from stgrpo.console import ProgressBar
from stgrpo.data.tokenizer import Tokenizer
from stgrpo.envs.sessions import open_sessions
from stgrpo.envs.stochastic import FlakyEnvironment
from stgrpo.evaluation.episodes import EpisodeConfig, run_episodes
from stgrpo.evaluation.records import Episode
from stgrpo.protocol import BENCHMARK, Environment, benchmark_set_of, benchmark_sets_of
from stgrpo.react.policy import SamplingParams
from stgrpo.react.prompt import PromptStyle, render_messages
from stgrpo.sampling.base import Sampler, Shared
from stgrpo.training.inputs import prompt_style

_ROOM = 1.1


@dataclasses.dataclass(frozen=True)
class Suite:
    """A set of layouts.

    Attributes:
        name: of the suite in file names.
        family: of layouts; unused by the benchmark's own.
        split: "validation" or "test"; "benchmark" for layouts of published results (ten a task in the paper): the set
            that the suite is named after.
        layouts: how many a task; the benchmark has its own number.
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
    found = []
    for name in e.suites:
        unseen = Suite(name, config.env.family, "test", e.layouts, tasks)
        found += _benchmarks(config, tasks) if name == BENCHMARK else [unseen]
    return found


def _benchmarks(config: ConfigDict, tasks: tuple[str, ...]) -> list[Suite]:
    """A suite for each set of layouts that published results are of."""
    environment = environment_of(config)
    return [Suite(name, name, BENCHMARK, 0, tasks) for name in benchmark_sets_of(environment)]


def suite_layouts(environment: Environment, suite: Suite) -> list[tuple[str, str]]:
    """The (task, layout) of each episode of a suite."""
    found = []
    for task in suite.tasks:
        if suite.split == BENCHMARK:
            layouts = benchmark_set_of(environment, suite.name, task)
        else:
            layouts = environment.layouts(task, suite.family, split=suite.split, count=suite.layouts)
        found += [(task, layout) for layout in layouts]
    return found


def suite_size(config: ConfigDict, suite: Suite) -> int:
    """The number of its layouts."""
    if suite.split != BENCHMARK:
        return suite.layouts * len(suite.tasks)
    environment = environment_of(config)
    return sum(len(benchmark_set_of(environment, suite.name, task)) for task in suite.tasks)


def longest_first_prompt(config: ConfigDict, suite: Suite, tokenizer: Tokenizer) -> tuple[int, str]:
    """Tokens of the longest prompt that an episode of a suite begins with, and its layout; later ones may be longer."""
    environment = environment_of(config)  # every engine shows the same
    style = prompt_style(config)
    layouts = suite_layouts(environment, suite)
    with open_sessions(environment, layouts) as sessions:
        asked = [render_messages(session.reset().observation, style=style) for session in sessions]
    lengths = (len(prompt) for prompt in tokenizer.encode_prompts(asked))
    return max(zip(lengths, map(" ".join, layouts), strict=True), default=(0, ""))


def with_room(length: int) -> int:
    """A limit for prompts of which the first ones have so many tokens: later ones have more to say."""
    return math.ceil(_ROOM * length / 64) * 64


def play_suite(
    config: ConfigDict, suite: Suite, sampler: Sampler, tokenizer: Tokenizer, label: str = ""
) -> list[Episode]:
    """One episode in every layout of a suite; shows progress if there is a label."""
    environment = playing_environment(config)
    layouts = suite_layouts(environment, suite)

    def play(sampler: Sampler, layouts: Sequence[tuple[str, str]]) -> list[Episode]:
        bar = ProgressBar(label, len(layouts)) if label else None
        with open_sessions(environment, layouts) as sessions:
            episodes = run_episodes(
                sessions,
                sampler,
                tokenizer,
                config=_episode_config(config),
                progress=(lambda p: bar.step(p.finished, {"solved": p.solved, "turn": p.turn})) if bar else None,
            )
        if bar:
            bar.close()
        return episodes

    return sampler.each(layouts, play) if isinstance(sampler, Shared) else play(sampler, layouts)


def _episode_config(config: ConfigDict) -> EpisodeConfig:
    e = config.evaluation
    return EpisodeConfig(
        params=SamplingParams(config.limits.response, e.temperature, e.top_p, e.top_k),
        style=prompt_style(config),
        on_invalid=e.on_invalid,
        retries=e.retries,
        max_prompt_len=config.limits.prompt,
        seed=config.seed,
    )


def play_settings(config: ConfigDict, suite: Suite) -> dict[str, object]:
    """How the episodes of a suite are played, whoever plays them."""
    e = config.evaluation
    return {
        "suite": dataclasses.asdict(suite),
        "environment": config.env.name,
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


def style_settings(style: PromptStyle) -> dict[str, str]:
    """The form of the prompts; what the environment says of itself as its digest."""
    about = hashlib.sha256(repr(style.about).encode()).hexdigest()[:16]
    return {"instructions": style.instructions, "history": style.history, "about": about}


def playing_environment(config: ConfigDict) -> Environment:
    """The environment in which episodes are played: on the engine of the config, with its failures."""
    environment = environment_of(config, engine=config.env.engine)
    return FlakyEnvironment(environment, config.env.failure, config.seed) if config.env.failure else environment
