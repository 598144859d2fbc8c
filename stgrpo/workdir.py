"""A work directory: one config, its data, checkpoints, metrics and results. Stages share nothing but these files."""

import datetime
import json
import os
import platform
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import ml_collections

from stgrpo.errors import UserError
from stgrpo.files import write_atomically

PACKAGES = ("stgrpo", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "transformers", "numpy")


# What says who is asked and how, or where it is computed, not what this run is: it may differ from command to command.
RUNTIME_FIELDS = (
    "policy",
    "client",
    "monitor",
    "mesh",
    "watchdog_minutes",
    "expert.server",
    "expert.tries",
    "expert.layouts",
    "evaluation.constrain_action",
    "evaluation.reasoning_chars",
    "rollout.servers",
    "rollout.python",
    "rollout.flags",
    "rollout.folder",
    "rollout.timeout",
    "rollout.server_wait_s",
)


class WorkDir:
    """Paths of a work directory, and the claim of one config on it."""

    def __init__(self, path: str | os.PathLike[str]):
        self.path = Path(path).absolute()
        self.tokenizer = self.path / "tokenizer"
        self.metrics = self.path / "metrics.jsonl"
        self.samples = self.path / "samples.jsonl"
        self.programs = self.path / "programs.log"
        self.evaluation = self.path / "evaluation"

    def data(self, task: str, split: str) -> Path:
        """The trajectories of one task and split."""
        return self.path / "data" / task / f"{split}.jsonl"

    def expert(self, task: str, split: str) -> Path:
        """Every episode that a served expert played for `data`, failures too."""
        return self.path / "expert" / task / f"{split}.jsonl"

    def checkpoints(self, stage: str) -> Path:
        """The folder that holds one folder a checkpoint."""
        return self.path / "checkpoints" / stage

    def claim(self, config: ml_collections.ConfigDict) -> None:
        """Makes the directory this config's, or checks that it is.

        A field that the directory's config does not have yet, since it is older, counts as having its default; one that
        had another name then is the same field. Which served models are evaluated, and how servers are asked, may
        change from command to command.

        Raises:
            UserError: it belongs to another config; the fields that differ are named.
        """
        # Brings jax, which those who only read a work directory do without.
        from stgrpo.config import base, with_new_names

        file = self.path / "config.json"
        mine = json.loads(config.to_json())
        if file.is_file():
            theirs = with_new_names(_read_json(file))
            found = _differences(mine, _completed(theirs, json.loads(base().to_json())))
            differ = sorted(
                text for at, text in found if not f"{at}.".startswith(tuple(f"{f}." for f in RUNTIME_FIELDS))
            )
            if differ:
                shown = "; ".join(differ[:6]) + ("; ..." if len(differ) > 6 else "")
                raise UserError(f"{self.path} belongs to a run with another config ({shown}): use another --workdir")
            return
        if self.path.exists() and not self.path.is_dir():
            raise UserError(f"--workdir={self.path} is a file: give a folder")
        if self.path.is_dir() and any(p.name != "expert" for p in self.path.iterdir()):  # episodes may be brought along
            raise UserError(f"--workdir={self.path} is not empty and has no config.json: give a new or empty folder")
        self.path.mkdir(parents=True, exist_ok=True)
        write_atomically(file, json.dumps(mine, indent=2) + "\n")

    def record(self, environment: Mapping[str, object]) -> None:
        """Writes environment.json: versions, commit, machine and devices of the last stage that ran."""
        write_atomically(self.path / "environment.json", json.dumps(environment, indent=2) + "\n")


def environment() -> dict[str, object]:
    """What this process runs on."""
    import importlib.metadata

    import jax

    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = "not installed"
    devices = jax.devices()
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu_count": os.cpu_count(),
        "versions": versions,
        "git_commit": _git_commit(),
        "devices": {"platform": devices[0].platform, "kind": devices[0].device_kind, "count": len(devices)},
        "processes": jax.process_count(),
    }


def _read_json(file: Path) -> dict:
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:  # not JSON, or not even text
        raise UserError(f"{file} is not JSON ({error}): restore it or use another --workdir") from error
    if not isinstance(values, dict):
        raise UserError(f"{file} is no config: restore it or use another --workdir")
    return values


def _completed(given: dict, defaults: dict) -> dict:
    """The given fields, and the defaults of all others."""
    both = [k for k, v in given.items() if isinstance(v, dict) and isinstance(defaults.get(k), dict)]
    parts = {k: _completed(given[k], defaults[k]) for k in both}
    return {**defaults, **given, **parts}


def _differences(mine: object, theirs: object, at: str = "") -> Iterator[tuple[str, str]]:
    """The fields that differ, each with a text that says how."""
    if isinstance(mine, dict) and isinstance(theirs, dict):
        for key in mine.keys() | theirs.keys():
            yield from _differences(mine.get(key), theirs.get(key), f"{at}.{key}" if at else key)
    elif mine != theirs:
        yield at, f"{at}: {mine!r} here, {theirs!r} there"


def _git_commit() -> str:
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return "not a git checkout"
