"""Seeds of single requests."""

from stgrpo.sampling.base import mix_seed


def test_mix_seed_is_fixed_for_ever():
    assert mix_seed(0) == 0xE220A8397B1DCDAF >> 33  # the first output of SplitMix64 from state 0
    assert mix_seed(1, 2) != mix_seed(2, 1)
