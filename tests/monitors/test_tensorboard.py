"""Event files, read back by TensorBoard's own reader."""

import pytest

from stgrpo.config import base
from stgrpo.monitors.open import open_monitor
from stgrpo.monitors.tensorboard import markdown
from stgrpo.workdir import WorkDir

pytest.importorskip("tensorboardX", reason='needs the package tensorboardX: pip install "stgrpo[tensorboard]"')


def write(workdir: WorkDir, stage: str, after: int, upto: int, scale: float) -> None:
    config = base()
    config.monitor.writers = ("tensorboard",)
    with open_monitor(config, workdir, stage, after) as monitor:
        for step in range(after + 1, upto + 1):
            monitor.table(step, "samples", {"task": "burger", "responses": [f"{step}|a", "b\nc"], "rewards": [0.5, 1]})
            monitor.write(step, {"loss": step * scale, "unseen/burger/sr": 0.25})


def read(folder):
    accumulators = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    return accumulators.EventAccumulator(str(folder)).Reload()


def curve(events, tag):
    return [(point.step, point.value) for point in events.Scalars(tag)]


def test_a_resumed_stage_has_every_point_once_and_the_last_word_counts(tmp_path):
    workdir = WorkDir(tmp_path)
    write(workdir, "grpo", 0, 5, 1.0)
    write(workdir, "sft", 0, 2, 7.0)
    write(workdir, "grpo", 3, 6, 10.0)
    events = read(tmp_path / "tensorboard" / "grpo")
    assert curve(events, "loss") == [(1, 1), (2, 2), (3, 3), (4, 40), (5, 50), (6, 60)]
    assert curve(events, "unseen/burger/sr") == [(step, 0.25) for step in range(1, 7)]
    assert curve(read(tmp_path / "tensorboard" / "sft"), "loss") == [(1, 7), (2, 14)]


def test_a_stage_that_begins_anew_voids_all_there_was(tmp_path):
    workdir = WorkDir(tmp_path)
    write(workdir, "evaluate", -1, 6, 1.0)
    write(workdir, "evaluate", -1, 1, 10.0)
    assert curve(read(tmp_path / "tensorboard" / "evaluate"), "loss") == [(0, 0), (1, 10)]


def test_tables_and_the_config_are_texts(tmp_path):
    write(WorkDir(tmp_path), "grpo", 0, 2, 1.0)
    events = read(tmp_path / "tensorboard" / "grpo")
    texts = {tag: events.Tensors(f"{tag}/text_summary") for tag in ("samples", "config")}
    assert [t.step for t in texts["samples"]] == [1, 2]
    assert "| burger | 2\\|a | 0.5 |" in texts["samples"][1].tensor_proto.string_val[0].decode()
    assert '"kl_coef": 0.001' in texts["config"][0].tensor_proto.string_val[0].decode()


def test_markdown_keeps_a_cell_in_its_cell():
    table = markdown({"task": "soup", "responses": ["a|b", "c\nd"]})
    assert table == "| task | responses |\n| --- | --- |\n| soup | a\\|b |\n| soup | c<br>d |"
