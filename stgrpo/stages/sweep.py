"""Sweep: a run for each combination of values, what they have in common made once."""

import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from ml_collections import ConfigDict

from stgrpo.console import say, table
from stgrpo.errors import RunError, UserError
from stgrpo.evaluation.files import list_evaluations
from stgrpo.files import check_place, read_object
from stgrpo.plan.checks import validate
from stgrpo.sweeps.local import PARENT, gpu_shares, run_units
from stgrpo.sweeps.plan import FILE, Plan, check_folder, read_plan, write_plan
from stgrpo.sweeps.share import share
from stgrpo.sweeps.slurm import slurm_script
from stgrpo.sweeps.state import DONE, State, is_done, log_file, read_state, write_state
from stgrpo.sweeps.units import Unit, find, units_of
from stgrpo.training.inputs import check_given
from stgrpo.workdir import WorkDir
from stgrpo.workdir.lock import locked

RunStages = Callable[[Sequence[str], ConfigDict, Path], None]
"""Does some stages by a config in a work directory."""
_LOOK_S = 2.0


def check_sweep(plan: Plan, folder: Path) -> None:
    """Looks at all points and at the folder before anything is made.

    Raises:
        UserError: a point's config is wrong, or the folder has something else in it.
    """
    check_place(folder, "--workdir")
    check_folder(folder, plan)
    for point in plan.points:
        check_place(folder / "points" / point, "--workdir")
        if errors := validate(plan.config_of(point)):
            raise UserError(f"{point}: {'; '.join(errors)}")


def check_models(plan: Plan, folder: Path) -> None:
    """Looks at the models and tokenizers that points start from, as a run does before it begins: those of new points.

    Raises:
        UserError: one cannot be used.
    """
    begun = read_plan(folder).points if (folder / FILE).is_file() else {}
    for point in plan.points.keys() - begun.keys():
        try:
            check_given(plan.config_of(point), weights=True)
        except UserError as error:
            raise UserError(f"{point}: {error}") from error


def describe(plan: Plan) -> str:
    """What a sweep would do, in lines."""
    units = units_of(plan)
    rows = [(unit.name, ", ".join(unit.stages), unit.parent or "-") for unit in units]
    return "\n".join(table(rows, ("work directory", "does", "begins with what is in")))


def print_slurm(plan: Plan, folder: Path, jobs: int) -> None:
    """Makes the folder and prints the script."""
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder / "lock", f"--workdir={folder}"):
        write_plan(folder, plan)
    print(slurm_script(folder, units_of(plan), jobs), end="")


def run_sweep(plan: Plan, folder: Path, jobs: int) -> None:
    """Does what is left of a sweep on this machine.

    Raises:
        UserError: another job has the folder, or there are more jobs than GPUs.
        RunError: some points are not done at the end.
    """
    shares, units = gpu_shares(jobs, os.environ), units_of(plan)
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder / "lock", f"--workdir={folder}"):
        write_plan(folder, plan)
        lost = run_units(folder, units, shares)
    show(folder, units)
    if lost:
        first = lost[0]
        state = read_state(folder, first)
        why = f" ({state.said})" if state else ""
        more = f" and {len(lost) - 1} more" if len(lost) > 1 else ""
        raise RunError(
            f"{first.name}{more} not done{why}: see {log_file(folder, first.name)}; "
            "the same command does what is left, and only that"
        )
    say(f"sweep: all {len(plan.points)} points are done; `stgrpo compare {folder}` compares them")


def run_unit(folder: Path, name: str, run_stages: RunStages) -> None:
    """Does one unit of a sweep, as its process or as a task of an array; one that is done is left alone.

    Raises:
        UserError: there is no such unit.
        RunError: what it begins with is not done.
    """
    _follow_parent()
    plan = read_plan(folder)
    units = units_of(plan)
    unit = find(units, name)
    if is_done(folder, unit):
        say(f"sweep: {name} is done")
        return
    began = time.monotonic()
    config, workdir = plan.config_of(unit.point), WorkDir(folder / unit.name)
    if unit.parent:
        _begin_with(folder, find(units, unit.parent), unit, config)
    for stage in unit.stages:
        run_stages((stage,), config, workdir.path)
    write_state(folder, unit, State(DONE, round(time.monotonic() - began, 1)))


def _begin_with(folder: Path, parent: Unit, unit: Unit, config: ConfigDict) -> None:
    if not is_done(folder, parent):
        fix = f"do that first (see {log_file(folder, parent.name)})"
        raise RunError(f"{unit.name} begins with what is in {parent.name}, which is not done: {fix}")
    workdir = WorkDir(folder / unit.name)
    with workdir.owned():
        workdir.claim(config)
        share(WorkDir(folder / parent.name), workdir, unit.given)


def _follow_parent() -> None:
    """Ends this process, as SIGTERM does, when the sweep that started it is gone."""
    if not (parent := os.environ.pop(PARENT, "")):
        return

    def look() -> None:
        while str(os.getppid()) == parent:
            time.sleep(_LOOK_S)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=look, daemon=True).start()


def show(folder: Path, units: Sequence[Unit]) -> None:
    """The table at the end: of each point whether it is done, and its success rates."""
    found = [(unit, read_state(folder, unit)) for unit in units if unit.name.startswith("points/")]
    rates = {unit.name: _rates(folder / unit.name / "evaluation") for unit, _ in found}
    names = sorted({name for rate in rates.values() for name in rate}, reverse=True)
    rows = [
        (
            unit.name.removeprefix("points/"),
            state.status if state else "not done",
            *(rates[unit.name].get(name, "-") for name in names),
        )
        for unit, state in found
    ]
    for line in table(rows, ("point", "", *(f"SR {name}" for name in names))):
        say(line)


def _rates(directory: Path) -> dict[str, str]:
    """The success rates of the evaluations there, by their names."""
    rates = {}
    for name in list_evaluations(directory):
        sr = read_object(directory / f"{name}.json", "evaluate again").get("summary", {}).get("sr")
        rates[name] = "-" if sr is None else f"{sr:.3f}"
    return rates
