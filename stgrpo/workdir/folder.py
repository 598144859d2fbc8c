"""The paths of a work directory and the claim of one config on it. Stages share nothing but these files."""

import contextlib
import datetime
import os
import platform
import subprocess
import time
from collections.abc import Generator, Iterator, Mapping
from pathlib import Path

import ml_collections

from stgrpo import processes
from stgrpo.errors import UserError
from stgrpo.files import check_place, from_json, is_leftover, reason_of, remove, to_json, write_atomically
from stgrpo.processes.exchange import tell
from stgrpo.workdir.lock import locked

PACKAGES = ("stgrpo", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "transformers", "numpy")

PROTOCOLS = "protocols.jsonl"
"""In a folder of evaluations: what each was to be, written before it was played."""
PLACES = ("evaluation", "wandb", "data/*", "expert/*")
"""Folders in which files are replaced at once; checkpoints see to theirs."""
_LOOKS_S = (0.5, 1.0, 2.0, 4.0, 8.0)
"""Between the looks of a process for what another has written."""
REPORT_S = 600.0
"""The longest that a report is in the making."""

# What says who is asked and how, or where it is computed, not what this run is: it may differ from command to command.
RUNTIME_FIELDS = (
    "policy",
    "client",
    "monitor",
    "profile",
    "mesh",
    "watchdog_minutes",
    "env.data",
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


_BEFORE_WORK = ("config.json", "environment.json", "lock", "logs", "faults", "expert")
"""What a work directory may have before a stage has made anything; `expert` may be brought along."""


class WorkDir:
    """Paths of a work directory, and the claim of one config on it.

    Raises:
        UserError: checkpoints could not be read from a folder of this name.
    """

    def __init__(self, path: str | os.PathLike[str]):
        self.path = _home(Path(path)).absolute()
        check_place(self.path, "--workdir")
        self.tokenizer = self.path / "tokenizer"
        self.metrics = self.path / "metrics.jsonl"
        self.samples = self.path / "samples.jsonl"
        self.programs = self.path / "programs.log"
        self.evaluation = self.path / "evaluation"
        self.protocols = self.evaluation / PROTOCOLS
        self.analysis = self.path / "analysis.json"
        self.faults = self.path / "faults"
        self.export = self.path / "export"

    def data(self, task: str, split: str) -> Path:
        """The trajectories of one task and split."""
        return self.path / "data" / task / f"{split}.jsonl"

    def expert(self, task: str, split: str) -> Path:
        """Every episode that a served expert played for `data`, failures too."""
        return self.path / "expert" / task / f"{split}.jsonl"

    def checkpoints(self, stage: str) -> Path:
        """The folder that holds one folder a checkpoint."""
        return self.path / "checkpoints" / stage

    @contextlib.contextmanager
    def owned(self, *, results_only: bool = False) -> Generator[None]:
        """This process alone writes here until the end; what killed ones left half-written is removed.

        Args:
            results_only: the folder takes results of an evaluation and belongs to no config.

        Raises:
            UserError: another job is at work here, or the folder is no work directory and cannot become one.
        """
        self._make(foreign=results_only)
        with locked(self.path / "lock", f"--workdir={self.path}"):
            ours = (self.path / "config.json").is_file() or not results_only
            places = (self.path, *(found for place in PLACES for found in self.path.glob(place)))
            for folder in places if ours else (self.evaluation,):
                _clean(folder)
            yield

    def claim(self, config: ml_collections.ConfigDict) -> None:
        """Makes the directory this config's, or checks that it is; only its owner may.

        One that another config claimed changes hands while nothing was made in it, as where a mistake was found first.

        Raises:
            UserError: see `check_config`, or it cannot be a work directory.
        """
        file = self.path / "config.json"
        if not file.is_file():
            self._make()
        elif self._has_begun():
            return self.check_config(config)
        elif not _other_fields(config, file):
            return None
        return write_atomically(file, config.to_json(indent=2) + "\n")

    def check_config(self, config: ml_collections.ConfigDict) -> None:
        """Checks that this is the work directory of a config.

        A field that the directory's config does not have yet, since it is older, counts as having its default; one that
        had another name then is the same field. Which served models are evaluated, and how servers are asked, may
        change from command to command.

        Raises:
            UserError: it is none, or belongs to another config, whose fields that differ are named.
        """
        file = self.path / "config.json"
        if not file.is_file():
            raise UserError(f"--workdir={self.path} has no config.json: give the folder of a run")
        if differ := _other_fields(config, file):
            shown = "; ".join(differ[:6]) + ("; ..." if len(differ) > 6 else "")
            raise UserError(f"{self.path} belongs to a run with another config ({shown}): use another --workdir")

    def config(self) -> ml_collections.ConfigDict:
        """The config that the directory belongs to.

        Raises:
            UserError: there is none, or it cannot be read.
        """
        from stgrpo.config import restored

        file = self.path / "config.json"
        if not file.is_file():
            raise UserError(f"--workdir={self.path} has no config.json: give the folder of a run")
        try:
            return restored(_read_json(file))
        except (AttributeError, TypeError, ValueError) as error:  # of a field of another form
            raise UserError(f"{file} is no config ({error}): restore it or use another --workdir") from error

    def check_shared(self) -> None:
        """Checks that this process sees the folder which process 0 has claimed; all call it.

        Raises:
            UserError: it does not, since the file system is not the same.
        """
        said = tell((self.path / "config.json").read_bytes)
        for wait in _LOOKS_S:
            with contextlib.suppress(OSError):
                if (self.path / "config.json").read_bytes() == said:
                    return
            time.sleep(wait)  # a network folder may be late
        who = f"process {processes.index()} on {platform.node()}"
        raise UserError(f"{who} does not see {self.path} as process 0 does: give a folder that all hosts share")

    def _has_begun(self) -> bool:
        """Whether a stage left something here that was made by the config."""
        return not all(path.name in _BEFORE_WORK or is_leftover(path) for path in self.path.iterdir())

    def _make(self, *, foreign: bool = False) -> None:
        """Makes the folder, or checks that it can be a work directory: it is one, or has no `foreign` files."""
        there = f"--workdir={self.path}"
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            allowed = foreign or (self.path / "config.json").is_file() or all(map(_may_be_there, self.path.iterdir()))
            if not allowed:
                raise UserError(f"{there} is not empty and has no config.json: give a new or empty folder")
        except FileExistsError as error:
            raise UserError(f"{there} is a file: give a folder") from error
        except OSError as error:
            raise UserError(f"{there} cannot be used ({reason_of(error)}): give one that can be written") from error
        if not os.access(self.path, os.W_OK | os.X_OK):
            raise UserError(f"{there} cannot be written: give a folder that can")

    def record(self, environment: Mapping[str, object]) -> None:
        """Writes environment.json: versions, commit, machine and devices of the last stage that ran."""
        write_atomically(self.path / "environment.json", to_json(environment, indent=2) + "\n")


def _home(path: Path) -> Path:
    """The path, with ~ for the home folder, which shells leave as it is behind an equals sign."""
    return path.expanduser() if path.parts[:1] == ("~",) else path


def _may_be_there(path: Path) -> bool:
    """Whether a new work directory may hold this: a lock, what a kill left, episodes that were brought along."""
    return path.name in ("lock", "expert") or is_leftover(path)


def _clean(folder: Path) -> None:
    """Removes leftovers; a report is made without the lock, so a young one of it may be at work."""
    for path in folder.iterdir() if folder.is_dir() else ():
        at_work = path.name.startswith("report.html.") and time.time() - path.stat().st_mtime < REPORT_S
        if is_leftover(path) and not at_work:
            remove(path)


def environment() -> dict[str, object]:
    """What this process runs on."""
    import importlib.metadata

    import jax

    from stgrpo.models.sharding import all_devices

    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = "not installed"
    devices = all_devices()
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


def _other_fields(config: ml_collections.ConfigDict, file: Path) -> list[str]:
    """The fields that make a config another run than the one of config.json, each with a text that says how."""
    # Brings jax, which those who only read a work directory do without.
    from stgrpo.config import base, with_new_names

    mine, theirs = from_json(config.to_json()), with_new_names(_read_json(file))
    found = _differences(mine, _completed(theirs, from_json(base().to_json())))
    return sorted(text for at, text in found if not f"{at}.".startswith(tuple(f"{f}." for f in RUNTIME_FIELDS)))


def _read_json(file: Path) -> dict:
    try:
        values = from_json(file.read_text(encoding="utf-8"))
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
