"""What the batches of SFT are padded to: few shapes, which pad least."""

import itertools

import numpy as np
import pytest

from stgrpo.data.examples import Example, batch_indices
from stgrpo.data.padding import least_padding
from stgrpo.data.records import Step
from stgrpo.training.sft import MOST_SHAPES, SftShapes, sft_batch, sft_shapes

STEP = Step("observation", ("go",), "reasoning", "go", ("go",), 1)


def examples_of(lengths):
    return [Example((1,) * p, (2,) * r, STEP, "task", "layout", 0) for p, r in lengths]


def long_tailed(rng, count, *, longest):
    """Prompts and responses, most of them short."""
    parts = [np.clip(rng.lognormal(np.log(top / 5), 0.7, count), 1, top).astype(int) for top in (longest, longest // 4)]
    return list(zip(*(part.tolist() for part in parts), strict=True))


def padded(tokens, lengths):
    return sum(min((n for n in lengths if n >= one), default=10**9) for one in tokens)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 9])
@pytest.mark.parametrize("seed", range(5))
def test_no_other_lengths_pad_less(count, seed):
    tokens = np.random.default_rng(seed).integers(0, 60, 12).tolist()
    lengths, whole = least_padding(tokens, count, unit=8)
    assert len(lengths) <= count and list(lengths) == sorted(set(lengths)) and not any(n % 8 for n in lengths)
    every = itertools.chain.from_iterable(itertools.combinations(range(8, 65, 8), n) for n in range(1, count + 1))
    assert padded(tokens, lengths) == whole == min(padded(tokens, way) for way in every)


@pytest.mark.parametrize("skip", [0, 30])
@pytest.mark.parametrize("longest", [40, 400, 4000])
@pytest.mark.parametrize("batch", [1, 2, 8])
def test_batches_have_at_most_six_shapes_whatever_the_lengths(batch, longest, skip):
    lengths = [(skip + p, r) for p, r in long_tailed(np.random.default_rng(longest), 200, longest=longest)]
    examples = examples_of(lengths)
    shapes, met = sft_shapes(examples, skip), set()
    for step in range(400 // batch):
        chosen = [examples[i] for i in batch_indices(len(examples), batch, step, 0)]
        made = sft_batch(chosen, skip=skip, shapes=shapes)
        assert made.prompt_len_B.tolist() == [len(e.prompt_ids) - skip for e in chosen]
        assert made.mask_BGR.sum(axis=(1, 2)).tolist() == [len(e.response_ids) for e in chosen]
        met.add((made.prompt_BP.shape[1], made.response_BGR.shape[2]))
    assert 1 < len(met) <= len(shapes.prompt) * len(shapes.response) <= MOST_SHAPES


def test_the_shapes_are_those_that_pad_least_and_do_not_depend_on_an_order():
    """Prompts of two kinds and responses of two: four shapes without padding, where one length of either has some."""
    examples = examples_of([(64, 16), (64, 48), (256, 16), (256, 48)] * 5)
    assert sft_shapes(examples) == sft_shapes(examples[::-1]) == SftShapes((64, 256), (16, 48))
    six = examples_of([*((n, 16) for n in (64, 128, 192, 256, 320, 384)), (384, 32)])
    assert sft_shapes(six) == SftShapes((64, 128, 192, 256, 320, 384), (32,))  # 6 x 16 more; with two, 3 x 64
