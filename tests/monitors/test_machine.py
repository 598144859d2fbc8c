"""What the devices did: in real tokens, a device; a share of the peak and memory only where a device has them."""

import dataclasses
import types

import jax
import pytest

from stgrpo.models.flops import TokenCounts, forward_flops, training_flops
from stgrpo.models.lora import Lora
from stgrpo.monitors.base import repeatable
from stgrpo.monitors.machine import Meter


def device(index=0, **stats):
    return types.SimpleNamespace(process_index=index, memory_stats=lambda: stats or None)


def test_speed_is_of_real_tokens_a_device(tiny_shape, make_groups):
    short, padded = make_groups([5, 4], [[3], [2]]), make_groups([5, 4], [[3], [2]], P=32, R=16)
    found = [
        Meter(tiny_shape, [device()] * 4, lora=None, peak=1e9).updates([b, b], 0.5, passes=3) for b in (short, padded)
    ]
    assert found[0] == found[1]
    flops = training_flops(tiny_shape, short.counts)
    assert found[0] == pytest.approx(
        {
            "machine/update_tokens_per_second": 2 * 14 * 3 / 0.5 / 4,
            "machine/update_tflops": 2 * flops * 3 / 0.5 / 4 / 1e12,
            "machine/mfu": 2 * flops * 3 / 0.5 / 4 / 1e9,
        }
    )
    assert Meter(tiny_shape, [device()] * 2, lora=None, peak=None).sampling(100, 4.0) == {
        "machine/sample_tokens_per_second": 12.5
    }


def test_behind_frozen_layers_only_what_prompts_share_goes_through_them(tiny_shape, make_groups):
    lora, prefix, batch = Lora(4, 8.0, layers=1), 6, make_groups([5, 4], [[3], [2]])
    meter = Meter(tiny_shape, [device()], lora=lora, peak=None, keeps_frozen=True)
    below = dataclasses.replace(tiny_shape, depth=tiny_shape.depth - 1)
    flops = training_flops(tiny_shape, batch.counts.behind(prefix), lora, keeps_frozen=True)
    flops += forward_flops(below, TokenCounts(prefix, 0, 21))
    assert meter.updates([batch], 1.0, prefix=prefix)["machine/update_tflops"] == pytest.approx(flops / 1e12)


def test_what_a_device_does_not_say_is_left_out(tiny_shape, make_groups):
    meter = Meter(tiny_shape, jax.devices(), lora=None, peak=None)
    assert meter.memory() == {}  # a CPU has none of its own
    assert "machine/mfu" not in meter.updates([make_groups([5], [[3]])], 1.0)


def test_memory_is_of_this_process_and_the_fullest_of_its_devices(tiny_shape):
    full = {"bytes_in_use": 3 << 30, "peak_bytes_in_use": 5 << 30}
    others = [device(1, bytes_in_use=9 << 30, peak_bytes_in_use=9 << 30), device(0, bytes_in_use=1 << 30)]
    found = Meter(tiny_shape, [device(**full), *others], lora=None, peak=None).memory()
    assert found == {"machine/memory_gib": 3.0, "machine/memory_peak_gib": 5.0}


def test_nothing_of_the_machine_is_repeatable():
    line = {"stage": "sft", "step": 1, "loss": 0.5, "seconds_update": 1.0, "programs": 2, "machine/mfu": 0.4}
    assert repeatable(line) == {"stage": "sft", "step": 1, "loss": 0.5}
