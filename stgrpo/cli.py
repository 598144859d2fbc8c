"""The command line: `stgrpo STAGE --config=FILE.py[:ARG] --workdir=DIR [--config.path.to.field=VALUE ...]`."""

import contextlib
import dataclasses
import functools
import io
import logging
import os
import re
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from stgrpo import processes
from stgrpo.errors import Preempted, RunError, ServerError, UserError, nearest
from stgrpo.files import check_place, reason_of, way_on
from stgrpo.processes.logs import complain

log = logging.getLogger(__name__)
USAGE = """\
stgrpo - teach a small language model to plan long tasks, one turn at a time (arXiv 2509.20616)

usage: stgrpo STAGE --config=FILE.py[:ARG] --workdir=DIR [--config.path.to.field=VALUE ...] [--dry_run]

Stages, in the order in which `run` does them (each is skipped where its output is complete, and goes on where it was):
  collect    the expert solves layouts; every state becomes a single-turn problem   -> data/TASK/*.jsonl, tokenizer/
  sft        the model learns the expert's answers                                  -> checkpoints/sft
  grpo       it draws groups of answers and learns from their rewards               -> checkpoints/grpo, samples.jsonl
  evaluate   it plays whole episodes in layouts it has never seen                   -> evaluation/
  report     one self-contained page                                                -> report.html
  run        all of the above

And beside them:
  export     a checkpoint as a Hugging Face folder                                  -> the work directory itself
  serve      a vLLM server for rollouts: a checkpoint, or the model in model.path  -> http://HOST:PORT
  plan       compiles the GRPO update and the sampler for a topology, runs nothing: memory, work, time
  play       you in the agent's place, in the terminal: stgrpo play [--env=NAME] [--task=TASK] [--layout=LAYOUT] [--raw]
  help       of a field of the config or of a section: stgrpo help grpo.kl_coef, stgrpo help grpo

Options:
  --config=FILE.py[:ARG]     an experiment; configs/ has them
  --workdir=DIR              where everything of this run is; it belongs to one config
  --config.FIELD=VALUE       change one field, e.g. --config.grpo.kl_coef=0.01
  --distributed=auto         one of several processes: what Slurm, a TPU pod or JAX_COORDINATOR_ADDRESS say, or
                             HOST:PORT,COUNT,ID; process 0 writes and speaks, the others have logs/process-ID.log
  --distributed_timeout=30   seconds that the processes wait for each other at the start
  --dry_run                  check everything, print the resolved config and what would be done, and stop
  --checkpoint=DIR           evaluate, export, serve: a step folder such as RUN/checkpoints/grpo/160; then no --config
  --topology=h100:8          plan: GPUs, or TPUs as v5e:4x4, that need not be there; without it, this machine
  --dtype=float32            export: of the weights; bfloat16 halves their size
  --host=127.0.0.1           serve: where to listen; whoever can reach it can replace the model
  --port=8000                serve: on which port
  --env=robotouille          play: an environment that a person can play
  --task=burger              play: a task
  --layout=random:3          play: a layout of the task; for robotouille also random for any, or FILE.json
  --raw                      play: show the very text an agent is shown

First steps:
  stgrpo run --config=configs/tiny.py --workdir=runs/tiny          the whole method on a laptop's CPU
  stgrpo evaluate --checkpoint=runs/tiny/checkpoints/grpo/160      any checkpoint, by itself
  stgrpo export --checkpoint=runs/tiny/checkpoints/grpo/160 --workdir=exported

Served models (any OpenAI-compatible server), as a baseline and as the expert:
  stgrpo evaluate --config=FILE.py --workdir=DIR --config.policy.kind=server --config.policy.server=http://HOST:8000
                  --config.policy.model=MODEL
  stgrpo collect --config=FILE.py --workdir=DIR --config.expert.kind=llm --config.expert.server=http://HOST:8000
                  --config.expert.model=MODEL

Exit status: 0 done; 2 a mistake in what was given (one line: what, where, the fix); 1 a failure of ours;
75 asked to end (SIGTERM), all saved, the same command goes on. Of several processes all end with the same.
"""
STAGES = ("collect", "sft", "grpo", "evaluate", "report")
TRAINING = ("sft", "grpo")  # stages that are sections of the config too
COMMANDS = (*STAGES, "run", "export", "serve", "plan", "play")
FLAGS_OF = {
    "checkpoint": ("evaluate", "export", "serve"),
    "dtype": ("export",),
    "topology": ("plan",),
    "host": ("serve",),
    "port": ("serve",),
    "distributed": (*STAGES, "run"),
    "distributed_timeout": (*STAGES, "run"),
}

# What the exceptions that say all in one line end with; the first that fits.
STATUS = {UserError: 2, ServerError: 1, RunError: 1, Preempted: 75}


@dataclasses.dataclass(frozen=True)
class Command:
    """A parsed command line, its config complete and locked."""

    stage: str
    config: "ConfigDict"  # noqa: F821 - imported where it is needed, to keep --help fast
    workdir: str
    checkpoint: str
    dtype: str
    topology: str
    host: str
    port: int
    dry_run: bool
    distributed: str
    distributed_timeout: int


def main(argv: Sequence[str] | None = None) -> None:
    """Entry point of the `stgrpo` command; for its exit status see `USAGE`."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    topic = arguments[1:2] if arguments[:1] == ["help"] else []
    asks = not arguments or arguments[0] in ("-h", "--help", "help") or "--help" in arguments
    if asks and (not topic or (topic[0] in COMMANDS and topic[0] not in TRAINING)):
        print(USAGE)
        sys.exit(0)
    _ignore_relative_folders()
    if isinstance(sys.stdout, io.TextIOWrapper):  # what a terminal cannot show ends nothing
        sys.stdout.reconfigure(errors="backslashreplace")
    logging.basicConfig(format="stgrpo: %(levelname)s: %(message)s", level=logging.WARNING)
    if sys.unraisablehook is sys.__unraisablehook__:
        sys.unraisablehook = _tell_of
    for name in ("absl", "asyncio"):  # Orbax logs with tracebacks what it then raises
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        _help(topic[0]) if topic else _run_together(arguments)
        sys.stdout.flush()
    except BrokenPipeError:  # whoever read what was printed has seen enough, as `| head` has
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)  # as a shell has it for SIGPIPE
    except KeyboardInterrupt:
        _exit(130, "interrupted; the same command goes on where it was")
    except tuple(STATUS) as error:
        _give_way(error)
        _exit(next(status for kind, status in STATUS.items() if isinstance(error, kind)), _one_line(error))
    except OSError as error:  # of a disk that is full, gone, or forbidden, wherever it was met
        where = f"{error.filename}: " if error.filename is not None else ""
        _exit(1, f"{where}{reason_of(error)}: {way_on(error)}")
    except MemoryError:
        _exit(1, "there is no memory left: free some, and the same command goes on")
    except Exception as error:
        if processes.count() == 1:
            raise
        _give_way(error)
        traceback.print_exc()
        _exit(1, f"{type(error).__name__}: {_one_line(error)}")


def _tell_of(lost: "sys.UnraisableHookArgs") -> None:
    """Prints what nobody could catch, but not what a save or a read still says that Orbax has given up."""
    files = [frame.filename for frame in traceback.extract_tb(lost.exc_traceback)]
    if not any("/orbax/" in file or "/asyncio/" in file for file in files):
        sys.__unraisablehook__(lost)


def _give_way(error: Exception) -> None:
    """Lets another process say what went wrong, where an error may come of that."""
    if processes.count() > 1:
        from stgrpo.processes.failure import give_way

        give_way(error)


def _exit(status: int, text: str) -> NoReturn:
    """Says why and ends; where there are several processes, all of them.

    Also where Orbax has threads that wait minutes for what an error of the disk has kept from them.
    """
    complain(text)
    sys.stdout.flush()
    if processes.count() > 1:
        from stgrpo.processes.failure import abort

        abort(status, text)
    if status == 1 and any(type(thread).__module__.startswith("orbax.") for thread in threading.enumerate()):
        os._exit(1)
    sys.exit(status)


def _help(name: str) -> None:
    """Explains a field of the config, or a section."""
    from stgrpo.config.docs import explain

    print(explain(name))


def _run_together(arguments: Sequence[str]) -> None:
    """`run`, as one of several processes where `--distributed` says so."""
    given = dict(a.removeprefix("--").partition("=")[::2] for a in _joined(arguments) if a.startswith("--"))
    if "distributed" not in given or arguments[0] not in FLAGS_OF["distributed"]:
        run(arguments)
        return
    from stgrpo.processes.join import join, leave

    timeout = given.get("distributed_timeout", "30")
    join(given["distributed"], int(timeout) if timeout.isdigit() else 30)
    run(arguments)
    leave()


def run(arguments: Sequence[str]) -> None:
    """Parses and does one command.

    Raises:
        UserError: anything wrong with what was given.
    """
    if arguments[0] == "play":
        _play(arguments)
        return
    command = parse(arguments)
    check(command.config)
    if command.dry_run:
        from stgrpo.plan.dry_run import describe

        said = describe(command.stage, command.config)
        if processes.is_first():
            print(said)
        return
    if command.stage == "plan":
        from stgrpo.plan.update import plan

        print(plan(command.config, command.topology))
        return
    _use_compilation_cache()
    if command.stage == "serve":
        from stgrpo.stages.serve import serve

        serve(command.config, command.checkpoint, host=command.host, port=command.port)
        return
    if command.checkpoint:
        (_export if command.stage == "export" else _evaluate_one)(command)
        return
    from stgrpo.processes import logs, preemption, watchdog
    from stgrpo.processes.exchange import tell
    from stgrpo.workdir import WorkDir, environment

    preemption.listen()
    workdir = WorkDir(command.workdir)
    if command.stage == "report":  # only reads what others write: it shows a run that is under way
        tell(lambda: workdir.claim(command.config))
        tell(functools.partial(_stage("report"), command.config, workdir))
        return
    if command.stage == "run" and not workdir.checkpoints("sft").is_dir():
        from stgrpo.training.inputs import check_given

        check_given(command.config, weights=True)  # what sft would refuse, before collect plays for it
    with contextlib.ExitStack() as held:
        tell(lambda: held.enter_context(workdir.owned()))
        tell(lambda: workdir.claim(command.config))
        logs.keep(workdir.path / "logs")
        watchdog.watch(command.config.watchdog_minutes)
        facts = environment()  # asks for devices, so all processes do
        tell(lambda: workdir.record(facts))
        for stage in STAGES if command.stage == "run" else (command.stage,):
            work = functools.partial(_stage(stage), command.config, workdir)
            tell(work) if stage in ("collect", "report") else work()


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
    flags.DEFINE_string("checkpoint", "", "", flag_values=values)
    flags.DEFINE_enum("dtype", "float32", ("float32", "bfloat16"), "", flag_values=values)
    flags.DEFINE_string("topology", "", "", flag_values=values)
    flags.DEFINE_string("host", "127.0.0.1", "", flag_values=values)
    flags.DEFINE_integer("port", 8000, "", 1, 65535, flag_values=values)
    flags.DEFINE_bool("dry_run", False, "", flag_values=values)
    flags.DEFINE_string("distributed", "", "", flag_values=values)
    flags.DEFINE_integer("distributed_timeout", 30, "", 1, 86400, flag_values=values)
    rest = _joined(rest)
    _define_config(values, rest)
    try:
        extra = values([stage, *(a for a in rest if not a.startswith("--config="))])[1:]
    except (MemoryError, RecursionError) as error:  # so Python says of an expression that is nested too deeply
        raise UserError("an argument is nested too deeply: give a tuple such as \"('a', 'b')\"") from error
    except flags.Error as error:
        raise UserError(f"{_one_line(error)} (stgrpo --help)") from error
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
        host=values.host,
        port=values.port,
        dry_run=values.dry_run,
        distributed=values.distributed,
        distributed_timeout=values.distributed_timeout,
    )
    _check_paths(command)
    return command


def _play(arguments: Sequence[str]) -> None:
    """Reads the flags of `play`, which has neither a config nor a work directory."""
    from absl import flags

    values = flags.FlagValues()
    flags.DEFINE_string("env", "robotouille", "", flag_values=values)
    flags.DEFINE_string("task", "", "", flag_values=values)
    flags.DEFINE_string("layout", "", "", flag_values=values)
    flags.DEFINE_bool("raw", False, "", flag_values=values)
    try:
        extra = values(list(arguments))[1:]
    except flags.Error as error:
        raise UserError(f"{_one_line(error)} (stgrpo --help)") from error
    if extra:
        raise UserError(f"argument {extra[0]!r} is not understood: play takes --env, --task, --layout and --raw")
    from stgrpo import envs
    from stgrpo.protocol import Playable

    environment = envs.get(values.env)
    if not isinstance(environment, Playable):
        raise UserError(f"--env={values.env} cannot be played by a person: it has no method play")
    environment.play(values.task, values.layout, raw=values.raw)


def _check_paths(command: Command) -> None:
    if command.stage == "export" and not command.checkpoint:
        raise UserError("--checkpoint is missing: give one step folder, such as --checkpoint=RUN/checkpoints/grpo/160")
    one_policy = command.checkpoint and command.stage == "evaluate"
    if one_policy and command.config.policy.kind == "server":
        raise UserError("--checkpoint and config.policy.kind='server' are two policies: leave one of them out")
    needs_none = command.dry_run or command.stage in ("plan", "serve") or one_policy
    if not command.workdir and not needs_none:
        raise UserError("--workdir is missing: give a folder for this run, such as --workdir=runs/tiny")
    for name, value in (("--workdir", command.workdir), ("--checkpoint", command.checkpoint)):
        check_place(Path(value).absolute() if value else "", name)


def _joined(arguments: Sequence[str]) -> list[str]:
    """`--config FILE` as `--config=FILE`, and so for the other flags that take a value."""
    joined: list[str] = []
    for argument in arguments:
        if (
            joined
            and joined[-1] in ("--config", *(f"--{name}" for name in ("workdir", *FLAGS_OF)))
            and not argument.startswith("--")
        ):
            joined[-1] += f"={argument}"
        else:
            joined.append(argument)
    return joined


def _define_config(values: "FlagValues", rest: Sequence[str]) -> None:  # noqa: F821
    """Defines --config on the flags: from the file given, or from the checkpoint where only that is given."""
    from ml_collections import config_flags
    from ml_collections.config_dict import RequiredValueError

    given = dict(a.removeprefix("--").partition("=")[::2] for a in rest if a.startswith("--"))
    if "config" in given:
        config = _load(given["config"])
    elif "checkpoint" in given:
        config = _config_of(Path(given["checkpoint"]))
    else:
        raise UserError("--config is missing: give an experiment, such as --config=configs/tiny.py")
    _check_fields(rest)
    arguments = [a for a in rest if not a.startswith("--config=")]
    try:
        config_flags.DEFINE_config_dict("config", config, flag_values=values, sys_argv=["stgrpo", *arguments])
    except (AttributeError, KeyError, RequiredValueError, TypeError) as error:  # a config of another form than base()
        raise UserError(f"the config lacks a field that is set here ({_one_line(error)}): begin with base()") from error


def _load(spec: str) -> "ConfigDict":  # noqa: F821
    """Runs get_config(ARG) of a file, given as FILE.py or FILE.py:ARG."""
    import importlib.util

    from ml_collections import ConfigDict

    path, argument = _split(spec)
    if not path.is_file():
        raise UserError(f"--config={path} does not exist: give a file such as configs/tiny.py")
    if path.suffix != ".py":
        raise UserError(f"--config={path} is no Python file: give one such as configs/tiny.py")
    module_spec = importlib.util.spec_from_file_location(f"_config_{path.stem}", path)
    module = importlib.util.module_from_spec(module_spec)
    neighbours = [str(folder) for folder in path.absolute().parents[:2]]  # an ablation imports what it changes
    sys.path[:0] = neighbours
    try:
        module_spec.loader.exec_module(module)
        config = module.get_config(argument) if argument else module.get_config()
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"--config={spec} cannot be loaded ({type(error).__name__}: {_one_line(error)})") from error
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


def _config_of(folder: Path) -> "ConfigDict":  # noqa: F821
    from ml_collections import ConfigDict

    from stgrpo.config import base, with_new_names
    from stgrpo.training.checkpointing import load_metadata

    config = base()
    with config.unlocked():
        config.update(ConfigDict(with_new_names(load_metadata(folder).config), convert_dict=True))
    return config.lock()


def _check_fields(arguments: Sequence[str]) -> None:
    """Raises a UserError for an argument that sets a field there is not, before absl meets it."""
    from stgrpo.config import FIELDS
    from stgrpo.config.names import suggest

    for argument in arguments:
        flag = re.fullmatch(r"--?(?:no)?config\.([^=]*)(=.*)?", argument, re.DOTALL)
        if flag and flag[1] not in FIELDS:
            raise UserError(f"--config.{flag[1]} is not a field of the config: {suggest(flag[1])}")


def check(config: "ConfigDict") -> None:  # noqa: F821
    """Raises a UserError that holds every error of the config."""
    from stgrpo.plan.checks import validate

    errors = validate(config)
    if errors:
        raise UserError("; ".join(errors))


def _stage(name: str) -> Callable[["ConfigDict", "WorkDir"], None]:  # noqa: F821
    if name == "collect":
        from stgrpo.stages.collect import run_collect as stage
    elif name == "sft":
        from stgrpo.stages.sft import run_sft as stage
    elif name == "grpo":
        from stgrpo.stages.grpo import run_grpo as stage
    elif name == "evaluate":
        from stgrpo.stages.evaluate import run_evaluate as stage
    else:
        from stgrpo.stages.report import run_report as stage
    return stage


def _evaluate_one(command: Command) -> None:
    from stgrpo.evaluation.checkpoints import evaluate_checkpoint
    from stgrpo.processes.exchange import tell
    from stgrpo.stages.evaluate import show
    from stgrpo.training.checkpointing import load_metadata
    from stgrpo.workdir import WorkDir

    folder = Path(command.checkpoint)
    record = load_metadata(folder)
    workdir = WorkDir(command.workdir or f"runs/evaluate-{record.stage}-{record.step}")
    with contextlib.ExitStack() as held:
        tell(lambda: held.enter_context(workdir.owned(results_only=True)))
        results = evaluate_checkpoint(command.config, folder, workdir.evaluation)
        if processes.is_first():
            show(results)
            print(f"evaluate: every episode is in {workdir.evaluation}")


def _export(command: Command) -> None:
    from stgrpo.stages.export import export_checkpoint

    export_checkpoint(Path(command.checkpoint), Path(command.workdir), command.dtype)


def _use_compilation_cache() -> None:
    """Keeps compiled programs between commands, unless the environment says where or not to."""
    import jax

    if "JAX_COMPILATION_CACHE_DIR" not in os.environ and (cache := _cache()):
        jax.config.update("jax_compilation_cache_dir", str(cache))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 1.0)


def _cache() -> Path | None:
    """The folder of compiled programs, which is there then; None where the user has no place for one."""
    import platformdirs

    try:
        folder = platformdirs.user_cache_path("stgrpo", appauthor=False) / "jax"
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except (OSError, RuntimeError) as error:  # RuntimeError: the user has no home
        log.warning("compiled programs are not kept (%s): set XDG_CACHE_HOME to a folder for them", _one_line(error))
        return None


def _ignore_relative_folders() -> None:
    """Drops a cache folder that is empty or relative, as the XDG specification asks of whoever reads it.

    Libraries that do not would put their caches into the folder that the command runs in; a server that is started from
    here inherits this.
    """
    for name in ("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME", "HOME"):
        if name in os.environ and not Path(os.environ[name]).is_absolute():
            del os.environ[name]


def _one_line(error: BaseException) -> str:
    """What an error says, in characters that a terminal shows and any encoding has a form for."""
    text = " ".join(str(error).split())
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
