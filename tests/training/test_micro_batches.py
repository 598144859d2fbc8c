"""The parts a batch is taken in: never so many that rows of padding are made for them."""

import itertools

import jax
import numpy as np
import pytest

from stgrpo.config import base
from stgrpo.console import ProgramLog
from stgrpo.errors import UserError
from stgrpo.models.sharding import make_mesh
from stgrpo.training.batch_packer import BatchPacker
from stgrpo.training.micro_batches import check_batch, micro_batch_count, most_rows, part_count, said_of_parts
from stgrpo.training.packing import fit_rows


def settings(**grpo):
    config = base()
    config.grpo.update({"prompts": 8, "group_size": 2, **grpo})
    config.limits.prompt, config.limits.response = 20, 10
    return config


@pytest.mark.parametrize(
    ("rows", "shards", "wanted", "parts"),
    [(256, 256, 8, 1), (256, 8, 8, 8), (256, 24, 8, 6), (96, 8, 8, 6), (1, 8, 8, 1), (300, 16, 8, 7)],
)
def test_parts_by_hand(rows, shards, wanted, parts):
    assert part_count(rows, shards, wanted) == parts


def test_no_part_holds_more_rows_and_none_is_all_padding():
    for rows, shards, wanted in itertools.product(range(1, 70), (1, 2, 3, 8), (1, 2, 3, 4, 8, 16)):
        parts = part_count(rows, shards, wanted)
        asked, taken = -(-rows // (shards * wanted)), -(-rows // (shards * parts))
        assert parts <= wanted and taken <= asked
        assert taken * parts <= asked * wanted and rows > taken * shards * (parts - 1)
        if rows % (shards * wanted) == 0:
            assert parts == wanted


@pytest.mark.parametrize("row", [40, 80, 130])
def test_no_more_rows_are_packed_than_are_counted_on(row):
    rng = np.random.default_rng(row)
    config = settings(prompts=24, row_tokens=row)
    for _ in range(200):
        lengths = rng.integers(3, 41, 24).tolist()  # 20 of a prompt and twice 10 at most
        assert len(fit_rows(lengths, row)) <= most_rows(config, "grpo")
    assert len(fit_rows([40] * 24, row)) == most_rows(config, "grpo")


def test_packed_rows_are_not_padded_for_parts_that_they_do_not_fill(make_groups, tmp_path):
    mesh, config = make_mesh(8), settings(row_tokens=40, micro_batches=8)
    lay_out = BatchPacker("grpo", config, mesh, ProgramLog("grpo", tmp_path / "log"))
    assert len(lay_out(make_groups([20] * 8, [[10, 10]] * 8)).token_XS) == 8  # 64 before
    assert said_of_parts(config, "grpo", mesh) == [
        "grpo.micro_batches=8 would pad 8 rows to 64 on 8 devices: batches are taken in 1"
    ]
    full = make_mesh(1, devices=jax.devices()[:1])
    assert micro_batch_count(config, "grpo", full) == 8 and said_of_parts(config, "grpo", full) == []


def test_groups_of_fewer_devices_than_asked_parts_are_taken_too():
    mesh, config = make_mesh(8), settings(micro_batches=8)
    check_batch(config, "grpo", mesh)
    assert micro_batch_count(config, "grpo", mesh) == 1
    config.grpo.prompts = 12
    with pytest.raises(UserError, match=r"grpo.prompts=12 is not a multiple of the mesh's data × fsdp = 8 × 2 micro_"):
        check_batch(config, "grpo", mesh)
    config.grpo.prompts, config.grpo.minibatches = 24, 2
    with pytest.raises(UserError, match=r"= 8 × 2 minibatches × 2 micro_batches: use grpo.prompts=32"):
        check_batch(config, "grpo", mesh)
    config.sft.batch = 4
    with pytest.raises(UserError, match=r"sft.batch=4 is not a multiple"):
        check_batch(config, "sft", mesh)
