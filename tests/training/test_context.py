"""What the stages share: the learning rate that a step is logged with."""

import math

import pytest

from stgrpo.config import base
from stgrpo.training.context import rate_of_step


def test_the_rate_of_a_step_is_that_of_its_last_update():
    section = base().grpo
    section.schedule, section.warmup, section.learning_rate = "cosine", 0.25, 1e-3
    rate = rate_of_step(section, total=4, updates=3)  # 12 updates, the first 3 of them warm up

    def by_hand(update: int) -> float:
        if update < 3:
            return 1e-3 * (update + 1) / 4
        return 1e-3 * (0.1 + 0.9 * (1 + math.cos(math.pi * (update - 3) / 9)) / 2)

    assert [rate(step) for step in range(4)] == pytest.approx([by_hand(n) for n in (2, 5, 8, 11)], rel=1e-6)


def test_a_step_of_one_update_has_its_rate():
    section = base().sft
    section.schedule, section.warmup, section.learning_rate = "constant", 0.5, 1.0
    rate = rate_of_step(section, total=4)
    assert [rate(step) for step in range(4)] == pytest.approx([1 / 3, 2 / 3, 1, 1])
