"""What the devices did in a step and what they hold: figures that differ from machine to machine and run to run."""

import dataclasses
from collections.abc import Iterable, Sequence

import jax

from stgrpo.models.flops import TokenCounts, forward_flops, training_flops, triangle
from stgrpo.models.lora import Lora
from stgrpo.models.peaks import peak_flops
from stgrpo.models.shapes import ModelShape
from stgrpo.training.batch import GroupBatch
from stgrpo.training.context import RunContext, lora_settings

PREFIX = "machine/"


class Meter:
    """Reads how fast a stage computes, in real tokens: what is padded is not counted.

    Args:
        shape: of the model.
        devices: of all processes.
        lora: the adapters that the stage trains, if it does.
        peak: operations a second that a device can do at most; None where that is not known.
        keeps_frozen: see `training_flops`.
    """

    def __init__(
        self,
        shape: ModelShape,
        devices: Sequence[jax.Device],
        *,
        lora: Lora | None,
        peak: float | None,
        keeps_frozen: bool = False,
    ):
        self._shape, self._devices, self._lora, self._peak = shape, list(devices), lora, peak
        self._keeps_frozen = keeps_frozen

    def updates(
        self, batches: Iterable[GroupBatch], seconds: float, *, passes: int = 1, prefix: int = 0
    ) -> dict[str, float]:
        """Of the updates of one step, a device.

        Args:
            batches: on the host, one an update.
            seconds: that the updates took.
            passes: times that each was taken.
            prefix: tokens before each batch, taken once, and through all layers.
        """
        batches = list(batches)
        counts = sum((batch.counts.behind(prefix) for batch in batches), TokenCounts(0, 0, 0))
        share = passes / seconds / len(self._devices)
        flops = training_flops(self._shape, counts, self._lora, keeps_frozen=self._keeps_frozen)
        if self._keeps_frozen and self._lora is not None:
            below = dataclasses.replace(self._shape, depth=self._shape.depth - self._lora.depth(self._shape))
            flops += len(batches) * forward_flops(below, TokenCounts(prefix, 0, triangle(prefix)))
        flops *= share
        found = {"update_tokens_per_second": counts.tokens * share, "update_tflops": flops * 1e-12}
        if self._peak:
            found["mfu"] = flops / self._peak
        return _named(found)

    def sampling(self, tokens: int, seconds: float) -> dict[str, float]:
        """Of the responses of one step, a device; for a sampler on these devices."""
        return _named({"sample_tokens_per_second": tokens / seconds / len(self._devices)})

    def memory(self) -> dict[str, float]:
        """GiB on the device of this process that has the most; nothing where devices do not say."""
        stats = [device.memory_stats() for device in self._devices if device.process_index == jax.process_index()]
        names = {"memory_gib": "bytes_in_use", "memory_peak_gib": "peak_bytes_in_use"}
        said = {name: [s[key] for s in stats if s and key in s] for name, key in names.items()}
        return _named({name: max(values) / 2**30 for name, values in said.items() if values})


def open_meter(setting: RunContext, stage: str, shape: ModelShape) -> Meter:
    """The meter of a training stage, for the devices of its mesh."""
    devices, config = list(setting.mesh.devices.flat), setting.config
    peak = peak_flops(devices[0].device_kind, config.model.dtype)
    keeps = stage == "sft" and config.sft.keep_frozen
    return Meter(shape, devices, lora=lora_settings(config, stage), peak=peak, keeps_frozen=keeps)


def _named(figures: dict[str, float]) -> dict[str, float]:
    return {f"{PREFIX}{name}": value for name, value in figures.items()}
