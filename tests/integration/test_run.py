"""The whole method, small: the stages as a user runs them, killed, resumed and run again."""

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import time

import pytest
from compiling import FAST

from stgrpo.command_line import parse
from stgrpo.monitors.base import repeatable

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
SMOKE = f"--config={REPOSITORY / 'configs' / 'tiny.py'}:smoke"
LEARNING = [
    "--config.expert.trajectories=60",
    "--config.model.width=64",
    "--config.model.mlp_width=192",
    "--config.sft.batch=16",
    "--config.sft.steps=150",
    "--config.sft.learning_rate=4e-3",
    "--config.sft.checkpoint_every=75",
    "--config.evaluation.layouts=20",
]
ADAPTERS = ["--config.lora.rank=4", "--config.lora.stages=('grpo',)", "--config.grpo.learning_rate=3e-3"]
EPISODES = ["--config.grpo.advantages=exact", "--config.grpo.prompts=2", "--config.grpo.row_tokens=512"]
FIELDS = {
    "whole": [],
    "learned": LEARNING,
    "adapted": LEARNING + ADAPTERS,
    "played": LEARNING + EPISODES,
}
ENVIRONMENT = {**os.environ, "XLA_FLAGS": FAST, "JAX_PLATFORMS": "cpu"}


def stgrpo(*arguments: str, **options) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "stgrpo", *arguments]
    return subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=600, **options)


def lines(path: pathlib.Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> pathlib.Path:
    """One run of all stages, in one go."""
    workdir = tmp_path_factory.mktemp("whole") / "w"
    done = stgrpo("run", SMOKE, f"--workdir={workdir}")
    assert done.returncode == 0, done.stderr
    return workdir


def test_the_work_directory_is_as_documented(whole):
    for name in ("config.json", "environment.json", "metrics.jsonl", "samples.jsonl", "report.html"):
        assert (whole / name).stat().st_size > 0
    assert (whole / "data" / "burger" / "train.jsonl").is_file()
    assert (whole / "tokenizer" / "tokenizer.json").is_file()
    for stage in ("sft", "grpo"):
        assert (whole / "checkpoints" / stage / "6").is_dir()
        assert (whole / "evaluation" / f"{stage}_unseen.json").is_file()
        assert (whole / "evaluation" / f"{stage}_unseen.episodes.jsonl").is_file()


def test_every_step_is_logged_with_all_its_figures(whole):
    rows = lines(whole / "metrics.jsonl")
    logged = [("collect", 0), *((s, i) for s in ("sft", "grpo") for i in range(1, 7)), ("evaluate", 6)]
    assert [(r["stage"], r["step"]) for r in rows] == logged
    counts, *rows, evaluated = rows
    trajectories = lines(whole / "data" / "burger" / "train.jsonl")
    assert counts["burger/train/trajectories"] == len(trajectories)
    assert counts["burger/train/problems"] == sum(len(t["steps"]) for t in trajectories)
    summary = json.loads((whole / "evaluation" / "grpo_unseen.json").read_text())["summary"]
    assert evaluated["grpo_unseen/sr"] == evaluated["grpo_unseen/burger/sr"] == summary["sr"]
    needed = (
        "reward reward_format reward_action kl entropy ratio clip_fraction grad_norm groups_all_right groups_all_wrong "
        "groups_zero_variance response_length truncated_fraction tokens_processed tokens_dense programs seconds_wait "
        "seconds_sample seconds_reward seconds_batch seconds_reference seconds_update learning_rate "
        "machine/update_tokens_per_second machine/update_tflops machine/sample_tokens_per_second"
    ).split()
    for row in rows[6:]:
        assert set(needed) <= row.keys()
        assert row["ratio_first"] == pytest.approx(1.0, abs=1e-5)
        assert row["tokens_processed"] < row["tokens_dense"]
    assert rows[6]["kl"] == pytest.approx(0.0, abs=1e-5)  # before the first update policy and reference are one
    assert any("validation_sr" in row for row in rows)


def test_a_complete_run_is_skipped(whole):
    before = (whole / "metrics.jsonl").read_bytes()
    again = stgrpo("run", SMOKE, f"--workdir={whole}")
    assert again.returncode == 0 and again.stdout.count("skipped") >= 5
    assert (whole / "metrics.jsonl").read_bytes() == before


def test_a_checkpoint_evaluates_alone_and_the_same(whole, tmp_path):
    alone = tmp_path / "elsewhere"
    shutil.copytree(whole / "checkpoints" / "grpo" / "6", alone / "6")
    done = stgrpo("evaluate", f"--checkpoint={alone / '6'}", f"--workdir={tmp_path / 'out'}", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    name = "grpo_unseen.episodes.jsonl"
    assert (tmp_path / "out" / "evaluation" / name).read_text() == (whole / "evaluation" / name).read_text()


# Runs a stage in a process that dies without warning in its fifth line of metrics, after `{cut}` of its characters.
KILLED = """
import os, sys
from stgrpo import cli, files
write, rows = files.LineLog.write, []
def dying(self, step, values):
    if self._file.name.endswith("metrics.jsonl"):
        rows.append(step)
        if len(rows) == 5:
            write(self, step, values)
            self._file.flush()
            os.truncate(self._file.name, os.path.getsize(self._file.name) - {cut})
            os._exit(9)
    write(self, step, values)
files.LineLog.write = dying
cli.main(sys.argv[1:])
"""


@pytest.fixture(scope="module")
def learned(tmp_path_factory) -> pathlib.Path:
    """A run that is long enough for rewards to differ, so that GRPO moves the policy."""
    workdir = tmp_path_factory.mktemp("learned") / "w"
    done = stgrpo("run", SMOKE, f"--workdir={workdir}", *LEARNING)
    assert done.returncode == 0, done.stderr
    return workdir


@pytest.fixture(scope="module")
def adapted(learned, tmp_path_factory) -> pathlib.Path:
    """GRPO of adapters alone, on the SFT policy of that run."""
    workdir = tmp_path_factory.mktemp("adapted") / "w"
    assert stgrpo("collect", SMOKE, f"--workdir={workdir}", *FIELDS["adapted"]).returncode == 0
    shutil.copytree(learned / "checkpoints" / "sft", workdir / "checkpoints" / "sft")
    done = stgrpo("grpo", SMOKE, f"--workdir={workdir}", *FIELDS["adapted"])
    assert done.returncode == 0, done.stderr
    assert all(row["grad_norm"] > 0 for row in lines(workdir / "metrics.jsonl") if row["stage"] == "grpo")
    return workdir


def grpo_alone(learned: pathlib.Path, workdir: pathlib.Path, *fields: str) -> list[dict]:
    """GRPO with other fields, on the data and the SFT policy of that run; its lines."""
    workdir.mkdir(parents=True)
    for name in ("data", "tokenizer", "checkpoints/sft"):
        shutil.copytree(learned / name, workdir / name)
    (workdir / "config.json").write_text(parse(["grpo", SMOKE, f"--workdir={workdir}", *fields]).config.to_json())
    done = stgrpo("grpo", SMOKE, f"--workdir={workdir}", *fields)
    assert done.returncode == 0, done.stderr
    return [row for row in lines(workdir / "metrics.jsonl") if row["stage"] == "grpo"]


@pytest.fixture(scope="module")
def played(learned, tmp_path_factory) -> pathlib.Path:
    """GRPO of whole episodes, on the SFT policy of that run: it solves none, but distances tell its turns apart."""
    workdir = tmp_path_factory.mktemp("played") / "w"
    rows = grpo_alone(learned, workdir, *FIELDS["played"])
    for row in rows:
        assert row["ratio_first"] == pytest.approx(1.0, abs=1e-5)
        assert row["turns"] >= 8 and row["turns_a_prompt"] > 1
    assert all(row["turns_zero_advantage"] < 1 for row in rows) and rows[-1]["kl"] > 0
    return workdir


@pytest.mark.slow
@pytest.mark.parametrize("advantages", ["episode", "step"])
def test_turns_of_whole_episodes_train(learned, tmp_path, advantages):
    """In groups that are laid out as they are, not packed."""
    fields = [f"--config.grpo.advantages={advantages}", "--config.grpo.prompts=2", "--config.grpo.steps=1"]
    (row,) = grpo_alone(learned, tmp_path / "w", *LEARNING, *fields, "--config.grpo.validate_every=0")
    assert row["turns"] >= 8 and row["ratio_first"] == pytest.approx(1.0, abs=1e-5)
    assert (row["turns_zero_advantage"] == 1) == (row["groups_zero_variance"] == 1)


@pytest.mark.slow
def test_the_model_learns_the_format_and_grpo_has_something_to_learn_from(learned):
    rows = lines(learned / "metrics.jsonl")
    losses = [row["response_loss"] for row in rows if row["stage"] == "sft"]
    assert losses[0] > 5.0 and sum(losses[-10:]) / 10 < 0.6
    summary = json.loads((learned / "evaluation" / "sft_unseen.json").read_text())["summary"]
    assert summary["format_rate"] > 0.9
    grpo = [row for row in rows if row["stage"] == "grpo"]
    assert all(row["grad_norm"] > 0 and row["reward"] > 0 for row in grpo) and grpo[-1]["kl"] > 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stage", "cut", "whole_run"),
    [("sft", 0, "whole"), ("grpo", 30, "learned"), ("grpo", 0, "adapted"), ("grpo", 9, "played")],
)
def test_a_run_that_was_killed_goes_on_as_if_it_had_not_been(request, tmp_path, stage, cut, whole_run):
    whole, workdir = request.getfixturevalue(whole_run), tmp_path / "w"
    fields = FIELDS[whole_run]
    workdir.mkdir()
    shutil.copy(whole / "config.json", workdir)
    shutil.copytree(whole / "data", workdir / "data")
    shutil.copytree(whole / "tokenizer", workdir / "tokenizer")
    if stage == "grpo":
        shutil.copytree(whole / "checkpoints" / "sft", workdir / "checkpoints" / "sft")
    command = [sys.executable, "-c", KILLED.format(cut=cut), stage, SMOKE, f"--workdir={workdir}", *fields]
    killed = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=600)
    assert killed.returncode == 9, killed.stderr
    resumed = stgrpo(stage, SMOKE, f"--workdir={workdir}", *fields)
    # Step 4 may still have been on its way to disk, while training went on.
    assert resumed.returncode == 0, resumed.stdout + resumed.stderr
    assert re.search("resumed at step [24]\n", resumed.stdout), resumed.stdout
    expected = [row for row in lines(whole / "metrics.jsonl") if row["stage"] == stage]
    assert list(map(repeatable, lines(workdir / "metrics.jsonl"))) == list(map(repeatable, expected))
    if stage == "grpo":
        assert lines(workdir / "samples.jsonl") == lines(whole / "samples.jsonl")


@pytest.mark.slow
def test_frozen_layers_computed_once_teach_the_same_and_after_a_kill_too(whole, tmp_path):
    """SFT of adapters in the last layer, on the SFT policy of that run."""
    adapters = ["--config.lora.rank=4", "--config.lora.layers=1", "--config.sft.steps=6"]
    fields = [f"--config.init_from={whole / 'checkpoints' / 'sft' / '6'}", *adapters]
    fields.append("--config.sft.trajectories=6")
    keeps = [*fields, "--config.sft.keep_frozen=True"]
    plain, kept, killed = (tmp_path / name for name in ("plain", "kept", "killed"))
    for workdir, given in ((plain, fields), (kept, keeps), (killed, keeps)):
        workdir.mkdir()
        (workdir / "config.json").write_text(parse(["sft", SMOKE, f"--workdir={workdir}", *given]).config.to_json())
        for name in ("data", "tokenizer"):
            shutil.copytree(whole / name, workdir / name)
    said = ""
    for workdir, given in ((plain, fields), (kept, keeps)):
        done = stgrpo("sft", SMOKE, f"--workdir={workdir}", *given)
        assert done.returncode == 0, done.stderr
        said = done.stdout
    assert re.search(r"what frozen layers give for \d+ examples is kept, .* MiB in the host's memory", said)
    assert "sft: the first 6 of 8 trajectories of burger" in said
    assert "sft frozen layers " in said and "frozen layers of 8 prompts" in (kept / "programs.log").read_text()
    for row, other in zip(*(lines(workdir / "metrics.jsonl") for workdir in (plain, kept)), strict=True):
        assert row["response_loss"] == pytest.approx(other["response_loss"], rel=1e-5)
        assert row["grad_norm"] == pytest.approx(other["grad_norm"], rel=1e-4)
    command = [sys.executable, "-c", KILLED.format(cut=0), "sft", SMOKE, f"--workdir={killed}", *keeps]
    assert subprocess.run(command, env=ENVIRONMENT, capture_output=True, timeout=600).returncode == 9
    assert stgrpo("sft", SMOKE, f"--workdir={killed}", *keeps).returncode == 0
    assert list(map(repeatable, lines(killed / "metrics.jsonl"))) == list(
        map(repeatable, lines(kept / "metrics.jsonl"))
    )


def until(holds, seconds: float = 300) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.slow
def test_a_sweep_that_was_killed_goes_on_and_each_point_is_the_run_that_it_would_be_alone(whole, tmp_path):
    folder = tmp_path / "sweep"
    words = ["sweep", SMOKE, "--sweep=evaluation.layouts=4,2", f"--workdir={folder}"]
    point, other = folder / "points" / "layouts=4", folder / "points" / "layouts=2"
    process = subprocess.Popen([sys.executable, "-m", "stgrpo", *words], env=ENVIRONMENT, stdout=subprocess.DEVNULL)
    until(lambda: any(folder.glob("shared/grpo-*/checkpoints/grpo/2")))
    process.kill()  # nobody tells the unit at work, which finds itself alone, saves and ends
    process.wait()
    (log,) = folder.glob("logs/shared/grpo-*.log")
    until(lambda: "asked to end" in log.read_text())
    assert not (folder / "state").exists() and not point.exists()
    resumed = stgrpo(*words)
    assert resumed.returncode == 0, resumed.stdout + resumed.stderr
    assert "grpo: resumed at step" in log.read_text()
    (array,) = point.glob("checkpoints/grpo/6/params/manifest.ocdbt")
    assert array.stat().st_nlink == 3  # that of what is shared, and of two points
    assert list(map(repeatable, lines(point / "metrics.jsonl"))) == list(
        map(repeatable, lines(whole / "metrics.jsonl"))
    )
    assert lines(point / "samples.jsonl") == lines(whole / "samples.jsonl")
    assert (point / "config.json").read_bytes() == (whole / "config.json").read_bytes()
    for name in ("sft_unseen", "grpo_unseen"):
        episodes = lines(whole / "evaluation" / f"{name}.episodes.jsonl")
        assert lines(point / "evaluation" / f"{name}.episodes.jsonl") == episodes
        fewer = [line for line in episodes if line["episode"] < 2]
        assert lines(other / "evaluation" / f"{name}.episodes.jsonl") == fewer


@pytest.mark.slow
def test_stages_without_updates_leave_the_policy_as_it_starts(tmp_path):
    spec, workdir = f"--config={REPOSITORY / 'configs' / 'paper' / 'baselines.py'}:smoke", tmp_path / "w"
    fields = ["--config.env.tasks=('burger',)", "--config.expert.trajectories=8", "--config.evaluation.layouts=2"]
    done = stgrpo("run", spec, f"--workdir={workdir}", *fields)
    assert done.returncode == 0, done.stderr
    assert "sft: no updates" in done.stdout and "grpo: no rollouts" in done.stdout
    assert [path.name for path in (workdir / "checkpoints" / "sft").iterdir()] == ["0"]
    settings = json.loads((workdir / "evaluation" / "base_unseen.json").read_text())["settings"]
    assert (settings["stage"], settings["step"]) == ("base", 0)
    assert "Before training" in (workdir / "report.html").read_text()
    again = stgrpo("run", spec, f"--workdir={workdir}", *fields)
    assert again.returncode == 0 and "sft: complete at step 0, skipped" in again.stdout
