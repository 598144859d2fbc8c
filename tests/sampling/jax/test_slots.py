"""Continuous batching as the host sees it, against a count of every prompt and slot."""

import numpy as np
import pytest

from stgrpo.sampling.jax.slots import PREFILL_TOKENS, SamplerSizes, SlotSchedule, prefix_length


def test_prompts_have_two_lengths_and_prefills_one_number_of_rows():
    sizes = SamplerSizes(prompt=250, batch=64)
    assert sizes.lengths == (192, 256) and sizes.room == 256
    assert {n: sizes.length(n) for n in (1, 192, 193, 250)} == {1: 192, 192: 192, 193: 256, 250: 256}
    assert sizes.rows * sizes.room == PREFILL_TOKENS
    assert SamplerSizes(prompt=PREFILL_TOKENS * 3, batch=64).rows == 1


@pytest.mark.parametrize(
    ("tokens", "limit", "apart"),
    [
        (0, 99, 0),
        (63, 999, 0),
        (64, 999, 64),
        (437, 1280, 416),
        (437, 437, 416),
        (437, 416, 384),
        (437, 0, 416),
        (64, 64, 0),
    ],
)
def test_a_prefix_is_read_apart_where_it_is_long_and_leaves_a_token(tokens, limit, apart):
    assert prefix_length(tokens, limit) == apart


@pytest.mark.parametrize(
    ("largest", "batch", "slots"), [(1, 32, 1), (14, 32, 14), (32, 32, 32), (40, 32, 20), (5, 1, 1), (None, 32, 32)]
)
def test_slots_are_full_in_every_round_of_the_largest_call(largest, batch, slots):
    sizes = SamplerSizes(100, batch * 3, largest={} if largest is None else {3: largest})
    assert sizes.most_slots(3) == slots


def test_a_call_takes_few_slots_or_all_of_them():
    sizes = SamplerSizes(256, batch=200, shards=2, largest={1: 200, 8: 16})
    assert [sizes.slots(n, 100, 1) for n in (1, 100, 101, 200, 999)] == [(100, 256)] * 2 + [(200, 192)] * 3
    assert sizes.slots(200, 193, 1) == (200, 256)
    assert [sizes.slots(n, 100, 8) for n in (1, 8, 9, 16)] == [(8, 256)] * 2 + [(16, 192)] * 2
    assert SamplerSizes(256, batch=1).slots(1, 9, 1) == (1, 192)  # too few to have fewer


@pytest.mark.parametrize("shards", [1, 2, 4])
@pytest.mark.parametrize("prompts", [1, 3, 8, 29])
def test_every_prompt_is_given_to_one_slot_of_the_device_that_prefills_it(prompts, shards):
    rng = np.random.default_rng(prompts)
    lengths = rng.integers(1, 200, prompts).tolist()
    sizes = SamplerSizes(200, 8, shards)
    schedule, started, ended = SlotSchedule(lengths, 8, sizes), [], []
    while not schedule.finished:
        for filling in schedule.fillings():
            rows_DB, slot_DB = filling.prompts_B.reshape(shards, -1), filling.slot_B.reshape(shards, -1)
            assert rows_DB.shape == slot_DB.shape == (shards, sizes.rows)
            assert filling.length in sizes.lengths
            for shard, at in np.argwhere(rows_DB >= 0):
                prompt = rows_DB[shard, at]
                assert schedule.prompt_S.reshape(shards, -1)[shard, slot_DB[shard, at]] == prompt
                assert lengths[prompt] <= filling.length
                started.append(prompt)
            assert (slot_DB[rows_DB < 0] == 8 // shards).all()  # no such slot
        assert 1 <= schedule.wanted <= 8
        ended += [prompt for _, prompt in schedule.release(rng.random(8) < 0.3)]
    assert sorted(started) == sorted(ended) == list(range(prompts))


def test_prompts_are_prefilled_a_few_at_a_time_the_longest_first():
    fillings = list(SlotSchedule([5] * 9 + [200], 16, SamplerSizes(256, 16)).fillings())
    assert [f.prompts_B.tolist() for f in fillings] == [[9, 0, 1, 2], [3, 4, 5, 6], [7, 8, -1, -1]]
    assert [f.slot_B.tolist() for f in fillings] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 16, 16]]
    assert [f.length for f in fillings] == [256, 192, 192]


def test_prompts_wait_until_a_share_of_the_slots_is_free():
    schedule = SlotSchedule([9] * 30, 16, SamplerSizes(512, 16))
    assert len([*schedule.fillings()]) == 8
    assert schedule.wanted == 4
    assert schedule.release(np.arange(16) < 3) == [(0, 0), (1, 1), (2, 2)]
    assert [f.prompts_B.tolist() for f in schedule.fillings()] == [[16, 17], [18, -1]]


def test_more_responses_than_the_batch_are_said():
    sizes = SamplerSizes(1536, 512, shards=256, largest={8: 256})
    assert sizes.said(8) == [
        "rollout.batch=512 is less than a prompt's 8 responses on each of 256 devices: 2048 are decoded at one time"
    ]
    assert SamplerSizes(1536, 512, shards=8, largest={8: 256}).said(8) == []


def test_no_more_prompts_are_prefilled_than_there_are_slots():
    assert SamplerSizes(256, 32, shards=8, largest={4: 8}).rows == 1 < SamplerSizes(256, 32).rows == 4
    assert SamplerSizes(256, 32, largest={4: 8, 1: 2}).rows == 4
