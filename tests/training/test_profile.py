"""A window of steps recorded by JAX's profiler: read back from its files; what becomes of windows that do not fit."""

import contextlib
import gzip
import json
import logging
import re

import jax
import jax.numpy as jnp
import pytest
from commands import call
from jax.experimental.compilation_cache.compilation_cache import reset_cache

from stgrpo import processes
from stgrpo.config import base
from stgrpo.models.random import random_key
from stgrpo.models.sharding import make_mesh
from stgrpo.rl.losses import make_loss
from stgrpo.training.optimiser import OptimiserSettings, make_optimiser
from stgrpo.training.profile import open_profile
from stgrpo.training.step import build_program
from stgrpo.training.timer import Timer
from stgrpo.workdir import WorkDir

SMOKE = "--config=configs/tiny.py:smoke"


def config_with(stage="sft", first=3, steps=2, processes="first"):
    config = base()
    config.profile.stage, config.profile.first = stage, first
    config.profile.steps, config.profile.processes = steps, processes
    return config


def recorded(folder):
    """The folders that hold a record, by the steps in their names."""
    return sorted(p.parents[3].relative_to(folder).as_posix() for p in folder.rglob("*.xplane.pb"))


def events(folder):
    """What hosts did, by name, with what is said of each, of the one record in a folder."""
    (file,) = folder.rglob("*.xplane.pb")
    lines = [line for plane in jax.profiler.ProfileData.from_file(str(file)).planes for line in plane.lines]
    found = {}
    for event in (event for line in lines for event in line.events):
        found.setdefault(event.name, []).append(dict(event.stats))
    return found


def do_steps(profile, steps, fail_at=None):
    add = jax.jit(lambda x: x + 1)
    with profile:
        for number in steps:
            with profile.step(number):
                with Timer().part("update"):
                    add(jnp.ones(3)).block_until_ready()
                if number == fail_at:
                    raise ArithmeticError("here")


def test_a_window_of_a_stage_names_its_steps_and_parts(tmp_path, monkeypatch, caplog):
    with caplog.at_level(logging.WARNING):
        do_steps(open_profile(config_with(), WorkDir(tmp_path), "sft", range(1, 7)), range(1, 7))
    assert not caplog.records
    found = events(tmp_path / "profile" / "sft-3-4")
    assert [said["step_num"] for said in found["sft"]] == [3, 4]
    assert len(found["update"]) == 2
    (viewer,) = tmp_path.rglob("*.trace.json.gz")
    named = {event.get("name") for event in json.loads(gzip.decompress(viewer.read_bytes()))["traceEvents"]}
    assert {"sft", "update"} <= named


@pytest.mark.parametrize(
    ("stage", "steps", "folders", "says"),
    [
        ("grpo", range(1, 7), [], ""),  # another stage's
        ("sft", range(4, 7), ["sft-4"], "only steps 4 are recorded, since sft now does steps 4-6"),
        ("sft", range(5, 7), [], "nothing is recorded, since sft now does steps 5-6"),
        ("sft", range(1, 4), ["sft-3"], "only steps 3 are recorded, since sft now does steps 1-3"),
        ("sft", range(1, 3), [], "profile.first=3 and profile.steps=2: nothing is recorded"),
    ],
)
def test_of_a_window_what_the_stage_does_is_recorded_and_the_rest_said(tmp_path, caplog, stage, steps, folders, says):
    with caplog.at_level(logging.WARNING):
        do_steps(open_profile(config_with(), WorkDir(tmp_path), stage, steps), steps)
    assert recorded(tmp_path / "profile") == folders if folders else not (tmp_path / "profile").exists()
    assert says in caplog.text and bool(says) == bool(caplog.records)


def test_what_is_under_way_when_a_stage_fails_is_written_and_the_next_can_record(tmp_path):
    for attempt in (1, 2):
        profile = open_profile(config_with(), WorkDir(tmp_path / str(attempt)), "sft", range(1, 7))
        with pytest.raises(ArithmeticError):
            do_steps(profile, range(1, 7), fail_at=3)
    assert [said["step_num"] for said in events(tmp_path / "2" / "profile" / "sft-3-4")["sft"]] == [3]


@pytest.mark.parametrize("broken", ["start_trace", "stop_trace"])
def test_a_profiler_that_fails_is_a_warning(tmp_path, monkeypatch, caplog, broken):
    def fail(*_, **__):
        raise RuntimeError("Only one profile\nmay be run at a time")

    stop = jax.profiler.stop_trace
    monkeypatch.setattr(f"jax.profiler.{broken}", fail)
    with caplog.at_level(logging.WARNING):
        do_steps(open_profile(config_with(), WorkDir(tmp_path), "sft", range(1, 7)), range(1, 7))
    if broken == "stop_trace":
        stop()
    (record,) = caplog.records
    assert record.getMessage() == "sft: no profile of steps 3-4 (Only one profile may be run at a time)"


def test_every_process_has_a_folder_or_the_first_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(processes, "_here", processes._Here(1, 2))
    workdir = WorkDir(tmp_path)
    do_steps(open_profile(config_with(), workdir, "sft", range(1, 7)), range(1, 7))
    assert not (tmp_path / "profile").exists()
    do_steps(open_profile(config_with(processes="all"), workdir, "sft", range(1, 7)), range(1, 7))
    assert recorded(tmp_path / "profile") == ["sft-3-4/process-1"]


@contextlib.contextmanager
def uncached():
    """Programs are compiled anew: one that was kept has the names that its code had then."""
    kept = jax.config.jax_enable_compilation_cache
    jax.config.update("jax_enable_compilation_cache", False)
    reset_cache()
    try:
        yield
    finally:
        jax.config.update("jax_enable_compilation_cache", kept)
        reset_cache()


@pytest.mark.slow
def test_operations_on_devices_have_the_names_of_our_scopes(tmp_path, tiny_shape, make_groups):
    optimiser, mesh = make_optimiser(OptimiserSettings(1e-3, 0, 10)), make_mesh(1, 1, 1, jax.devices()[:1])
    program = build_program(tiny_shape, mesh, optimiser, loss=make_loss("sft"))
    profile = open_profile(config_with(first=1, steps=1), WorkDir(tmp_path), "sft", range(1, 2))
    with uncached(), profile, profile.step(1):
        program.update(program.init(random_key(0)), make_groups([5, 4], [[3], [2]]))[1]["loss"].block_until_ready()
    (file,) = tmp_path.rglob("*.xplane.pb")
    content = file.read_bytes()  # the programs are in it, each operation with its scopes
    for scope in ("gradient", "optimiser", "figures", "loss", "head", "attention", "mlp"):
        assert re.search(rf"jit\(update\)/[\w()/]*\b{scope}\b".encode(), content), scope


@pytest.mark.slow
def test_grpo_is_recorded_by_its_parts(tmp_path):
    few = ("--config.sft.steps=1", "--config.grpo.steps=2", "--config.grpo.validate_every=2")
    options = (SMOKE, f"--workdir={tmp_path / 'w'}", *few)
    assert call("collect", *options) == 0 and call("sft", *options) == 0
    window = ("--config.profile.stage=grpo", "--config.profile.first=2", "--config.profile.steps=1")
    assert call("grpo", *options, *window) == 0
    found = events(tmp_path / "w" / "profile" / "grpo-2")
    for name in ("wait", "batch", "reference", "update", "validation", "save"):
        assert len(found[name]) == 1, name
    assert len(found["sample"]) == len(found["reward"]) >= 1  # as often as groups are drawn anew
    assert [said["step_num"] for said in found["grpo"]] == [2]
