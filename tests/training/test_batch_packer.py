"""What packing saves on the benchmark's own kitchens, and how few programs it takes."""

import dataclasses
import itertools

import jax
import numpy as np
import pytest

from stgrpo import envs
from stgrpo.config import base
from stgrpo.console import ProgramLog
from stgrpo.data.examples import batch_indices, build_examples, stream_indices, tokenizer_texts
from stgrpo.data.tokenizer import Tokenizer, train_tokenizer
from stgrpo.envs.robotouille.kitchen.names import OBJECT_NAMES
from stgrpo.experts.collect import collect
from stgrpo.models.sharding import make_mesh
from stgrpo.react.prompt import PromptStyle
from stgrpo.react.reward import Reward
from stgrpo.rl.group_batch import Group, group_batch
from stgrpo.training.batch_packer import BatchPacker, padding
from stgrpo.training.sft import sft_batch


@pytest.fixture(scope="module")
def examples():
    """All states of 120 burger kitchens of the benchmark's size, with a tokenizer trained on them."""
    style = PromptStyle("none", "none")
    trajectories = list(collect(envs.get("robotouille"), "burger", "random", split="train", count=120))
    tokenizer = Tokenizer(train_tokenizer(tokenizer_texts(trajectories, style), vocab_size=1024, names=OBJECT_NAMES))
    return build_examples(trajectories, tokenizer, style, max_prompt_len=4096, max_response_len=4096)


def layouts(stage, path, **fields):
    config = base()
    config[stage].update(fields)
    lay_out = BatchPacker(stage, config, make_mesh(1, 1, 1, jax.devices()[:1]), ProgramLog(stage, path / "log"))
    return lay_out, lambda: [line.partition(", ")[2] for line in (path / "log").read_text().splitlines()]


def rollout(examples, rng, prompts=64, group_size=8):
    """Groups whose responses have the lengths of experts' responses; one in fifty ran to the limit of 64."""
    groups = []
    for row in stream_indices(len(examples), int(rng.integers(10_000)), prompts, 0):
        picked = [examples[i].response_ids for i in rng.integers(0, len(examples), group_size)]
        tokens = tuple((*ids, *[0] * (64 - len(ids))) if rng.random() < 0.02 else ids for ids in picked)
        rewards = tuple(Reward(0.1, action, 0.1 + action) for action in 0.9 * rng.integers(0, 2, group_size))
        groups.append(Group(examples[row], tokens, ("",) * group_size, ("stop",) * group_size, rewards))
    return group_batch(groups, aggregation="token_mean", scale_by_std=True, limit=64)


def test_a_rollout_in_packed_rows_is_padded_by_less_than_fifteen_percent(examples, tmp_path):
    lay_out, named = layouts("grpo", tmp_path, row_tokens=1024)
    batches = [rollout(examples, np.random.default_rng(seed)) for seed in range(10)]
    packed = [lay_out(batch) for batch in batches]
    assert padding(packed)["padding"] < 0.15 < 0.4 < padding(batches)["padding"]
    assert 2 <= len(named()) <= 8  # log-probabilities and update


def test_sft_batches_in_packed_rows_are_padded_by_less_than_fifteen_percent(examples, tmp_path):
    lay_out, named = layouts("sft", tmp_path, row_tokens=1024)
    batches = [sft_batch([examples[i] for i in batch_indices(len(examples), 64, step, 0)]) for step in range(10)]
    packed = [lay_out(batch) for batch in batches]
    assert padding(packed)["padding"] < 0.15 < 0.3 < padding(batches)["padding"]
    assert 1 <= len(named()) <= 4


def test_a_form_is_named_once(examples, tmp_path):
    lay_out, named = layouts("sft", tmp_path)
    batch = sft_batch(examples[:4])
    for _ in range(2):
        assert lay_out(batch) is batch
    (B, P), R = batch.prompt_BP.shape, batch.response_BGR.shape[2]
    assert named() == [f"update of {B} prompts of {P} tokens, 1 responses of {R}"]


def test_every_token_is_counted_once(examples, tmp_path):
    lay_out, _ = layouts("grpo", tmp_path, row_tokens=512)
    batch = rollout(examples, np.random.default_rng(0), prompts=4)
    real = int(batch.prompt_len_B.sum() + batch.mask_BGR.sum())
    assert batch.tokens == lay_out(batch).tokens == real
    assert padding([batch])["tokens_processed"] == batch.prompt_BP.size + batch.response_BGR.size
    longer = dataclasses.replace(batch, mask_BGR=np.ones_like(batch.mask_BGR))
    assert longer.tokens > real
    assert padding(itertools.chain([batch], [longer]))["padding"] < padding([batch])["padding"]
