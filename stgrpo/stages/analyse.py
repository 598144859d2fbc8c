"""Analyse: what the paper's theorems say of the reference and the trained policy, measured in unseen layouts.

All of it is made anew each time; a run that is killed begins again, and leaves what was there before.
"""

import contextlib
import dataclasses
import datetime
import functools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from stgrpo.analysis.answers import CHUNK
from stgrpo.analysis.credit import CreditSettings, TurnCredit, measure_credit
from stgrpo.analysis.graph import LayoutGraph, build_graph
from stgrpo.analysis.measure import Amount, Measured, measure
from stgrpo.analysis.model_policy import ModelPolicy, Scoring
from stgrpo.analysis.plays import Feature, feature
from stgrpo.analysis.summary import BETAS, REFERENCE, TRAINED, Study, summarise
from stgrpo.analysis.theory import EPSILON
from stgrpo.config.environments import environment_of
from stgrpo.console import ProgramLog, ProgressBar, say, table
from stgrpo.data.records import read_trajectories
from stgrpo.envs.sessions import require_problems
from stgrpo.errors import UserError
from stgrpo.evaluation.checkpoints import checkpoint_policy
from stgrpo.evaluation.policies import open_policy
from stgrpo.files import to_json, write_atomically
from stgrpo.protocol import planner_of
from stgrpo.react.policy import SamplingParams
from stgrpo.react.reward import RewardWeights
from stgrpo.rl.episodes import credit_of
from stgrpo.sampling.base import mix_seed
from stgrpo.stages.grpo import check_reference
from stgrpo.training.checkpointing import newest_metadata
from stgrpo.training.inputs import prompt_style
from stgrpo.training.step_folders import newest, step_folders
from stgrpo.workdir import WorkDir

STAGE_OF = {REFERENCE: "sft", TRAINED: "grpo"}
MOST_STATES = 256
"""Of one layout, on ways of fewest steps; see `build_graph`."""


@dataclasses.dataclass(frozen=True)
class AnalysisOptions:
    """How much is measured.

    Attributes:
        layouts: of each task, of the split `test`.
        samples: answers in each state.
        episodes: in each layout.
        seed: of answers, episodes and resampled layouts.
    """

    layouts: int = 50
    samples: int = 32
    episodes: int = 32
    seed: int = 0


def run_analyse(config: ConfigDict, workdir: WorkDir, options: AnalysisOptions) -> None:
    """Measures the newest SFT and GRPO policies of a work directory; writes analysis.json.

    Raises:
        UserError: the config is not one that the theorems speak of, there is no planner, or no checkpoint; or GRPO's
            was trained against another reference than the SFT policy that is there.
    """
    check(config)
    for stage in STAGE_OF.values():
        step_folders(workdir.checkpoints(stage))  # says what is missing before anything is computed
    trained, reference = (newest_metadata(workdir.checkpoints(stage)) for stage in ("grpo", "sft"))
    check_reference(trained, reference.identity)
    graphs, left_out = layout_graphs(config, options.layouts)
    programs, measured, credit, policies = ProgramLog("analyse", workdir.programs), {}, {}, {}
    for number, (name, stage) in enumerate(STAGE_OF.items()):
        amount = Amount(options.samples, options.episodes, mix_seed(options.seed, number))
        (measured[name], credit[name]), policies[name] = newest(
            workdir.checkpoints(stage),
            lambda folder, amount=amount: _measure(_Run(config, workdir, programs), folder, graphs, amount),
        )
    betas = sorted({*BETAS, config.grpo.kl_coef} - {0.0})
    grouped = {name: layouts for name, layouts in credit.items() if layouts}
    study = Study(graphs, measured, betas, list(_trained_on(config, workdir)), options.seed, grouped)
    found = {"settings": _settings(config, options, policies, left_out), **summarise(study)}
    write_atomically(workdir.analysis, to_json(found, indent=1) + "\n")
    show(found)
    say(f"analyse: all of it is in {workdir.analysis}, and `stgrpo report` shows it")


def check(config: ConfigDict) -> None:
    """Holds a config to what the theorems suppose.

    Raises:
        UserError: it is another.
    """
    if config.policy.kind != "checkpoint":
        raise UserError(f"policy.kind={config.policy.kind!r} was not trained here: analyse takes 'checkpoint' alone")
    if config.prompt.history != "none":
        raise UserError(
            f"prompt.history={config.prompt.history!r}: with it a state is more than what is seen, and p(s) is none "
            "of the state; analyse needs a run with 'none'"
        )
    if config.env.failure:
        raise UserError(
            f"env.failure={config.env.failure}: the theorems suppose that actions do not fail; analyse a run with 0"
        )


def layout_graphs(config: ConfigDict, count: int) -> tuple[list[LayoutGraph], int]:
    """Unseen layouts with the states that are measured, and how many had to be left out.

    Left out are those that begin at their goal, and those whose expert needs more steps than an episode may have.

    Raises:
        UserError: there is no planner, there are too few layouts, or none is left.
    """
    environment = require_problems(environment_of(config), "analyse")
    graphs, given = [], 0
    for task in config.evaluation.tasks or config.env.tasks:
        for layout in environment.layouts(task, config.env.family, split="test", count=count):
            problem = environment.make(task, layout)
            planner = planner_of(environment, problem)
            if planner is None:
                raise UserError(f"{task} {layout} has no planner: analyse needs one, for the expert's path")
            given += 1
            if not problem.is_goal(problem.initial_state()):
                graph = build_graph(problem, planner, most=MOST_STATES)
                graphs += [graph] if graph.horizon <= problem.max_steps else []
    if not graphs:
        raise UserError(f"none of {given} layouts has its goal within the steps of an episode: give other tasks")
    return graphs, given - len(graphs)


@dataclasses.dataclass(frozen=True)
class _Run:
    """Whose policies are measured, and the log of the programs that it takes."""

    config: ConfigDict
    workdir: WorkDir
    programs: ProgramLog


def _measure(
    run: _Run, folder: Path, graphs: list[LayoutGraph], amount: Amount
) -> tuple[tuple[Measured, list[TurnCredit]], Mapping[str, object]]:
    """The policy in a step folder, the credit of its turns, and its identity."""
    config, policy = run.config, checkpoint_policy(folder)
    params = SamplingParams(config.limits.response, config.grpo.temperature)
    largest = max(CHUNK, amount.samples, amount.episodes)
    given = {"place": run.workdir.evaluation, "largest": largest, "programs": run.programs}
    with open_policy(config, policy, **given) as (sampler, model):
        mesh = jax.tree.leaves(model)[0].sharding.mesh
        scoring = Scoring(params, config.limits.prompt, jnp.dtype(config.model.dtype), mesh)
        asked = ModelPolicy(sampler, model, policy.tokenizer, scoring)
        with contextlib.closing(_Bars(policy.name)) as bars:
            how = _credit(config, amount)
            found = measure(asked, graphs, amount=amount, style=how.style, progress=bars.step)
            told = functools.partial(bars.step, "fresh answers")
            credit = measure_credit(asked, graphs, found.plays, how=how, progress=told) if how.group > 1 else []
    return (found, credit), policy.identity


def _credit(config: ConfigDict, amount: Amount) -> CreditSettings:
    """Groups of as many as the run draws, or as there are."""
    return CreditSettings(
        credit_of(config),
        group=min(config.grpo.group_size, amount.episodes),
        weights=RewardWeights(config.reward.format, config.reward.action),
        target=config.reward.target,
        style=prompt_style(config),
        seed=mix_seed(amount.seed, 2),
    )


class _Bars:
    """A bar for each thing that is done."""

    def __init__(self, policy: str):
        self._policy, self._bars = policy, dict[str, ProgressBar]()

    def step(self, what: str, done: int, total: int) -> None:
        if what not in self._bars:
            self._bars[what] = ProgressBar(f"analyse {self._policy} {what}", total)
        self._bars[what].step(done)

    def close(self) -> None:
        for bar in self._bars.values():
            bar.close()


def _trained_on(config: ConfigDict, workdir: WorkDir) -> Iterator[Feature]:
    """Features of the states of data/TASK/train.jsonl; without a planner the steps that were left are the distance."""
    for task in config.env.tasks:
        for trajectory in read_trajectories(workdir.data(task, "train")):
            for at, step in enumerate(trajectory.steps):
                left = len(trajectory.steps) - at
                yield feature(left if step.distance is None else step.distance, step.action)


def _settings(
    config: ConfigDict, options: AnalysisOptions, policies: Mapping[str, Mapping[str, object]], left_out: int
) -> dict[str, object]:
    return {
        **dataclasses.asdict(options),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "tasks": list(config.evaluation.tasks or config.env.tasks),
        "family": config.env.family,
        "split": "test",
        "layouts_left_out": left_out,
        "temperature": config.grpo.temperature,
        "on_invalid": "end",
        "kl_coef": config.grpo.kl_coef,
        "epsilon": EPSILON,
        "most_states": MOST_STATES,
        "policies": policies,
    }


def show(found: Mapping[str, Any]) -> None:
    """The figures that a person looks for first."""
    for line in table(_rows(found), ("", "reference", "trained")):
        say(line)
    bound, first = found["theorem_3_3"], found["theorem_3_1"]
    say(
        f"Theorem 3.3: p(s) is higher in {bound['higher']:.1%} of {bound['states']} expert states, lower in "
        f"{bound['lower']:.1%}; shown by intervals {bound['shown_higher']:.1%} and {bound['shown_lower']:.1%}; "
        f"P(expert's way) gains {_mean(bound['gain'], sign='+')}"
    )
    fits = ", ".join(f"{fit['beta']:g}: {fit['mean_fixed_point']:.3f}" for fit in first["betas"])
    means = f"{first['mean_reference']:.3f} -> {first['mean_trained']:.3f}"
    say(f"Theorem 3.1: mean p(s) {means}; fixed point by beta {fits}")
    if "credit" in found:
        show_credit(found)


def show_credit(found: Mapping[str, Any]) -> None:
    """How each estimator's advantages go with the true ones."""
    names = ("zero", "right_sign", "pearson", "spearman", "noise")
    for policy in (REFERENCE, TRAINED):
        of = found["credit"][policy]
        rows = [(name, *(_mean(row[key]) for key in names)) for name, row in of["estimators"].items()]
        for line in table(rows, (f"{policy}, {of['turns']} turns", *names)):
            say(line)


def _rows(found: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    second, single, shift = found["theorem_3_2"], found["single_turn"], found["assumption_3_1"]
    for label, of in (
        ("p(s), expert's action, scored", lambda name: single[name]["expert"]["scored"]),
        ("p(s), expert's action, sampled", lambda name: single[name]["expert"]["sampled"]),
        ("p(s), any optimal action, scored", lambda name: single[name]["optimal"]["scored"]),
        ("P(expert's way), recursion", lambda name: second[name]["as_expert"]["scored"]),
        ("P(expert's way), episodes", lambda name: second[name]["as_expert"]["episodes"]),
        ("  recursion - episodes", lambda name: second[name]["as_expert"]["scored_minus_episodes"]),
        ("P(fewest steps), recursion", lambda name: second[name]["fewest"]["scored"]),
        ("P(fewest steps), episodes", lambda name: second[name]["fewest"]["episodes"]),
        ("  recursion - episodes", lambda name: second[name]["fewest"]["scored_minus_episodes"]),
        ("off the expert's path", lambda name: shift[name]["off_path"]),
    ):
        yield label, _mean(of(REFERENCE)), _mean(of(TRAINED))


def _mean(of: Mapping[str, Any], sign: str = "") -> str:
    if of["mean"] is None:
        return "-"
    mean, low, high = (f"{round(of[name], 3) + 0.0:{sign}.3f}" for name in ("mean", "low", "high"))
    return f"{mean} [{low}, {high}]"
