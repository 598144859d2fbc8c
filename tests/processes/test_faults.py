"""The report that a failure leaves: what is in it, what is in none, and what makes one; it never fails itself."""

import errno
import logging
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time

import pytest
from commands import call

from stgrpo.errors import Preempted, RunError, ServerError, UserError
from stgrpo.processes import faults
from stgrpo.serving.key import secrets_hider

SMOKE = "--config=configs/tiny.py:smoke"
CANARY = "sk-canary-4f9c2e7a81"


@pytest.fixture
def broken(tmp_path, monkeypatch):
    """`broken(error, *options)`: a command whose stage fails so; its exit status, and the reports that it left.

    `before` is done in the stage, with the work directory.
    """
    folder = tmp_path / "w"

    def run(error, *options, before=lambda workdir: None):
        def stage(config, workdir):
            before(workdir.path)
            workdir.metrics.write_text("".join(f'{{"stage": "sft", "step": {i}, "loss": 0.5}}\n' for i in range(99)))
            raise error

        monkeypatch.setattr("stgrpo.stages.collect.run_collect", stage)
        status = call("collect", SMOKE, f"--workdir={folder}", *options)
        return status, sorted((folder / "faults").glob("*")) if (folder / "faults").is_dir() else []

    return run


@pytest.mark.parametrize(
    "error", [ArithmeticError("out of luck"), RunError("it diverged"), ServerError("nobody there"), OSError(5, "I/O")]
)
def test_a_failure_leaves_a_report_that_the_last_line_names(broken, capsys, error):
    status, (report,) = broken(error, "--config.grpo.kl_coef=0.125")
    assert status == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("stgrpo: ") and last.endswith(f" (report: {report})")
    assert report.name.endswith("-collect-process-0.txt")
    text = report.read_text()
    for part in (
        f"reason: {type(error).__name__}: {error}",
        "raise error",  # the traceback
        "thread MainThread\n",
        '"--config.grpo.kl_coef=0.125"',
        '"kl_coef": 0.125',
        '"jaxlib": ',
        '"kind": "cpu"',
        '"step": 98, "loss"',
        "process: 0 of 1, number ",
    ):
        assert part in text, part
    assert '"step": 78' not in text and "JAX_PLATFORMS" in text


def test_what_another_thread_does_is_told(broken):
    leave = threading.Event()
    threading.Thread(target=leave.wait, name="rollout_0", daemon=True).start()
    try:
        _, (report,) = broken(ArithmeticError("here"))
    finally:
        leave.set()
    assert "thread rollout_0\n" in report.read_text()


@pytest.mark.parametrize("error", [UserError("use another"), Preempted("saved"), KeyboardInterrupt()])
def test_a_mistake_or_an_end_that_was_asked_for_leaves_none(broken, capsys, error):
    status, reports = broken(error)
    assert status in (2, 75, 130) and reports == []
    assert "report" not in capsys.readouterr().err


def test_a_run_that_ends_well_leaves_none_and_a_later_failure_names_no_old_one(broken, tmp_path, capsys, monkeypatch):
    _, (report,) = broken(ArithmeticError("here"))
    assert call("collect", SMOKE, "--workdir=") == 2
    assert str(report) not in capsys.readouterr().err.splitlines()[-1]
    monkeypatch.setattr("stgrpo.stages.collect.run_collect", lambda config, workdir: None)
    assert call("collect", SMOKE, f"--workdir={tmp_path / 'other'}") == 0
    assert not (tmp_path / "other" / "faults").exists()


def test_reports_of_one_second_are_all_kept(broken):
    for count in (1, 2, 3):
        assert len(broken(ArithmeticError("here"))[1]) == count


def test_no_key_is_in_a_report_or_in_what_the_console_says(broken, capsys, monkeypatch):
    for name in ("MY_SERVER", "WANDB_API_KEY", "HF_TOKEN", "JAX_DEBUG_SECRET"):
        monkeypatch.setenv(name, CANARY)
    flags = f"('--api-key={CANARY}', '--hf-token', \"other-{CANARY[::-1]}\")"
    options = (
        f"--config.rollout.flags={flags}",
        "--config.rollout.backend=vllm",
        "--config.client.key_variable=MY_SERVER",
    )
    error = ArithmeticError(f"https://user:hunter2@host/v1 said {{'Authorization': 'Bearer {CANARY}'}}")
    _, (report,) = broken(error, *options)
    text = report.read_text() + capsys.readouterr().err
    assert "https://***@host/v1" in text and "--api-key=***" in text
    for secret in (CANARY, CANARY[::-1], "hunter2", CANARY[:9], CANARY[-9:]):
        assert secret not in text, secret


def test_words_and_files_in_variables_that_are_called_keys_stay():
    hide = secrets_hider({"SOME_KEY": "false", "SSL_KEY": "/etc/ssl/private.key", "KEYBOARD": "a" * 20}, "")
    text = f"false /etc/ssl/private.key {'a' * 20} --max-num-batched-tokens=8192 --config.client.key_variable=MY_KEY"
    assert hide(text) == text
    assert secrets_hider({"MINE": "short"}, "MINE")("a short text") == "a *** text"


@pytest.mark.parametrize("how", ["full", "half full", "no folder", "hide"])
def test_a_report_that_cannot_be_written_is_no_second_failure(broken, capsys, monkeypatch, how):
    real = pathlib.Path.write_text

    def full(path, text, **options):
        if path.parent.name == "faults":
            real(path, text[:100] if how == "half full" else "")
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(path, text, **options)

    def spoil(folder):
        if how == "no folder":
            (folder / "faults").write_text("a file")

    if how == "hide":
        monkeypatch.setattr("stgrpo.serving.key.secrets_hider", lambda *_: lambda text: 1 / 0)
    if "full" in how:
        monkeypatch.setattr(pathlib.Path, "write_text", full)
    assert broken(RunError("it diverged"), before=spoil) == (1, [])
    assert capsys.readouterr().err.splitlines()[-1] == "stgrpo: it diverged"


def test_a_folder_that_hangs_does_not_hold_the_end_up(tmp_path, monkeypatch):
    monkeypatch.setattr(faults, "_WITHIN", 0.2)
    monkeypatch.setattr(pathlib.Path, "write_text", lambda *_, **__: time.sleep(5))
    begin = time.monotonic()
    with pytest.raises(RunError), faults.reported(tmp_path / "faults", {}, str):
        raise RunError("here")
    assert time.monotonic() - begin < 3
    assert faults.named("x") == "x"
    faults.forget()


def test_a_second_reason_is_added_to_the_report_that_is_there(tmp_path):
    with pytest.raises(RunError), faults.reported(tmp_path / "faults", {}, str):
        raise RunError("a collective failed")
    faults.write("process 1 gave no sign of life")
    (report,) = (tmp_path / "faults").iterdir()
    assert faults.named("lost") == f"lost (report: {report})"
    faults.forget()
    text = report.read_text()
    assert "a collective failed" in text and "\n== and then ==\nprocess 1 gave no sign of life\n" in text


DYING = """
import faulthandler, os, pathlib, sys
from stgrpo.processes import faults
with faults.reported(pathlib.Path(sys.argv[1]), {"config": {"seed": 7}}, str):
    {how}
"""


def dies(folder, how):
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONFAULTHANDLER"}
    done = subprocess.run([sys.executable, "-c", DYING.replace("{how}", how), folder], env=environment)
    return done.returncode


@pytest.mark.parametrize(
    ("how", "number", "words"),
    [("faulthandler._sigsegv()", signal.SIGSEGV, "Segmentation fault"), ("os.abort()", signal.SIGABRT, "Aborted")],
)
def test_what_an_interpreter_dies_of_is_found_by_the_next_command(tmp_path, caplog, how, number, words):
    folder = tmp_path / "faults"
    assert dies(folder, how) == -number
    with caplog.at_level(logging.WARNING):
        faults.keep_crashes(folder)
    (report,) = folder.iterdir()
    assert report.name.endswith("-crash-process-0.txt")
    text = report.read_text()
    assert '"seed": 7' in text and f"Fatal Python error: {words}" in text and 'File "<string>", line 5 in' in text
    (record,) = caplog.records
    assert f"({words}): report in {report}" in record.getMessage()


@pytest.mark.parametrize("how", ["pass", "raise KeyboardInterrupt", "raise BrokenPipeError", "sys.exit(75)"])
def test_a_run_that_ends_leaves_nothing(tmp_path, how):
    dies(tmp_path / "faults", how)
    assert not (tmp_path / "faults").exists()


@pytest.mark.parametrize("how", ["os.kill(os.getpid(), 9)", "os._exit(3)"])
def test_what_a_killed_run_leaves_goes_with_the_next_command(tmp_path, how):
    dies(tmp_path / "faults", how)
    assert [file.name for file in (tmp_path / "faults").iterdir()] == ["running-process-0.txt"]
    faults.keep_crashes(tmp_path / "faults")
    assert not (tmp_path / "faults").exists()
