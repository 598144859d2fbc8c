"""The monitor of a stage: metrics.jsonl always, writers of one's own, and failures that end nothing."""

import json
import logging

import pytest

from stgrpo.config import base
from stgrpo.errors import RunError, UserError
from stgrpo.monitors import open as opening
from stgrpo.monitors.open import open_monitor, write_figures
from stgrpo.plan.checks import validate
from stgrpo.workdir import WorkDir

OWN = """
calls = []
class Mine:
    def start(self, run):
        calls.append(("start", run.stage, run.step, run.config["grpo"]["group_size"], run.environment))
    def write(self, step, values):
        calls.append(("write", step, dict(values)))
    def table(self, step, name, columns):
        calls.append(("table", step, name, dict(columns)))
    def close(self):
        calls.append(("close",))
class Failing(Mine):
    def write(self, step, values):
        calls.append(("write", step))
        if step == 2:
            raise OSError("no space\\nleft")
class Unstartable(Mine):
    def start(self, run):
        raise ConnectionError("nobody there")
class Half:
    def start(self, run): ...
    def write(self, step, values): ...
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A module of writers of one's own, its list of calls empty."""
    (tmp_path / "kitchen_monitors.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    import kitchen_monitors

    kitchen_monitors.calls.clear()
    return kitchen_monitors


def config_with(*writers):
    config = base()
    config.monitor.writers = writers
    return config


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_metrics_and_tables_are_always_written(tmp_path):
    with open_monitor(base(), WorkDir(tmp_path), "grpo", 0) as monitor:
        monitor.table(1, "samples", {"task": "burger", "responses": ["a"]})
        monitor.write(1, {"loss": 0.5})
    assert (tmp_path / "metrics.jsonl").read_text() == '{"stage": "grpo", "step": 1, "loss": 0.5}\n'
    assert lines(tmp_path / "samples.jsonl") == [{"stage": "grpo", "step": 1, "task": "burger", "responses": ["a"]}]


def test_a_writer_of_ones_own_is_told_everything(tmp_path, own):
    (tmp_path / "environment.json").write_text('{"git_commit": "abc"}')
    config = config_with("kitchen_monitors:Mine")
    assert validate(config) == []
    with open_monitor(config, WorkDir(tmp_path), "grpo", 3) as monitor:
        monitor.table(4, "samples", {"task": "burger"})
        monitor.write(4, {"loss": 0.5})
    assert own.calls == [
        ("start", "grpo", 3, 5, {"git_commit": "abc"}),
        ("table", 4, "samples", {"task": "burger"}),
        ("write", 4, {"loss": 0.5}),
        ("close",),
    ]


def test_a_writer_that_fails_is_warned_of_once_and_counted_and_the_others_go_on(tmp_path, own, caplog):
    config = config_with("kitchen_monitors:Failing", "kitchen_monitors:Mine")
    with caplog.at_level(logging.WARNING), open_monitor(config, WorkDir(tmp_path), "sft", 0) as monitor:
        for step in range(1, 5):
            monitor.write(step, {"loss": 1.0})
    (record,) = caplog.records
    says = "monitor kitchen_monitors:Failing failed at step 2 of sft and is left out: no space left"
    assert record.getMessage() == says
    assert [line.get("monitor_errors", 0) for line in lines(tmp_path / "metrics.jsonl")] == [0, 0, 1, 1]
    assert [call[1] for call in own.calls if call[0] == "write" and len(call) == 3] == [1, 2, 3, 4]
    assert [call for call in own.calls if call[0] == "write" and len(call) == 2] == [("write", 1), ("write", 2)]


def test_a_writer_that_cannot_start_is_left_out(tmp_path, own, caplog):
    with open_monitor(config_with("kitchen_monitors:Unstartable"), WorkDir(tmp_path), "sft", 0) as monitor:
        monitor.write(1, {"loss": 1.0})
    assert own.calls == [] and "nobody there" in caplog.text
    assert lines(tmp_path / "metrics.jsonl")[0]["monitor_errors"] == 1


def test_a_figure_that_is_not_finite_reaches_nobody(tmp_path, own):
    with open_monitor(config_with("kitchen_monitors:Mine"), WorkDir(tmp_path), "sft", 0) as monitor:
        with pytest.raises(RunError, match="loss=nan"):
            monitor.write(1, {"loss": float("nan")})
    assert [call[0] for call in own.calls] == ["start", "close"]


def test_figures_of_a_stage_without_steps_are_written_once_and_replaced_by_others(tmp_path, own):
    config, workdir = config_with("kitchen_monitors:Mine"), WorkDir(tmp_path)
    for _ in range(2):
        write_figures(config, workdir, "evaluate", {6: {"grpo_unseen/sr": 0.5}, 0: {"n": 2}})
    assert [call[:2] for call in own.calls if call[0] == "write"] == [("write", 0), ("write", 6)]
    write_figures(config, workdir, "evaluate", {0: {"n": 3}})
    assert lines(tmp_path / "metrics.jsonl") == [{"stage": "evaluate", "step": 0, "n": 3}]


@pytest.mark.parametrize(
    ("writers", "says"),
    [
        (("tensorbord",), "did you mean 'tensorboard'?"),
        (("no_such_module:Mine",), "cannot be imported (No module named 'no_such_module')"),
        (("kitchen_monitors:Nobody",), "cannot be imported"),
        (("kitchen_monitors:Half",), "has no table: it needs start, write, table, close"),
        (
            ("kitchen_monitors:Mine", "kitchen_monitors:Mine"),
            "has a writer twice",
        ),
    ],
)
def test_a_writer_that_cannot_be_had_is_refused_before_anything_runs(own, writers, says):
    (error,) = validate(config_with(*writers))
    assert error.startswith("monitor.writers=") and says in error


def test_a_package_that_is_missing_is_named_with_the_way_to_get_it(monkeypatch):
    monkeypatch.setitem(opening.PACKAGES, "wandb", "no_such_package")
    with pytest.raises(UserError, match=r'needs the package no_such_package: pip install "stgrpo\[wandb\]"'):
        opening.make_writer(config_with("wandb"), "wandb")
