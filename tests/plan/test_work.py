"""Arithmetic, padding and times of a plan, worked out by hand."""

import dataclasses

import pytest

from stgrpo.models.flops import TokenCounts, forward_flops, linear_parameters
from stgrpo.models.lora import Lora
from stgrpo.models.shapes import ModelShape
from stgrpo.plan.hardware import CHIPS, SLICES, Chip
from stgrpo.plan.times import Part, time_of
from stgrpo.plan.work import Rollout, Work, group_tokens, update_work

# 2 layers of width 8: 4 query heads of size 2, one for keys and values, an MLP of 16; 32 tokens.
SHAPE = ModelShape(32, 8, 2, heads=4, kv_heads=1, head_dim=2, mlp_width=16)
LINEAR = 2 * (2 * 8 * 8 + 2 * 8 * 2 + 3 * 8 * 16)


@dataclasses.dataclass(frozen=True)
class Batch:
    size: int


def test_a_prompt_is_taken_once_and_a_response_sees_it_and_itself():
    pairs = 3 * (1 + 2 + 3 + 4) + 3 * 2 * ((4 + 1) + (4 + 2) + (4 + 3))
    assert group_tokens(3, prompt=4, group=2, response=3) == TokenCounts(3 * (4 + 2 * 3), 3 * 2 * 3, pairs)


def test_matrices_of_the_layers_are_counted():
    assert linear_parameters(SHAPE) == LINEAR


def test_an_update_is_three_passes_and_what_is_computed_again():
    tokens, batch = TokenCounts(10, 3, 55), Batch(15)
    one, head = forward_flops(SHAPE, tokens), 2 * 32 * 8 * 3
    whole = update_work(SHAPE, tokens, batch, remat=True, lora=None)
    assert whole == Work(3 * one, 0.5 * 4 * one, one)
    kept = update_work(SHAPE, tokens, Batch(10), remat=False, lora=None)
    assert kept == Work(3 * one, 0.0, head)
    adapters = update_work(SHAPE, tokens, Batch(10), remat=True, lora=Lora(2, 4.0))
    assert adapters.needed > 2 * one and adapters.repeated == one
    assert whole.wasted == pytest.approx(1 / 3)


def test_slots_without_a_prompt_are_padding():
    rollout = Rollout(5, group=2, prompt=30, response=4, slots=4, devices=2, prefill_rows=2, room=32)
    assert (rollout.rounds, rollout.steps, rollout.prefills) == (2, 8, 4)
    decoded = rollout.decode_work(SHAPE)
    assert decoded.needed == 5 * forward_flops(SHAPE, TokenCounts(8, 8, 2 * (4 * 30 + 10)))
    assert decoded.padding == pytest.approx(decoded.needed * 3 / 5)
    prefilled = rollout.prefill_work(SHAPE)
    assert prefilled.needed == 5 * forward_flops(SHAPE, TokenCounts(30, 0, 465))
    assert prefilled.done == 8 * forward_flops(SHAPE, TokenCounts(32, 0, 528))


@pytest.mark.parametrize(
    ("work", "memory", "bound", "seconds"), [(8e12, 1e9, "arithmetic", 20.0), (8e9, 8e11, "memory", 10.0)]
)
def test_the_longest_of_three_times_is_the_bound(work, memory, bound, seconds):
    chip = Chip(1e12, 1, 1e11, 1e9, 0, 0, "")
    mesh = type("Mesh", (), {"size": 2})()
    time = time_of(Part("", Work(work), memory, ()), mesh, chip, 0.2)
    assert time.bound == bound and time.total == pytest.approx(seconds)


def test_every_chip_names_its_source_and_every_slice_a_chip():
    assert all(chip.source and chip.flops > 1e14 and chip.memory > 2**33 for chip in CHIPS.values())
    assert {topology.split(":")[0] for topology in SLICES.values()} <= set(CHIPS)
    assert CHIPS["v5e"].ring == 100e9 and CHIPS["v5p"].ring == 200e9 and CHIPS["h100"].ring == 450e9
