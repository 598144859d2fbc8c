"""Policies whose weights are at hand play whole episodes in layouts they have never seen."""

import contextlib
import dataclasses
import operator
from collections.abc import Callable, Generator, Mapping
from functools import partial
from pathlib import Path

import jax
from ml_collections import ConfigDict

from stgrpo.console import ProgramLog, say
from stgrpo.data.tokenizer import Tokenizer
from stgrpo.evaluation.files import Evaluation, reusable, write_evaluation
from stgrpo.evaluation.registration import register, say_registered
from stgrpo.evaluation.suites import Suite, play_settings, play_suite, style_settings, suite_size, suites
from stgrpo.models.shapes import ModelShape
from stgrpo.models.sharding import make_mesh
from stgrpo.models.transformer import Transformer
from stgrpo.processes.exchange import meet, tell
from stgrpo.sampling.base import Sampler
from stgrpo.sampling.open import open_sampler
from stgrpo.training.context import attention_core
from stgrpo.training.inputs import prompt_style
from stgrpo.training.start import abstract_model
from stgrpo.workdir import WorkDir
from stgrpo.workdir.keys import with_key


@dataclasses.dataclass(frozen=True)
class LocalPolicy:
    """A policy that is loaded to play.

    Attributes:
        name: in the names of results, before the suite's.
        step: of its training.
        shape: of the model.
        tokenizer: its own.
        read: gives its parameters, onto a model as shapes with shardings.
        identity: for the settings of results: what tells it from others.
    """

    name: str
    step: int
    shape: ModelShape
    tokenizer: Tokenizer
    read: Callable[[Transformer], Transformer]
    identity: Mapping[str, object]


def evaluate_policy(
    config: ConfigDict, policy: LocalPolicy, directory: Path, programs: ProgramLog | None = None
) -> list[Evaluation]:
    """Plays every suite of the config; `programs` are logged beside the directory.

    Results that are there already are kept if the same policy played the same layouts in the same way.
    """
    wanted = {f"{policy.name}_{suite.name}": suite for suite in suites(config)}
    settings = {name: _settings(config, suite, policy) for name, suite in wanted.items()}
    results = tell(lambda: reusable(directory, settings, fits=operator.eq))
    for result in results:
        say(f"evaluate: {result.name} is complete, skipped")
        del wanted[result.name]
    if not wanted:
        return results
    hashes = {name: tell(partial(register, directory, name, config, wanted[name], settings[name])) for name in wanted}
    say_registered(hashes)
    programs = programs or ProgramLog("evaluate", WorkDir(directory.parent).programs)
    largest = max(suite_size(config, suite) for suite in suites(config))
    with open_policy(config, policy, place=directory, largest=largest, programs=programs) as (sampler, _):
        for name, suite in wanted.items():
            episodes = play_suite(config, suite, sampler, policy.tokenizer, f"evaluate {name}")
            how = {"settings": settings[name], "protocol": hashes[name]}
            results.append(write_evaluation(directory, name, episodes, **how))
    return results


@contextlib.contextmanager
def open_policy(
    config: ConfigDict, policy: LocalPolicy, *, place: Path, largest: int, programs: ProgramLog
) -> Generator[tuple[Sampler, Transformer]]:
    """A sampler with the policy's weights, and these; the mesh is set.

    Args:
        config: of the evaluation.
        policy: that plays.
        place: folder for what a server writes.
        largest: prompts of the largest call.
        programs: of the embedded sampler.

    Raises:
        UserError: the policy or the sampler cannot be had, or the devices have no such attention as the config wants.
    """
    mesh = make_mesh(config.mesh.data, config.mesh.fsdp, config.mesh.tensor)
    meet(mesh)
    with jax.set_mesh(mesh):
        core = attention_core(config, policy.shape, mesh)
        params = policy.read(abstract_model(policy.shape, mesh, core=core))
        given = {"mesh": mesh, "place": place, "largest": {1: largest}, "log": programs.met}
        style = prompt_style(config)
        with open_sampler(config, params, policy.tokenizer, style=style, **given) as sampler:
            sampler.update_weights(params, policy.step)
            yield sampler, params


def _settings(config: ConfigDict, suite: Suite, policy: LocalPolicy) -> dict[str, object]:
    """How a policy plays a suite, with all that can change what comes of it."""
    settings = {
        **policy.identity,
        "parameters": policy.shape.parameter_count(),
        **play_settings(config, suite),
        **style_settings(prompt_style(config)),
    }
    return with_key(config, "checkpoint", settings)
