"""Files that grow by a line a step: continued as if nothing had happened, strict JSON, one line of error."""

import json
import pathlib
import re
import subprocess
import sys

import pytest

import stgrpo
from stgrpo.errors import RunError, UserError
from stgrpo.files import LineLog, from_json, read_lines, reason_of, to_json, way_on


def test_a_resumed_log_loses_what_came_after_its_step_and_nothing_of_other_stages(tmp_path):
    path = tmp_path / "metrics.jsonl"
    for stage, last in (("sft", 3), ("grpo", 4)):
        log = LineLog(path, stage, 0)
        for step in range(1, last + 1):
            log.write(step, {"loss": step / 3})
        log.close()
    with path.open("a") as file:
        file.write('{"stage": "grpo", "st')  # a process was killed here
    log = LineLog(path, "grpo", 2)
    log.write(3, {"loss": 9})
    log.close()
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert [(r["stage"], r["step"]) for r in rows] == [(stage, step) for stage in ("sft", "grpo") for step in (1, 2, 3)]
    assert rows[4]["loss"] == 2 / 3 and path.read_text().splitlines()[-1] == '{"stage": "grpo", "step": 3, "loss": 9}'


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_value_that_is_not_finite_is_refused_in_one_line_and_leaves_no_trace(tmp_path, value):
    log = LineLog(tmp_path / "metrics.jsonl", "grpo", 0)
    log.write(1, {"kl": 0.5})
    with pytest.raises(RunError, match=rf"^grpo step 2: kl={value}, no finite number to log") as caught:
        log.write(2, {"reward": 1.0, "kl": value})
    log.close()
    assert "\n" not in str(caught.value)
    assert (tmp_path / "metrics.jsonl").read_text() == '{"stage": "grpo", "step": 1, "kl": 0.5}\n'


# Files of this process may not grow beyond 100 bytes: what a full disk does to a write, without filling one.
FULL = """
import pathlib, resource, sys
from stgrpo import cli
from stgrpo.files import LineLog, from_json, read_lines, to_json
resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
def run(arguments):
    log = LineLog(pathlib.Path(arguments[0]), "sft", 0)
    try:
        for step in range(1, 10):
            log.write(step, {"loss": 0.1})
    finally:
        log.close()
cli.run = run
cli.main(sys.argv[1:])
"""


def test_a_full_disk_is_one_line_and_exit_status_1(tmp_path):
    path = tmp_path / "metrics.jsonl"
    done = subprocess.run([sys.executable, "-c", FULL, str(path)], capture_output=True, text=True, timeout=60)
    says = f"stgrpo: {path} takes no more (File too large): make room, and the same command goes on"
    assert done.returncode == 1 and done.stderr.startswith(says) and done.stderr.count("\n") == 1
    log = LineLog(path, "sft", 2)  # the line that was cut off is dropped
    log.close()
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [1, 2]


@pytest.mark.parametrize("line", [b"{", b"\xff\xfe", b"\0\0\0", b"[1]", b"null"])
def test_a_line_that_is_no_object_is_named_and_a_torn_last_one_dropped(tmp_path, line):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"stage": "sft", "step": 1}\n' + line)
    assert list(read_lines(path)) == [{"stage": "sft", "step": 1}]
    path.write_bytes(path.read_bytes() + b"\n")
    with pytest.raises(UserError, match=r"metrics.jsonl:2 is no"):
        list(read_lines(path))


def test_the_reason_of_an_error_of_the_disk_is_what_the_system_says():
    said = (
        'RESOURCE_EXHAUSTED: Error writing "a" in "/x/": Failed: No space left on device [os_error_code=\'28\']\nmore'
    )
    assert reason_of(ValueError(said)) == "No space left on device"
    assert reason_of(OSError(5, "Input/output error", "/x")) == "Input/output error"
    assert reason_of(MemoryError()) == "MemoryError"
    full = (ValueError(said), OSError(122, "Disk quota exceeded"), Exception("No space left on device (os error 28)"))
    assert all("make room" in way_on(error) for error in full)
    assert not any("make room" in way_on(error) for error in (OSError(5, ""), Exception("os error 282")))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_what_json_has_no_word_for_is_named_and_not_written(value):
    with pytest.raises(RunError, match=rf"^a\.0\.b={value}, no finite number$"):
        to_json({"a": [{"b": value}, 1], "c": "NaN"}, indent=2)
    assert from_json(to_json({"c": "NaN", "d": [1.5, None]})) == {"c": "NaN", "d": [1.5, None]}


@pytest.mark.parametrize("word", ["NaN", "Infinity", "-Infinity", "1e400", "-1e999"])
def test_what_is_no_number_is_not_read(tmp_path, word):
    with pytest.raises(ValueError, match=f"{word} is no number in JSON"):
        from_json(f'{{"a": {word}}}')
    path = tmp_path / "metrics.jsonl"
    path.write_text(f'{{"stage": "sft", "step": 1, "loss": {word}}}\n')
    with pytest.raises(UserError, match=rf"metrics.jsonl:1 is not JSON \({word} is no number in JSON\): delete"):
        list(read_lines(path))


def test_nothing_else_in_the_package_reads_or_writes_json():
    package = pathlib.Path(stgrpo.__file__).parent
    users = [
        str(path.relative_to(package))
        for path in package.rglob("*.py")
        if re.search(r"\bjson\.(dumps?|loads?)\(", path.read_text(encoding="utf-8"))
    ]
    # the reward goes out as one file that needs nothing of ours; the report reads what earlier versions wrote
    assert sorted(users) == ["files.py", "react/reward.py", "report/load.py"]


WRONG_STEPS = ("null", '"7"', "1.5", "true")


@pytest.mark.parametrize("line", ["{}", '{"stage": 3}', *(f'{{"stage": "sft", "step": {x}}}' for x in WRONG_STEPS)])
def test_a_line_without_a_stage_or_with_no_step_is_named(tmp_path, line):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"stage": "sft", "step": 1}\n' + line + "\n")
    before = path.read_bytes()
    with pytest.raises(UserError, match=r"metrics.jsonl:2 has no stage, or no whole number as its step: delete"):
        LineLog(path, "sft", 1)
    assert path.read_bytes() == before
