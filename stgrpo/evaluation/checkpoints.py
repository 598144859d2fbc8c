"""Checkpoints play whole episodes in layouts they have never seen."""

import contextlib
import dataclasses
import hashlib
import operator
from collections.abc import Generator
from pathlib import Path

import jax
from ml_collections import ConfigDict

from stgrpo.console import ProgramLog, say
from stgrpo.data.tokenizer import Tokenizer
from stgrpo.evaluation.files import Evaluation, reusable, write_evaluation
from stgrpo.evaluation.suites import Suite, play_settings, play_suite, style_settings, suite_size, suites
from stgrpo.files import to_json
from stgrpo.models.sharding import make_mesh
from stgrpo.processes.exchange import meet, tell
from stgrpo.sampling.base import Sampler
from stgrpo.sampling.open import open_sampler
from stgrpo.training.checkpointing import CheckpointMetadata, load_metadata
from stgrpo.training.context import attention_core
from stgrpo.training.inputs import prompt_style
from stgrpo.training.policies import read_policy
from stgrpo.training.start import abstract_model
from stgrpo.workdir import WorkDir
from stgrpo.workdir.keys import with_key


@contextlib.contextmanager
def open_policy(
    config: ConfigDict, folder: Path, record: CheckpointMetadata, *, place: Path, programs: ProgramLog
) -> Generator[tuple[Sampler, Tokenizer]]:
    """A sampler for the policy in one step folder, and the tokenizer its record carries; the mesh is set.

    Args:
        config: of the evaluation.
        folder: of the step.
        record: what it says of itself.
        place: folder for what a server writes.
        programs: of the embedded sampler.

    Raises:
        UserError: the policy or the sampler cannot be had, or the devices have no such attention as the config wants.
    """
    mesh = make_mesh(config.mesh.data, config.mesh.fsdp, config.mesh.tensor)
    meet(mesh)
    tokenizer = Tokenizer.from_files(record.tokenizer)
    with jax.set_mesh(mesh):
        core = attention_core(config, record.shape, mesh)
        params = read_policy(folder, abstract_model(record.shape, mesh, core=core))
        largest = {1: max(suite_size(config, suite) for suite in suites(config))}
        log = programs.met
        with open_sampler(config, params, tokenizer, mesh=mesh, place=place, largest=largest, log=log) as sampler:
            sampler.update_weights(params, record.step)
            yield sampler, tokenizer


def evaluate_checkpoint(
    config: ConfigDict, folder: Path, directory: Path, programs: ProgramLog | None = None
) -> list[Evaluation]:
    """Plays every suite of the config with the policy of one step folder; `programs` are logged beside the directory.

    Results that are there already are kept if the same policy played the same layouts in the same way.
    """
    record = load_metadata(folder)
    wanted = {f"{record.stage}_{suite.name}": suite for suite in suites(config)}
    settings = {name: _settings(config, suite, record) for name, suite in wanted.items()}
    results = tell(lambda: reusable(directory, settings, fits=operator.eq))
    for result in results:
        say(f"evaluate: {result.name} is complete, skipped")
        del wanted[result.name]
    if not wanted:
        return results
    programs = programs or ProgramLog("evaluate", WorkDir(directory.parent).programs)
    with open_policy(config, folder, record, place=directory, programs=programs) as (sampler, tokenizer):
        for name, suite in wanted.items():
            episodes = play_suite(config, suite, sampler, tokenizer, f"evaluate {name}")
            results.append(write_evaluation(directory, name, episodes, settings=settings[name]))
    return results


def _settings(config: ConfigDict, suite: Suite, record: CheckpointMetadata) -> dict[str, object]:
    """How a policy plays a suite, with all that can change what comes of it."""
    policy = {"shape": dataclasses.asdict(record.shape), "tokenizer": record.tokenizer}
    settings = {
        "stage": record.stage,
        "step": record.step,
        "fingerprint": record.fingerprint,
        "base": record.base,
        "shape_and_tokenizer": hashlib.sha256(to_json(policy, sort_keys=True).encode()).hexdigest()[:16],
        "parameters": record.shape.parameter_count(),
        **play_settings(config, suite),
        **style_settings(prompt_style(config)),
    }
    return with_key(config, "checkpoint", settings)
