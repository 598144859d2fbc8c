"""Evaluate: a policy plays whole episodes in kitchens it has never seen."""

import contextlib
import dataclasses
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import jax
from ml_collections import ConfigDict

from stgrpo.config import SUITES
from stgrpo.data.tokenizer import Tokenizer
from stgrpo.envs.base import Environment, Problem
from stgrpo.evaluation.episodes import EpisodeConfig, run_episodes
from stgrpo.evaluation.files import Evaluation, list_evaluations, read_evaluation, write_evaluation
from stgrpo.evaluation.metrics import mcnemar, pair_episodes
from stgrpo.evaluation.records import Episode
from stgrpo.models.sharding import make_mesh
from stgrpo.rollout.base import Sampler, SamplingParams
from stgrpo.stages.backend import open_sampler
from stgrpo.stages.common import attention_core, playing_environment, prompt_style
from stgrpo.stages.console import Progress, say, table
from stgrpo.stages.policies import read_policy
from stgrpo.stages.start import abstract_model
from stgrpo.training.checkpointing import Record, load_record, newest, step_folders
from stgrpo.workdir import WorkDir


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
    bar = Progress(label, len(problems)) if label else None
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


@contextlib.contextmanager
def open_policy(config: ConfigDict, folder: Path, record: Record, place: Path) -> Iterator[tuple[Sampler, Tokenizer]]:
    """A sampler for the policy in one step folder, and the tokenizer its record carries; the mesh is set.

    Args:
      config: of the evaluation.
      folder: of the step.
      record: what it says of itself.
      place: folder for what a server writes.

    Raises:
      UserError: the policy or the sampler cannot be had, or the devices have no such attention as the config wants.
    """
    mesh = make_mesh(config.mesh.data, config.mesh.fsdp, config.mesh.tensor)
    tokenizer = Tokenizer.from_files(record.tokenizer)
    with jax.set_mesh(mesh):
        core = attention_core(config, record.shape, mesh)
        params = read_policy(folder, abstract_model(record.shape, mesh, core=core))
        with open_sampler(config, params, tokenizer, mesh=mesh, place=place) as sampler:
            sampler.update_weights(params, record.step)
            yield sampler, tokenizer


def evaluate_checkpoint(config: ConfigDict, folder: Path, directory: Path) -> list[Evaluation]:
    """Plays every suite of the config with the policy of one step folder.

    Results that are there already are kept if the same policy played the same kitchens in the same way.
    """
    record = load_record(folder)
    wanted = {f"{record.stage}_{suite.name}": suite for suite in suites(config)}
    there = list_evaluations(directory)
    results = [read_evaluation(directory, name) for name in wanted if name in there]
    results = [r for r in results if r.settings == _as_json(_settings(config, wanted[r.name], record))]
    for result in results:
        say(f"evaluate: {result.name} is complete, skipped")
        del wanted[result.name]
    if not wanted:
        return results
    with open_policy(config, folder, record, directory) as (sampler, tokenizer):
        for name, suite in wanted.items():
            episodes = play_suite(config, suite, sampler, tokenizer, f"evaluate {name}")
            results.append(write_evaluation(directory, name, episodes, settings=_settings(config, suite, record)))
    return results


def run_evaluate(config: ConfigDict, workdir: WorkDir) -> None:
    """Evaluates the newest SFT and GRPO policies of a work directory, or the served model of the config."""
    if config.policy.kind == "server":
        from stgrpo.stages.served import evaluate_served

        show(evaluate_served(config, workdir.evaluation))
        return
    results = []
    for stage in ("sft", "grpo"):
        if any(workdir.checkpoints(stage).glob("[0-9]*")):
            results += newest(
                workdir.checkpoints(stage), lambda folder: evaluate_checkpoint(config, folder, workdir.evaluation)
            )
    if not results:
        step_folders(workdir.checkpoints("sft"))  # says what is missing
    show(results)


def show(results: Sequence[Evaluation]) -> None:
    """The table at the end."""
    rows = []
    for result in results:
        for task, s in result.tasks.items():
            interval = f"{s['sr']:.3f} [{s['sr_low']:.3f}, {s['sr_high']:.3f}]"
            asst = "-" if s["asst"] is None else f"{s['asst']:.2f}"
            rows.append((result.name, task, str(s["n"]), interval, f"{s['asat']:.2f}", asst))
    for line in table(rows, ("policy_kitchens", "task", "n", "SR [95 % interval]", "ASAT", "ASST")):
        say(line)
    for result in results:
        if unjudged := result.summary.get("unjudged"):  # older files have no such figure
            what = f"{unjudged} of {result.summary['responses']} responses are not judged"
            say(f"{result.name}: {what}: the planner finds no way from there, or no proof in its time")
    by_name = {result.name: result for result in results}
    for suite in SUITES:
        if f"sft_{suite}" in by_name and f"grpo_{suite}" in by_name:
            say(_comparison(suite, by_name[f"sft_{suite}"], by_name[f"grpo_{suite}"]))


def _comparison(suite: str, before: Evaluation, after: Evaluation) -> str:
    pairs = pair_episodes(before.episodes, after.episodes)
    test = mcnemar([a.success for a, _ in pairs], [b.success for _, b in pairs])
    return (
        f"{suite}: of {len(pairs)} kitchens {test.only_b} are solved by GRPO alone, {test.only_a} by SFT alone "
        f"(exact McNemar, two-sided p = {test.p_value:.2g})"
    )


def _as_json(settings: dict[str, object]) -> object:
    """Settings as they are read from a file: lists for tuples."""
    return json.loads(json.dumps(settings))


def _settings(config: ConfigDict, suite: Suite, record: Record) -> dict[str, object]:
    return {
        "stage": record.stage,
        "step": record.step,
        "fingerprint": record.fingerprint,
        "parameters": record.shape.parameter_count(),
        **play_settings(config, suite),
    }


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
