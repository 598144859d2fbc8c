"""A work directory gets what another one has made: checkpoints as hard links, so that they take no room twice.

What is written later in either stays its own: checkpoints never change once they are written, and everything else is
copied. Where a file system has no hard links, checkpoints are copied too.
"""

import contextlib
import logging
import os
import secrets
import shutil
from collections.abc import Sequence
from pathlib import Path

from stgrpo.errors import RunError
from stgrpo.files import read_lines, reason_of, remove, replacing, sync_folder, to_json, way_on, write_atomically
from stgrpo.workdir import WorkDir

log = logging.getLogger(__name__)


def share(source: WorkDir, target: WorkDir, stages: Sequence[str]) -> None:
    """Gives a work directory the outcome of some stages; what it has already stays. Its owner alone may.

    Args:
        source: where they are complete.
        target: one of a config that agrees in all that they depend on, see `workdir.keys.stage_key`.
        stages: of "collect", "sft" and "grpo".

    Raises:
        RunError: the disk does not take it.
    """
    try:
        if not target.metrics.exists():
            lines = [to_json(line) for line in read_lines(source.metrics) if line["stage"] in stages]
            write_atomically(target.metrics, "".join(f"{line}\n" for line in lines))
        for part in ("data", "expert") if "collect" in stages else ():
            _copy_files(source.path / part, target.path / part)
        if "collect" in stages and not target.tokenizer.is_dir():
            with replacing(target.tokenizer) as unfinished:
                shutil.copytree(source.tokenizer, unfinished)
        if "grpo" in stages:
            _copy_file(source.samples, target.samples)
        _copy_file(source.protocols, target.protocols)
        for stage in stages:
            _copy_results(source.evaluation, target.evaluation, stage)
            _link_checkpoints(source.checkpoints(stage), target.checkpoints(stage))
    except OSError as error:
        what = f"{target.path} cannot take what {source.path} has ({reason_of(error)})"
        raise RunError(f"{what}: {way_on(error)}") from error


def _copy_files(source: Path, target: Path) -> None:
    for file in sorted(source.rglob("*")):
        if file.is_file():
            _copy_file(file, target / file.relative_to(source))


def _copy_file(source: Path, target: Path) -> None:
    if source.is_file() and not target.exists():
        with replacing(target) as unfinished:
            shutil.copyfile(source, unfinished)


def _copy_results(source: Path, target: Path, stage: str) -> None:
    """Evaluations of a stage's policy; whether they are those that would be played now is for `evaluate` to say."""
    for summary in sorted(source.glob(f"{stage}_*.json")):
        _copy_file(summary.with_name(f"{summary.stem}.episodes.jsonl"), target / f"{summary.stem}.episodes.jsonl")
        _copy_file(summary, target / summary.name)


def _link_checkpoints(source: Path, target: Path) -> None:
    for step in sorted(source.glob("[0-9]*")):
        if not step.name.isdigit() or (target / step.name).exists():
            continue
        target.mkdir(parents=True, exist_ok=True)
        unfinished = target / f"{step.name}.{secrets.token_hex(4)}.part"
        try:
            shutil.copytree(step, unfinished, copy_function=_link)
            unfinished.rename(target / step.name)
            sync_folder(target)
        finally:
            with contextlib.suppress(OSError):
                remove(unfinished)


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError as error:  # of file systems that have none, or not this many
        log.warning("%s is copied: this file system does not link it (%s)", source, reason_of(error))
        shutil.copyfile(source, target)
