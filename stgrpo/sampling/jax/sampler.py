"""The embedded sampler: a prompt's G responses share its keys and values; slots that are free get the next prompts."""

import contextlib
import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from stgrpo.data.padding import pad_rows
from stgrpo.models.sharding import BATCH_AXES, batch_sharding
from stgrpo.models.transformer import Transformer
from stgrpo.react.policy import SamplingParams
from stgrpo.sampling.base import Samples
from stgrpo.sampling.jax.decode import DecodeShape, NewPrompts, Slots, decode, decode_weights, empty_slots, refill
from stgrpo.sampling.jax.slots import Filling, SlotSchedule, size_of, slot_schedule

Group = tuple[list[list[int]], list[list[float]], list[str]]


class JaxSampler:
    """Draws from a `Transformer` on the devices it lies on.

    Two kinds of programs are compiled, for each group size and `SamplingParams` that is asked for: a decode loop for
    each number of slots a device (1, 2, 3, 4, 6, 8, 12, ...) and longest prompt (32, 48, 64, 96, ...), and a prefill
    for each number of prompts a device (1, 2, 4, 8, ...) and their length (four an octave) besides. `programs` names
    those met.
    """

    def __init__(
        self,
        model: Transformer,
        stop_ids: tuple[int, ...],
        *,
        dtype: jnp.dtype = jnp.float32,
        batch: int = 256,
        mesh: Mesh | None = None,
        log: Callable[[str], None] = lambda line: None,
    ):
        """Wraps a model.

        Args:
          model: the policy.
          stop_ids: tokens that end a response.
          dtype: of the computation.
          batch: the most responses that are decoded at one time; further prompts wait for a free slot.
          mesh: slots are split over its data and fsdp axes; None for one device.
          log: called with the name of each program that is compiled.
        """
        self._model, self._version = model, 0
        self._stop_ids, self._dtype, self._batch, self.mesh = stop_ids, jnp.dtype(dtype), batch, mesh
        self._shards = math.prod(mesh.shape[a] for a in BATCH_AXES) if mesh else 1
        self._log = log
        self.programs: list[str] = []

    def update_weights(self, params: Transformer, version: int) -> None:
        """The trainer's own arrays are used; a copy for decoding lives as long as a call of `generate`."""
        self._model, self._version = params, version

    def generate(
        self, prompts: Sequence[Sequence[int]], group_size: int, params: SamplingParams, seeds: Sequence[int]
    ) -> Samples:
        """See `Sampler.generate`."""
        if not prompts:
            return Samples([], [], [], self._version)
        lengths = [len(prompt) for prompt in prompts]
        shape = DecodeShape(group_size, size_of(max(lengths), 32), self._stop_ids, params, self._dtype, self._shards)
        schedule = slot_schedule(lengths, group_size, batch=self._batch, shards=self._shards)
        with jax.set_mesh(self.mesh) if self.mesh else contextlib.nullcontext():
            groups = self._run(schedule, prompts, seeds, shape)
        tokens, logprobs, finish = zip(*(groups[i] for i in range(len(prompts))), strict=True)
        return Samples(list(tokens), list(logprobs), list(finish), self._version)

    def _run(
        self, schedule: SlotSchedule, prompts: Sequence[Sequence[int]], seeds: Sequence[int], shape: DecodeShape
    ) -> dict[int, Group]:
        groups: dict[int, Group] = {}
        count = len(schedule.prompt_S)
        slots, weights = empty_slots(self._model.shape, count, shape), decode_weights(self._model, self._dtype)
        while not schedule.finished:
            for filling in schedule.fillings():
                slots = self._refill(slots, filling, self._new_prompts(filling, prompts, seeds), shape)
            self._note(f"decode {count} x {shape.group} responses", shape)
            slots = decode(weights, slots, np.int32(schedule.wanted), shape)
            groups |= _collect(slots, schedule)
        return groups

    def _new_prompts(self, filling: Filling, prompts: Sequence[Sequence[int]], seeds: Sequence[int]) -> NewPrompts:
        rows = filling.prompts_B.tolist()
        prompt_BP, length_B = pad_rows([prompts[i] if i >= 0 else () for i in rows], length=filling.length)
        seed_B = np.array([seeds[i] if i >= 0 else 0 for i in rows], np.uint32)
        new = NewPrompts(prompt_BP, np.maximum(length_B, 1), seed_B, filling.source_S)
        return jax.device_put(new, batch_sharding(self.mesh)) if self.mesh else new

    def _refill(self, slots: Slots, filling: Filling, new: NewPrompts, shape: DecodeShape) -> Slots:
        count, length = new.prompt_BP.shape
        self._note(f"prefill {count} x {length} tokens into {len(filling.source_S)} slots", shape)
        return refill(self._model, slots, new, shape)

    def _note(self, what: str, shape: DecodeShape) -> None:
        p = shape.params
        draws = f"temperature {p.temperature:g}, top-p {p.top_p:g}, top-k {p.top_k}"
        name = f"{what} ({shape.prompt} + {shape.group} x {p.max_tokens} tokens a slot, {draws})"
        if name not in self.programs:
            self.programs.append(name)
            self._log(f"sampler: program {len(self.programs)}, {name}")


def _collect(slots: Slots, schedule: SlotSchedule) -> dict[int, Group]:
    """What the slots whose responses have all ended hold, by prompt; they are free then."""
    fields = (slots.done_SG, slots.start_S, slots.length_SG, slots.stopped_SG, slots.tokens_SGR, slots.logp_SGR)
    done_SG, start_S, length_SG, stopped_SG, tokens_SGR, logp_SGR = jax.device_get(fields)
    return {
        prompt: (
            _rows(tokens_SGR[slot], start_S[slot], length_SG[slot]),
            _rows(logp_SGR[slot], start_S[slot], length_SG[slot]),
            ["stop" if stopped else "length" for stopped in stopped_SG[slot]],
        )
        for slot, prompt in schedule.release(done_SG.all(axis=1))
    }


def _rows(x_GR: np.ndarray, start: int, length_G: np.ndarray) -> list[list]:
    """Each response from its first token on; column 0 is where the clock was a multiple of R."""
    return [row[:n].tolist() for row, n in zip(np.roll(x_GR, -int(start), axis=1), length_G, strict=True)]
