"""Memory by formula against what a compiler says of the same update."""

import re

import jax
import pytest

from stgrpo.config import base
from stgrpo.plan.estimate import update_memory
from stgrpo.plan.fits import doubts_of_memory
from stgrpo.plan.programs import compile_update, stage_programs
from stgrpo.plan.topologies import Target


def config(remat: bool, row_tokens: int):
    c = base()
    c.model.update(name="custom", width=192, depth=6, heads=6, kv_heads=2, head_dim=32, mlp_width=512, remat=remat)
    c.tokenizer.vocab_size, c.limits.prompt, c.limits.response = 1024, 384, 64
    c.sft.batch, c.sft.row_tokens, c.grpo.prompts, c.grpo.group_size = 8, row_tokens, 4, 4
    return c


@pytest.mark.slow
@pytest.mark.parametrize(("stage", "remat", "row_tokens"), [("grpo", False, 0), ("sft", True, 1024)])
def test_an_update_by_attention_of_xla(stage, remat, row_tokens):
    programs = stage_programs(config(remat, row_tokens), stage, Target("one CPU", jax.devices()[:1]))
    estimated, compiled = update_memory(programs), compile_update(programs)
    assert estimated == pytest.approx(compiled.peak + programs.reference, rel=0.25)


def test_an_update_that_does_not_fit_is_doubted(monkeypatch):
    """16 prompts of 640 tokens with 8 responses of 96 in one part take 50 GiB; the compiler says so too."""
    c = base()
    c.model.update(name="smollm2-135m", remat=False)
    c.limits.prompt, c.limits.response, c.grpo.prompts, c.grpo.group_size = 640, 96, 16, 8
    programs = stage_programs(c, "grpo", Target("one CPU", jax.devices()[:1]))
    monkeypatch.setattr("stgrpo.plan.fits.memory_a_device", lambda device: 24 * 2**30)
    (said,) = doubts_of_memory(programs)
    assert re.match(r"an update of grpo takes about 5\d\.\d\d GiB a device .*, which has 24.00 GiB: raise ", said)
    assert "grpo.micro_batches to 16" in said
    c.grpo.micro_batches = 16
    assert doubts_of_memory(programs) == []
