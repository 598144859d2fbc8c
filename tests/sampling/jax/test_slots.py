"""Continuous batching as the host sees it, against a count of every prompt and slot."""

import numpy as np
import pytest

from stgrpo.sampling.jax.slots import PREFILL_TOKENS, SlotSchedule, size_of, slots_for


def test_sizes_are_two_an_octave_and_never_too_small():
    assert [size_of(n, 1) for n in (1, 2, 3, 4, 5, 7, 9, 13, 17, 25, 33)] == [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48]
    assert sorted({size_of(n, 32) for n in range(600)}) == [32, 48, 64, 96, 128, 192, 256, 384, 512, 768]
    assert all(size_of(n, 32) >= n for n in range(3000))


@pytest.mark.parametrize(
    ("prompts", "most", "slots"), [(1, 32, 1), (14, 32, 16), (32, 32, 32), (40, 32, 24), (5, 1, 1)]
)
def test_slots_are_full_in_every_round(prompts, most, slots):
    assert slots_for(prompts, most) == slots


@pytest.mark.parametrize("shards", [1, 2, 4])
@pytest.mark.parametrize("prompts", [1, 3, 8, 29])
def test_every_prompt_is_given_to_one_slot_of_the_device_that_prefills_it(prompts, shards):
    rng = np.random.default_rng(prompts)
    lengths = rng.integers(1, 200, prompts).tolist()
    schedule, started, ended = SlotSchedule(lengths, 8, shards), [], []
    while not schedule.finished:
        for filling in schedule.fillings():
            rows_DB, source_DS = filling.prompts_B.reshape(shards, -1), filling.source_S.reshape(shards, -1)
            assert rows_DB.shape[1].bit_count() == 1  # a power of two
            for shard, slot in np.argwhere(source_DS >= 0):
                prompt = rows_DB[shard, source_DS[shard, slot]]
                assert schedule.prompt_S.reshape(shards, -1)[shard, slot] == prompt
                assert lengths[prompt] <= filling.length
                started.append(prompt)
            assert (rows_DB >= 0).sum() == (source_DS >= 0).sum()
        assert 1 <= schedule.wanted <= 8
        ended += [prompt for _, prompt in schedule.release(rng.random(8) < 0.3)]
    assert sorted(started) == sorted(ended) == list(range(prompts))


def test_no_row_is_padding_on_one_device():
    fillings = list(SlotSchedule([5] * 14, 16).fillings())
    assert [f.prompts_B.tolist() for f in fillings] == [[*range(8)], [*range(8, 12)], [12, 13]]


def test_long_prompts_are_prefilled_a_few_at_a_time():
    fillings = list(SlotSchedule([PREFILL_TOKENS // 4] * 6 + [3 * PREFILL_TOKENS] + [10], 8).fillings())
    assert [len(f.prompts_B) for f in fillings] == [1, 4, 2, 1]
    assert fillings[-1].length == 32


def test_prompts_wait_until_a_share_of_the_slots_is_free():
    schedule = SlotSchedule([9] * 30, 16)
    assert len([*schedule.fillings()]) == 1
    assert schedule.wanted == 4
    assert schedule.release(np.arange(16) < 3) == [(0, 0), (1, 1), (2, 2)]
    assert [f.prompts_B.tolist() for f in schedule.fillings()] == [[16, 17], [18]]
