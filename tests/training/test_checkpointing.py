"""Checkpoints come back bit for bit, on any mesh; a damaged one is passed over and never trusted."""

import dataclasses
import logging
import weakref

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec
from small_checkpoints import RECORD, SHAPE, same, steps_on

from stgrpo.errors import DamagedCheckpoint, UserError
from stgrpo.models.sharding import make_mesh
from stgrpo.training import checkpointing, step_folders
from stgrpo.training.checkpointing import Checkpoints, load_metadata, load_newest, load_params, place


@pytest.fixture
def saved(tmp_path):
    steps = steps_on(1, 1, 1)
    checkpoints = Checkpoints(tmp_path / "sft", keep=3)
    states = [steps.init(jax.random.key(seed)) for seed in (1, 2)]
    for number, state in enumerate(states, start=1):
        checkpoints.save(state, dataclasses.replace(RECORD, step=number))
    return checkpoints, states


@pytest.mark.parametrize("sizes", [(1, 1, 1), (8, 1, 1), (2, 2, 2)])
def test_a_checkpoint_comes_back_whole_on_any_mesh(saved, sizes):
    checkpoints, states = saved
    steps = steps_on(*sizes)
    state, record = checkpoints.restore(steps.abstract)
    assert same(state, states[1])
    assert (record.step, record.total, record.position, record.shape) == (2, 9, 7, SHAPE)
    for leaf, wanted in zip(jax.tree.leaves(state), jax.tree.leaves(steps.abstract), strict=True):
        assert leaf.sharding.is_equivalent_to(wanted.sharding, leaf.ndim)


def test_parameters_can_be_loaded_alone(saved, tmp_path):
    _, states = saved
    assert same(load_params(tmp_path / "sft" / "1", steps_on(1, 1, 1).abstract.params), states[0].params)


def data_files(folder):
    return [p for p in folder.rglob("*") if p.is_file() and p.stat().st_size]


def test_any_damaged_file_of_the_parameters_sends_the_run_to_the_checkpoint_before(saved, tmp_path, caplog):
    checkpoints, states = saved
    abstract = steps_on(1, 1, 1).abstract
    files = [p for p in data_files(tmp_path / "sft" / "2" / "params") if "/d/" in str(p)]
    assert files
    victim = max(files, key=lambda p: p.stat().st_size)
    whole = victim.read_bytes()
    flipped = bytearray(whole)
    flipped[len(flipped) // 2] ^= 1
    for damaged in (whole[: len(whole) // 2], bytes(flipped)):
        victim.write_bytes(damaged)
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            state, record = checkpoints.restore(abstract)
            params = load_newest(tmp_path / "sft", abstract.params)
        assert record.step == 1 and same(state, states[0]) and same(params, states[0].params)
        assert "passed over" in caplog.text and "before it is used" in caplog.text
    victim.unlink()
    assert checkpoints.restore(abstract)[1].step == 1


def test_a_run_whose_checkpoints_are_all_damaged_does_not_start_anew_by_itself(saved, tmp_path):
    checkpoints, _ = saved
    for file in (tmp_path / "sft").rglob("d/*"):
        file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(DamagedCheckpoint, match="delete the folder"):
        checkpoints.restore(steps_on(1, 1, 1).abstract)


def test_a_damaged_record_is_named(saved, tmp_path):
    file = tmp_path / "sft" / "2" / "record" / "metadata"
    file.write_text(file.read_text()[:50])
    with pytest.raises(UserError, match="damaged"):
        load_metadata(tmp_path / "sft" / "2")
    assert checkpointing.newest_metadata(tmp_path / "sft").step == 1


def test_a_folder_without_checkpoints_says_what_to_run(tmp_path):
    with pytest.raises(UserError, match="run `stgrpo sft`"):
        checkpointing.step_folders(tmp_path / "sft")


def test_the_fingerprint_does_not_depend_on_the_default_integer():
    params = [jnp.linspace(-1, 1, 4096, dtype=jnp.float32), jnp.ones(300, jnp.float32)]
    plain = checkpointing.fingerprint(params)
    with jax.enable_x64(True):
        assert checkpointing.fingerprint(params) == plain == step_folders.sum_of(map(np.asarray, params))


def test_the_fingerprint_sees_one_changed_bit():
    params = steps_on(1, 1, 1).init(jax.random.key(0)).params
    leaf = np.array(params.layers.down[...])
    leaf.view(np.uint32)[0, 3, 5] ^= 1
    changed = jax.tree.map(lambda x: leaf if x.shape == leaf.shape else x, params)
    assert checkpointing.fingerprint(params) != checkpointing.fingerprint(changed)


def test_only_damage_sends_on_to_the_checkpoint_before(saved, tmp_path):
    tried = []

    def load(folder):
        tried.append(folder.name)
        raise UserError("a mistake of another kind") if len(tried) > 1 else DamagedCheckpoint("torn: use another step")

    with pytest.raises(UserError, match="another kind"):
        checkpointing.newest(tmp_path / "sft", load)
    assert tried == ["2", "1"]


def _on(array, how):
    devices = jax.devices()
    shardings = {
        "one device": jax.sharding.SingleDeviceSharding(devices[0]),
        "another": jax.sharding.SingleDeviceSharding(devices[1]),
        "replicated": NamedSharding(make_mesh(4, 1, 1, devices[:4]), PartitionSpec()),
        "split": NamedSharding(make_mesh(4, 1, 1, devices[:4]), PartitionSpec("data")),
    }
    return jax.device_put(array, shardings[how]), shardings[how]


PLACES = ("one device", "another", "replicated", "split")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("after", PLACES)
@pytest.mark.parametrize("before", PLACES)
def test_what_is_placed_is_whole_and_what_it_was_placed_from_is_too(before, after, dtype):
    array, _ = _on(np.arange(8, dtype=np.float32), before)
    _, sharding = _on(np.zeros(8, np.float32), after)
    wanted = jax.ShapeDtypeStruct((8,), dtype, sharding=sharding)
    placed = place({"a": array, "b": array}, {"a": wanted, "b": wanted})
    for one in (*placed.values(), array):
        np.testing.assert_array_equal(np.asarray(one, np.float32), np.arange(8))
    assert placed["a"].sharding.is_equivalent_to(sharding, 1) and placed["a"].dtype == dtype


def test_what_nobody_else_holds_is_let_go_one_by_one(monkeypatch):
    kept = []

    def held():
        array = jnp.ones((8,)) * 2
        kept.append(weakref.ref(array))
        return array

    wanted = jax.ShapeDtypeStruct((8,), "bfloat16", sharding=_on(np.zeros(8), "one device")[1])
    put, alive = jax.device_put, []
    monkeypatch.setattr(jax, "device_put", lambda *a: (alive.append(sum(r() is not None for r in kept)), put(*a))[1])
    place([held(), held(), held()], [wanted] * 3)
    assert alive == [3, 2, 1]
