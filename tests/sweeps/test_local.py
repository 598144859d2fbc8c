"""Units in processes of this machine: in their order, several at a time, without those that failed."""

import os
import subprocess
import threading
import time

import pytest

from stgrpo.errors import Preempted, UserError
from stgrpo.sweeps.local import PARENT, gpu_shares, run_units
from stgrpo.sweeps.state import DONE, FAILED, State, is_done, read_state, write_state
from stgrpo.sweeps.units import Unit

UNITS = [
    Unit("shared/a", "x", ("collect",)),
    Unit("points/x", "x", ("run",), ("collect",), "shared/a", 1),
    Unit("points/y", "y", ("run",), ("collect",), "shared/a", 1),
    Unit("shared/b", "z", ("collect",)),
    Unit("points/z", "z", ("run",), ("collect",), "shared/b", 1),
]


class Starter:
    """Begins units that only sleep and leave their state, or end as they are told to."""

    def __init__(self, folder, status=(), seconds=0.0):
        self.folder, self.status, self.seconds = folder, dict(status), seconds
        self.begun, self.environments, self.processes = [], [], []

    def __call__(self, unit, environment, log):
        self.begun.append(unit.name)
        self.environments.append(environment)
        work = self.folder / unit.name
        work.mkdir(parents=True, exist_ok=True)
        (work / "config.json").write_text("{}")
        status = self.status.get(unit.name, 0)
        if status == 0:
            write_state(self.folder, unit, State(DONE, 1.0))
        self.processes.append(
            subprocess.Popen(
                ["bash", "-c", f"trap 'exit 75' TERM; sleep {self.seconds} & wait $!; echo stgrpo: why; exit {status}"],
                stdout=log,
                stderr=log,
            )
        )
        return self.processes[-1]


def test_parents_come_before_children_and_what_is_done_is_not_done_again(tmp_path):
    start = Starter(tmp_path)
    assert run_units(tmp_path, UNITS, [{}], start) == []
    assert start.begun == [unit.name for unit in UNITS]
    assert start.environments[0][PARENT] == str(os.getpid())
    assert run_units(tmp_path, UNITS, [{}], start) == [] and len(start.begun) == len(UNITS)


def test_one_that_fails_loses_only_those_that_begin_with_it_and_is_tried_again(tmp_path, capsys):
    failing = Starter(tmp_path, {"shared/a": 2, "points/z": 1})
    assert [unit.name for unit in run_units(tmp_path, UNITS, [{}], failing)] == [
        "shared/a",
        "points/x",
        "points/y",
        "points/z",
    ]
    assert failing.begun == ["shared/a", "shared/b", "points/z"]
    state = read_state(tmp_path, UNITS[0])
    assert state is not None and (state.status, state.said) == (FAILED, "why")
    assert "shared/a is not done, status 2: why" in capsys.readouterr().out
    again = Starter(tmp_path)
    assert run_units(tmp_path, UNITS, [{}], again) == []
    assert again.begun == ["shared/a", "points/x", "points/y", "points/z"]


def test_a_unit_whose_folder_is_gone_is_not_done(tmp_path):
    run_units(tmp_path, UNITS, [{}], Starter(tmp_path))
    (tmp_path / "points" / "y" / "config.json").unlink()
    assert [is_done(tmp_path, unit) for unit in UNITS] == [True, True, False, True, True]


def test_several_at_a_time(tmp_path):
    start = Starter(tmp_path, seconds=0.3)
    began = time.monotonic()
    assert run_units(tmp_path, UNITS, [{}] * 3, start) == []
    assert start.begun[:2] == ["shared/a", "shared/b"] and time.monotonic() - began < 5 * 0.3 + 1


def test_one_that_is_asked_to_end_asks_what_is_at_work_and_waits_for_it(tmp_path, monkeypatch):
    start = Starter(tmp_path, seconds=30)

    def sleep(_):
        if len(start.processes) == 2:
            time.sleep_really(0.2)
            raise Preempted("asked to end")

    monkeypatch.setattr(time, "sleep_really", time.sleep, raising=False)
    monkeypatch.setattr(time, "sleep", sleep)
    with pytest.raises(Preempted):
        run_units(tmp_path, UNITS, [{}, {}], start)
    assert [process.poll() for process in start.processes] == [75, 75]
    assert threading.active_count() < 50


def test_jobs_share_the_gpus_evenly():
    given = {"CUDA_VISIBLE_DEVICES": "4,5,6,7"}
    assert gpu_shares(2, given) == [{"CUDA_VISIBLE_DEVICES": "4,6"}, {"CUDA_VISIBLE_DEVICES": "5,7"}]
    assert gpu_shares(1, given) == [{}]
    assert gpu_shares(8, {**given, "JAX_PLATFORMS": "cpu"}) == [{}] * 8
    assert gpu_shares(2, {"CUDA_VISIBLE_DEVICES": ""}) == [{}, {}]
    with pytest.raises(UserError, match="--jobs=5 is more than the 4 GPUs here: use --jobs=4"):
        gpu_shares(5, given)
