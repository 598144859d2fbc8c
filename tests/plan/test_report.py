"""`stgrpo plan`: one screen on what a config takes, and one line on what cannot be."""

import dataclasses
import os
import pathlib
import re

import pytest

from stgrpo.cli import main, parse
from stgrpo.data.records import Step, Trajectory, write_trajectories
from stgrpo.errors import UserError
from stgrpo.plan import report
from stgrpo.plan.compiling import check_fits, noise_to
from stgrpo.plan.hardware import CHIPS
from stgrpo.plan.programs import stage_programs
from stgrpo.plan.report import Assumptions, compile_all, describe
from stgrpo.plan.sampling import host_sizes
from stgrpo.plan.schedule import schedule_of
from stgrpo.plan.topologies import Target, target
from stgrpo.rl.update import grpo_steps
from stgrpo.training.sft import sft_steps
from stgrpo.workdir import WorkDir

SMOKE = f"--config={pathlib.Path(__file__).resolve().parents[2] / 'configs' / 'tiny.py'}:smoke"


@pytest.fixture(scope="module")
def found():
    """Of the smoke test's config on the machine's eight devices; compiled once."""
    return compile_all(parse(["plan", SMOKE, "--config.mesh.data=8"]).config, target(""))


def on(found, **target_fields):
    """The same programs as if their devices were others."""
    there = dataclasses.replace(found.grpo.target, **target_fields)
    both = {name: dataclasses.replace(getattr(found, name), target=there) for name in ("sft", "grpo")}
    return dataclasses.replace(found, **both)


def test_the_screen(found, monkeypatch, capsys):
    monkeypatch.setattr(report, "compile_all", lambda config, there: on(found, chip=CHIPS["v5e"], name="v5e:2x4"))
    main(["plan", SMOKE, "--config.mesh.data=8", "--price=2", "--utilisation=0.5"])
    shown = capsys.readouterr().out
    lines = shown.splitlines()
    assert len(lines) <= 30 and max(map(len, lines)) <= 200
    assert "8 x cpu, one host and process; mesh data=8" in lines[0]
    assert f"{8 * (256 + 4 * 48):,} tokens" in shown and "16.00 GiB" in shown
    for part in ("sft update", "prefill", "decode", "log-probabilities", "grpo update"):
        (row,) = (line for line in lines if re.match(rf"  {part} .*(arithmetic|memory|network) ", line))
        assert float(row.split()[-1]) > 0
    assert "50% of the peak" in shown and CHIPS["v5e"].source in shown
    hours, device_hours, cost = (
        float(re.search(pattern, shown)[1].replace(",", ""))
        for pattern in (r": ([\d.e,-]+) h,", r" ([\d.e,-]+) device-hours", r"device-hours, ([\d.e,-]+) at 2 ")
    )
    assert device_hours == pytest.approx(8 * hours, rel=0.01) and cost == round(2 * device_hours)


def test_peaks_are_more_than_arguments_and_parts_add_up(found):
    for program in found.compiled.values():
        assert program.peak > program.arguments > 0 and program.temporary > 0
    line = next(x for x in describe(found, Assumptions()) if x.startswith("  sampling"))
    whole, *parts = (float(x) for x in re.findall(r"([\d.]+) MiB", line))
    assert whole == pytest.approx(sum(parts), abs=0.25) and len(parts) == 5
    found.grpo.config.rollout.backend = "vllm"
    text = "\n".join(describe(dataclasses.replace(found, sampling=None), Assumptions()))
    found.grpo.config.rollout.backend = "jax"
    assert "by rollout.backend='vllm', which is not counted here" in text and "decode" not in text


def test_what_pads_is_said_and_counted():
    config = parse(["plan", SMOKE, "--config.grpo.row_tokens=1024", "--config.grpo.micro_batches=8"]).config
    programs = stage_programs(config, "grpo", target(""))
    assert report._batch(programs).endswith("8,192 tokens, 56% of them padding")
    config.grpo.row_tokens, config.grpo.prompts, config.rollout.batch = 0, 64, 8
    assert host_sizes(config, stage_programs(config, "grpo", target("")).mesh).said(config.grpo.group_size) == [
        "rollout.batch=8 is less than a prompt's 4 responses on each of 8 devices: 32 are decoded at one time"
    ]


def test_what_no_formula_knows_is_said():
    config = parse(["plan", SMOKE, "--config.mesh.data=8"]).config
    assert config.grpo.optimiser == "muon"
    (line,) = report._uncounted(stage_programs(config, "grpo", target("")))
    assert "is in no figure below" in line
    config.grpo.optimiser = "adamw"
    assert not [*report._uncounted(stage_programs(config, "grpo", target("")))]


def test_a_width_that_cannot_be_cut_is_said():
    config = parse(["plan", SMOKE, "--config.mesh.data=1", "--config.mesh.fsdp=8", "--config.model.width=36"]).config
    lines = [*report._devices(stage_programs(config, "grpo", target("")))]
    assert lines[2].strip() == (
        "its width 36 is no multiple of mesh.fsdp=8, so parameters are whole on each device: use mesh.fsdp=4, and "
        "mesh.data for the rest"
    )


@pytest.mark.parametrize(("options", "says"), [
    ({}, "raise grpo.micro_batches to 8"),
    ({"grpo.micro_batches": 8}, "raise mesh.fsdp or mesh.tensor, or lower"),
])  # fmt: skip
def test_what_to_change_where_it_does_not_fit(options, says):
    config = parse(["plan", SMOKE, "--config.mesh.data=1", "--config.mesh.fsdp=1", "--config.mesh.tensor=8"]).config
    config.update_from_flattened_dict(options)
    programs = stage_programs(config, "grpo", target(""))
    assert says in programs.fix()
    small = dataclasses.replace(CHIPS["v5e"], memory=sum(programs.parts.values()))
    full = dataclasses.replace(programs, target=dataclasses.replace(programs.target, chip=small))
    assert "the state alone is" in full.fix() and "raise mesh.fsdp" in full.fix()
    with pytest.raises(UserError, match=r"a rollout does not fit this machine \(it needs .* which has .*\): less"):
        check_fits("a rollout", small.memory + 1, full.target, "less")
    check_fits("a rollout", small.memory, full.target, "")


def test_the_steps_of_a_whole_config(tmp_path):
    config = parse(["plan", SMOKE]).config
    assert (schedule_of(config).sft, schedule_of(config).grpo) == (config.sft.steps, config.grpo.steps)
    config.sft.steps = config.grpo.steps = 0
    config.expert.trajectories = 10
    expected = schedule_of(config)
    count = int(re.match(r"(\d+) examples expected", expected.source)[1])
    assert 20 <= count <= 200 and expected.grpo == grpo_steps(config, count)
    step = Step("observation", ("go",), "reasoning", "go", ("go",), 1)
    file = WorkDir(tmp_path).data("burger", "train")
    file.parent.mkdir(parents=True)
    write_trajectories(file, [Trajectory("burger", "default", (step,) * 7), Trajectory("burger", "other", (step,) * 5)])
    assert schedule_of(config, str(tmp_path)).source == "12 examples collected"
    config.sft.trajectories = 1
    found = schedule_of(config, str(tmp_path))
    assert found.source == "12 examples collected, 7 of them for SFT"
    assert (found.sft, found.grpo) == (sft_steps(config, 7), grpo_steps(config, 12))
    assert schedule_of(config).sft == sft_steps(config, count / 10)


@pytest.mark.parametrize("option", ["--utilisation=0", "--utilisation=1.5", "--price=-1", "--price=nan"])
def test_shares_and_prices_that_are_none_are_refused(option):
    with pytest.raises(SystemExit) as ended:
        main(["plan", SMOKE, option])
    assert ended.value.code == 2


def test_what_compilers_say_goes_to_a_file(tmp_path, capfd):
    file = tmp_path / "noise.log"
    with noise_to(file):
        os.write(2, b"W0000 something\n")
    os.write(2, b"heard\n")
    assert file.read_bytes() == b"W0000 something\n" and capfd.readouterr().err == "heard\n"


def test_a_target_without_figures_has_no_memory():
    assert Target("this machine", []).memory == 0.0
