"""What a stage refuses at its start, where to go on in silence would be to do another thing than was asked."""

import pathlib
import types

import pytest

from stgrpo.config import base
from stgrpo.errors import UserError
from stgrpo.models.lora import Lora
from stgrpo.rl.rollouts import Publishing, RolloutSchedule
from stgrpo.sampling.vllm.leader import LeaderSampler
from stgrpo.stages import grpo, sft


def test_adapters_whose_base_nobody_names_are_not_begun_anew(tiny_shape):
    record = types.SimpleNamespace(step=3, lora=Lora(2, 4.0))
    checkpoints = types.SimpleNamespace(folder=pathlib.Path("checkpoints/sft"), restore=lambda abstract: (None, record))
    steps = types.SimpleNamespace(abstract=None, model=None)
    setting = types.SimpleNamespace(config=base(), tokenizer=None)
    with pytest.raises(UserError, match=r"checkpoints/sft holds adapters: set model\.path or init_from"):
        sft._start(setting, steps, tiny_shape, checkpoints)


def test_a_sampler_that_cannot_publish_does_not_draw_ahead():
    assert isinstance(LeaderSampler(None, "float32"), Publishing)  # that of a run of several processes can
    with pytest.raises(UserError, match=r"rollout\.max_staleness needs servers"):
        grpo._Training._source(None, None, object(), RolloutSchedule(0, 9, 4, staleness=1))
