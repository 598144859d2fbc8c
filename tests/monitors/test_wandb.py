"""Offline runs of Weights & Biases, read back from the files that they leave."""

import json
import pathlib
import struct
import time
from collections.abc import Iterator

import pytest

from stgrpo.config import base
from stgrpo.monitors.open import open_monitor
from stgrpo.workdir import WorkDir

pytest.importorskip("wandb", reason='needs the package wandb: pip install "stgrpo[wandb]"')
BLOCK, HEAD = 32768, 7


def chunks(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Kind and content of each piece of a LevelDB log, which a .wandb file is after its own header."""
    at = HEAD
    while at + HEAD <= len(data):
        if BLOCK - at % BLOCK < HEAD:
            at += BLOCK - at % BLOCK
            continue
        _, size, kind = struct.unpack("<IHB", data[at : at + HEAD])
        if at + HEAD + size > len(data):  # is being written
            return
        yield kind, data[at + HEAD : at + HEAD + size]
        at += HEAD + size


def records(file: pathlib.Path) -> Iterator[object]:
    from wandb.proto import wandb_internal_pb2

    whole, last = b"", 4
    for kind, content in chunks(file.read_bytes()):
        whole += content
        if kind in (1, last):
            yield wandb_internal_pb2.Record.FromString(whole)
            whole = b""


def rows(file: pathlib.Path) -> list[dict[str, object]]:
    history = [r.history for r in records(file) if r.WhichOneof("record_type") == "history"]
    return [
        {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in row.item} for row in history
    ]


def finished(folder: pathlib.Path) -> list[pathlib.Path]:
    """The files of all runs, by their first step, once each has its end: its process may still be at it."""
    deadline = time.monotonic() + 60
    while True:
        files = list(folder.glob("wandb/offline-run-*/*.wandb"))
        if all(any(r.WhichOneof("record_type") == "exit" for r in records(file)) for file in files):
            return sorted(files, key=lambda file: rows(file)[0]["_step"])
        assert time.monotonic() < deadline, "a run has no end"
        time.sleep(0.1)


@pytest.fixture
def run(tmp_path):
    config = base()
    config.monitor.writers, config.monitor.project, config.monitor.name = ("wandb",), "kitchens", "mine"
    workdir = WorkDir(tmp_path / "w")
    workdir.claim(config)

    def write(stage: str, after: int, upto: int) -> None:
        with open_monitor(config, workdir, stage, after) as monitor:
            for step in range(after + 1, upto + 1):
                monitor.table(step, "samples", {"task": "burger", "responses": ["a", "b"], "rewards": [0.1, 1.0]})
                monitor.write(step, {"loss": step / 3})

    return workdir.path, write


def test_a_cut_off_stage_goes_on_in_its_run_and_sends_no_step_twice(run):
    folder, write = run
    write("grpo", 0, 5)
    write("grpo", 3, 8)  # from the checkpoint of step 3
    files = finished(folder)
    assert len(files) == 2 and files[0].name == files[1].name  # of one id
    found = [[(row["_step"], row["loss"]) for row in rows(file)] for file in files]
    assert found == [[(s, s / 3) for s in (1, 2, 3, 4, 5)], [(s, s / 3) for s in (6, 7, 8)]]
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [(row["step"], row["loss"]) for row in lines] == found[0] + found[1]
    assert "monitor_errors" not in lines[-1]


def test_a_run_has_its_project_its_group_its_config_and_its_tables(run):
    folder, write = run
    write("sft", 0, 1)
    (file,) = finished(folder)
    (told,) = [r.run for r in records(file) if r.WhichOneof("record_type") == "run"][:1]
    assert (told.project, told.run_group, told.job_type, told.display_name) == ("kitchens", "mine", "sft", "mine sft")
    config = {item.key: json.loads(item.value_json) for item in told.config.update}
    assert config["grpo"]["kl_coef"] == 0.001
    (table,) = file.parent.glob("files/media/table/samples_*.json")
    shown = json.loads(table.read_text())
    assert shown["columns"] == ["task", "responses", "rewards"]
    assert shown["data"] == [["burger", "a", 0.1], ["burger", "b", 1.0]]


def test_a_stage_that_begins_anew_is_another_run(run):
    folder, write = run
    write("sft", 0, 2)
    write("sft", 0, 2)
    assert len({file.name for file in finished(folder)}) == 2
