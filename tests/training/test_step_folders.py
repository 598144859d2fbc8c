"""What of a checkpoint is whole: a file that is missing, torn or changed is seen, and nothing else is called damage."""

import dataclasses
import errno
import json
import os
import pathlib
import shutil

import jax
import numpy as np
import pytest
from small_checkpoints import RECORD, SHAPE, steps_on

from stgrpo.errors import DamagedCheckpoint, RunError, UserError
from stgrpo.models.lora import Adapters, Lora
from stgrpo.models.transformer import Transformer
from stgrpo.training import checkpointing, step_folders
from stgrpo.training.checkpointing import Checkpoints, fingerprint, load_metadata, load_params, newest_metadata, to_dict
from stgrpo.training.step_folders import damage, read_leaves, sum_of, whole_steps

OTHER = dataclasses.replace(SHAPE, qkv_bias=False, qk_norm=True, tie_embeddings=False)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Two checkpoints, of states that differ, and the states."""
    folder = tmp_path_factory.mktemp("made") / "sft"
    steps, checkpoints = steps_on(1, 1, 1), Checkpoints(folder, keep=3)
    states = [steps.init(jax.random.key(seed)) for seed in (1, 2)]
    for number, state in enumerate(states, start=1):
        checkpoints.save(state, dataclasses.replace(RECORD, step=number))
    return folder, states


@pytest.fixture
def folder(made, tmp_path):
    shutil.copytree(made[0], tmp_path / "sft")
    return tmp_path / "sft"


def files_of(step: pathlib.Path) -> list[pathlib.Path]:
    return sorted(p for p in step.rglob("*") if p.is_file())


def changes(file: pathlib.Path) -> list[bytes | None]:
    """What can become of a file: gone, torn, longer, another bit."""
    content = file.read_bytes()
    if file.name == "files.json":  # without it the arrays are read instead
        return [content[: len(content) // 2]]
    bit = bytearray(content)
    bit[len(bit) // 2 : len(bit) // 2 + 1] = [byte ^ 1 for byte in bit[len(bit) // 2 : len(bit) // 2 + 1]]
    return [changed for changed in (None, content[:-1], bytes(bit), content + b"\0") if changed != content]


def test_every_file_counts_be_it_missing_torn_or_changed_in_one_bit(folder):
    step = folder / "2"
    for file in files_of(step):
        content = file.read_bytes()
        for changed in changes(file):
            file.unlink()
            if changed is not None:
                file.write_bytes(changed)
            assert damage(step), (file, changed and len(changed))
            assert load_metadata(next(whole_steps(folder))).step == 1
            file.write_bytes(content)
    assert damage(step) == ""


BROKEN = {
    "empty folder": lambda step: [shutil.rmtree(p) if p.is_dir() else p.unlink() for p in step.iterdir()],
    "no record": lambda step: shutil.rmtree(step / "record"),
    "no record file": lambda step: (step / "record" / "metadata").unlink(),
    "torn record": lambda step: (step / "record" / "metadata").write_text('{"stage": "sf'),
    "record of nothing": lambda step: (step / "record" / "metadata").write_text("null"),
    "no params": lambda step: shutil.rmtree(step / "params"),
    "no opt_state": lambda step: shutil.rmtree(step / "opt_state"),
    "no arrays": lambda step: [shutil.rmtree(p) for p in step.glob("params/ocdbt*")],
    "a file": lambda step: (shutil.rmtree(step), step.write_text("")),
    "another step's": lambda step: (shutil.rmtree(step), shutil.copytree(step.with_name("1"), step)),
}


@pytest.mark.parametrize("sums", [True, False])
@pytest.mark.parametrize("how", sorted(BROKEN))
def test_an_incomplete_newest_step_is_passed_over_by_all_alike(folder, caplog, how, sums):
    abstract = steps_on(1, 1, 1).abstract
    if not sums:  # as older versions wrote them
        for file in folder.glob("*/files.json"):
            file.unlink()
    BROKEN[how](folder / "2")
    checkpoints = Checkpoints(folder)
    assert (checkpoints.newest(), checkpoints.steps(), newest_metadata(folder).step) == (1, [1], 1)
    assert checkpoints.restore(abstract)[1].step == 1
    assert checkpointing.load_newest(folder, abstract.params) is not None
    assert caplog.text.count("passed over") == 1  # never in silence, and once


def test_a_damaged_step_is_written_anew_and_never_makes_a_whole_one_go(folder, made):
    (folder / "2" / "record" / "metadata").unlink()
    state = made[1][1]
    checkpoints = Checkpoints(folder, keep=1)
    checkpoints.save(state, dataclasses.replace(RECORD, step=3))
    assert checkpoints.steps() == [3]
    shutil.rmtree(folder / "3" / "params")
    checkpoints.save(made[1][0], dataclasses.replace(RECORD, step=1))  # after a resume from further back
    assert checkpoints.steps() == [1]
    checkpoints.save(state, dataclasses.replace(RECORD, step=2))
    assert checkpoints.steps() == [2]
    checkpoints.save(state, dataclasses.replace(RECORD, step=3))
    assert checkpoints.steps() == [3] and damage(folder / "3") == ""


def test_a_whole_step_of_the_same_number_is_kept_beside(folder, made):
    Checkpoints(folder, keep=3).save(made[1][0], dataclasses.replace(RECORD, step=2))
    assert damage(folder / "2.replaced-1") == ""
    assert load_metadata(folder / "2").fingerprint == fingerprint(made[1][0].params)


@pytest.mark.parametrize("code", [errno.EIO, errno.ESTALE, errno.EACCES, errno.ENOMEM, errno.EMFILE])
def test_an_error_of_the_disk_is_no_damage(folder, monkeypatch, code):
    real = pathlib.Path.open

    def failing(self, *arguments, **options):
        if "/2/" in str(self) and "params" in str(self):
            raise OSError(code, os.strerror(code), str(self))
        return real(self, *arguments, **options)

    step_folders._proven.clear()
    before = {str(p): p.stat().st_mtime_ns for p in folder.rglob("*")}
    with monkeypatch.context() as patched:
        patched.setattr(pathlib.Path, "open", failing)
        with pytest.raises(RunError, match="cannot be read now .*nothing was changed") as told:
            Checkpoints(folder).restore(steps_on(1, 1, 1).abstract)
    assert "delete" not in str(told.value) and "\n" not in str(told.value)
    assert {str(p): p.stat().st_mtime_ns for p in folder.rglob("*")} == before
    assert newest_metadata(folder).step == 2


@pytest.mark.parametrize(
    "error", [MemoryError(), OSError(errno.EIO, "Input/output error"), RuntimeError("RESOURCE_EXHAUSTED")]
)
def test_what_orbax_cannot_do_with_whole_files_is_no_damage(folder, monkeypatch, error):
    def failing(*_, **__):
        raise error

    abstract = steps_on(1, 1, 1).abstract
    checkpoints = Checkpoints(folder)
    monkeypatch.setattr(checkpointing.ocp.Checkpointer, "restore", failing)
    with pytest.raises(RunError, match="cannot be read now"):
        checkpoints.restore(abstract)
    with pytest.raises(RunError, match="cannot be read now"):
        load_params(folder / "2", abstract.params)


def test_a_save_that_fails_leaves_what_stands_and_no_remains(folder, made, monkeypatch):
    checkpoints = Checkpoints(folder, keep=1)

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    for where, name in ((os, "fsync"), (pathlib.Path, "rename"), (checkpointing.ocp.AsyncCheckpointer, "save")):
        with monkeypatch.context() as patched:
            patched.setattr(where, name, full)
            with pytest.raises(RunError, match="cannot be written .*those before it stand"):
                checkpoints.save(made[1][0], dataclasses.replace(RECORD, step=3))
        assert sorted(p.name for p in folder.iterdir()) == ["1", "2"] and checkpoints.steps() == [1, 2]


def test_a_first_save_that_does_not_come_back_ends_the_run_before_it_counts(tmp_path, made, monkeypatch):
    real = checkpointing.read_leaves

    def wrong(item, shardings=None):
        for number, (path, leaf) in enumerate(real(item, shardings)):
            yield path, leaf + 1 if number == 3 else leaf

    checkpoints = Checkpoints(tmp_path / "sft")
    monkeypatch.setattr(checkpointing, "read_leaves", wrong)
    with pytest.raises(RunError, match="does not come back as it was written"):
        checkpoints.save(made[1][0], RECORD)
    assert list((tmp_path / "sft").iterdir()) == []


def test_what_a_killed_save_left_is_removed(folder):
    for name in ("3.00000003.part", "3.00000003.part.orbax-checkpoint-tmp", "4.orbax-checkpoint-tmp"):
        (folder / name / "params").mkdir(parents=True)
    Checkpoints(folder)
    assert sorted(p.name for p in folder.iterdir()) == ["1", "2"]


def test_only_where_all_are_proven_bad_is_there_word_of_starting_anew(folder):
    for step in folder.iterdir():
        (step / "record" / "metadata").write_text("{")
    with pytest.raises(DamagedCheckpoint, match="put back a copy, or delete the folder to start anew"):
        newest_metadata(folder)


def test_a_record_of_a_newer_version_is_no_damage(folder):
    (folder / "2" / "files.json").unlink()
    file = folder / "2" / "record" / "metadata"
    file.write_text(json.dumps({**json.loads(file.read_text()), "later": 1}))
    with pytest.raises(UserError, match="newer version") as told:
        newest_metadata(folder)
    assert not isinstance(told.value, DamagedCheckpoint)


def test_a_path_that_orbax_would_misread_is_refused_and_not_called_damage(folder, tmp_path):
    odd = tmp_path / "a\\b"
    shutil.copytree(folder, odd / "sft")
    with pytest.raises(UserError, match="cannot stand under") as told:
        load_params(odd / "sft" / "2", steps_on(1, 1, 1).abstract.params)
    assert not isinstance(told.value, DamagedCheckpoint)


@pytest.mark.parametrize("shape", [SHAPE, OTHER])
@pytest.mark.parametrize("adapters", [True, False])
def test_the_sum_in_the_order_of_the_disk_is_the_fingerprint_in_that_of_memory(shape, adapters):
    key = jax.random.key(0)
    lora = Lora(2, 4.0, ("q", "k", "v", "o", "gate", "up", "down"))
    params = Adapters(shape, lora) if adapters else Transformer(shape, key)
    params = jax.tree.map(lambda x: jax.random.normal(key, x.shape), params)
    assert sum_of(map(np.asarray, jax.tree.leaves(to_dict(params)))) == fingerprint(params)


def test_the_sum_of_what_is_on_disk_is_that_of_what_was_in_memory(made):
    folder, states = made
    assert sum_of(leaf for _, leaf in read_leaves(folder / "2" / "params")) == fingerprint(states[1].params)


def test_without_sums_a_changed_bit_of_a_parameter_is_seen_too(folder):
    step = folder / "2"
    (step / "files.json").unlink()
    victim = max(step.glob("params/**/d/*"), key=lambda p: p.stat().st_size)
    content = bytearray(victim.read_bytes())
    content[len(content) // 2] ^= 1
    victim.write_bytes(content)
    assert damage(step)
