"""The embedded sampler: a prompt's G responses share its keys and values; slots that are free get the next prompts."""

import contextlib
import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from stgrpo.data.padding import bucket, pad_rows
from stgrpo.errors import RunError
from stgrpo.models.attention.xla import KeyValues
from stgrpo.models.random import checked_seed
from stgrpo.models.sharding import BATCH_AXES, batch_sharding
from stgrpo.models.transformer import Transformer
from stgrpo.react.policy import SamplingParams
from stgrpo.sampling.base import Samples
from stgrpo.sampling.jax.decode import (
    DecodeShape,
    NewPrompts,
    Prefilled,
    Slots,
    decode,
    decode_weights,
    empty_slots,
    prefill_prompts,
    read_prefix,
)
from stgrpo.sampling.jax.slots import Filling, SamplerSizes, SlotSchedule, prefix_length

Group = tuple[list[list[int]], list[list[float]], list[str]]


class JaxSampler:
    """Draws from a `Transformer` on the devices it lies on.

    Two kinds of programs are compiled, prefills and decode loops, for the few sizes that `SamplerSizes` has: these
    follow from limits, not from what is asked. What all prompts begin with is read once a call of `generate`, by a
    program of its own, and prefills read what comes behind it.
    """

    def __init__(
        self,
        model: Transformer,
        stop_ids: tuple[int, ...],
        *,
        dtype: jnp.dtype = jnp.float32,
        batch: int = 256,
        limit: int = 0,
        largest: Mapping[int, int] | None = None,
        prefix: Sequence[int] = (),
        mesh: Mesh | None = None,
        log: Callable[[str], None] = lambda name: None,
    ):
        """Wraps a model.

        Args:
            model: the policy.
            stop_ids: tokens that end a response.
            dtype: of the computation.
            batch: the most responses that are decoded at one time; further prompts wait for a free slot.
            limit: the longest prompt; 0 for the longest of each call, which compiles programs for each.
            largest: prompts of the largest call by group size, see `SamplerSizes`.
            prefix: tokens that prompts begin with; one that does not is drawn from all the same, with those that are
                prefilled beside it read whole. Only XLA's attention sees what was read before a row.
            mesh: slots are split over its data and fsdp axes; None for one device.
            log: called with the name of a program before each time it runs.
        """
        self._model, self._version = model, 0
        self._stop_ids, self.dtype, self.mesh, self._log = stop_ids, jnp.dtype(dtype), mesh, log
        self._batch, self._limit, self._largest = batch, limit, dict(largest or {})
        self._prefix = tuple(prefix[: prefix_length(len(prefix), limit)]) if model.core.name == "xla" else ()

    def update_weights(self, params: Transformer, version: int) -> None:
        """The trainer's own arrays are used; a copy for decoding lives as long as a call of `generate`."""
        self._model, self._version = params, version

    def generate(
        self, prompts: Sequence[Sequence[int]], group_size: int, params: SamplingParams, seeds: Sequence[int]
    ) -> Samples:
        """See `Sampler.generate`.

        Raises:
            RunError: the policy's logits are not finite.
            ValueError: a seed or a prompt is over its limit.
        """
        seeds = list(map(checked_seed, seeds))
        if not prompts:
            return Samples([], [], [], self._version)
        lengths = [len(prompt) for prompt in prompts]
        sizes = self.sizes(max(lengths))
        slots, room = sizes.slots(len(prompts), max(lengths), group_size)
        shape = DecodeShape(group_size, room, self._stop_ids, params, self.dtype, sizes.shards)
        call = _Call(prompts, seeds, SlotSchedule(lengths, slots, sizes), sizes, shape)
        with jax.set_mesh(self.mesh) if self.mesh else contextlib.nullcontext():
            groups = self._run(call)
        tokens, logprobs, finish = zip(*(groups[i] for i in range(len(prompts))), strict=True)
        return Samples(list(tokens), list(logprobs), list(finish), self._version)

    def sizes(self, longest: int) -> SamplerSizes:
        """Of the programs for a call.

        Raises:
            ValueError: its longest prompt is longer than the limit.
        """
        if self._limit and longest > self._limit:
            raise ValueError(f"a prompt of {longest} tokens is longer than limit={self._limit}: raise the limit")
        shards = math.prod(self.mesh.shape[a] for a in BATCH_AXES) if self.mesh else 1
        return SamplerSizes(self._limit or bucket(longest, smallest=32), self._batch, shards, self._largest)

    def _run(self, call: "_Call") -> dict[int, Group]:
        groups: dict[int, Group] = {}
        shape, schedule = call.shape, call.schedule
        count = len(schedule.prompt_S)
        slots, weights = empty_slots(self._model.shape, count, shape), decode_weights(self._model, self.dtype)
        before = self._read_prefix(call)
        while not schedule.finished:
            *first, last = schedule.fillings()
            for filling in first:
                slots = decode(weights, slots, self._prefill(filling, call, before), np.int32(0), shape)
            new = self._prefill(last, call, before)
            self._log(_decode_name(count, shape))
            slots = decode(weights, slots, new, np.int32(schedule.wanted), shape)
            groups |= self._checked(_collect(slots, schedule), call)
        return groups

    def _checked(self, groups: dict[int, Group], call: "_Call") -> dict[int, Group]:
        for prompt, (_, logprobs, _) in groups.items():
            if not np.isfinite(np.concatenate(logprobs)).all():
                raise RunError(
                    f"a prompt of {len(call.prompts[prompt])} tokens gets logits that are not finite from the policy "
                    f"of step {self._version}: its weights are none, or too large for {self.dtype}"
                )
        return groups

    def _read_prefix(self, call: "_Call") -> KeyValues | None:
        """Keys and values of what prompts begin with; None where none of the call does."""
        if not self._prefix or not any(map(self._is_behind, call.prompts)):
            return None
        self._log(f"prefill of {len(self._prefix)} tokens that all prompts begin with")
        return read_prefix(self._model, np.array(self._prefix, np.int32), self.dtype)

    def _is_behind(self, prompt: Sequence[int]) -> bool:
        """Whether a prompt begins with the prefix and has a token of its own, which the response is predicted from."""
        skip = len(self._prefix)
        return len(prompt) > skip and tuple(prompt[:skip]) == self._prefix

    def _prefill(self, filling: Filling, call: "_Call", before: KeyValues | None) -> Prefilled:
        rows = filling.prompts_B.tolist()
        if not all(self._is_behind(call.prompts[i]) for i in rows if i >= 0):
            before = None
        skip = len(self._prefix) if before else 0
        own = [call.prompts[i][skip:] if i >= 0 else () for i in rows]
        prompt_BP, length_B = pad_rows(own, length=filling.length - skip)
        seed_B = np.array([call.seeds[i] if i >= 0 else 0 for i in rows], np.uint32)
        new = NewPrompts[np.ndarray](prompt_BP, skip + np.maximum(length_B, 1), seed_B, filling.slot_B)
        behind = f" behind {skip}" if skip else ""
        self._log(f"prefill of {len(rows)} prompts of {filling.length - skip} tokens{behind}")
        placed = jax.device_put(new, batch_sharding(self.mesh)) if self.mesh else new
        return prefill_prompts(self._model, placed, call.sizes.room, self.dtype, before)


@dataclasses.dataclass(frozen=True)
class _Call:
    """What is drawn, and in what shapes."""

    prompts: Sequence[Sequence[int]]
    seeds: Sequence[int]
    schedule: SlotSchedule
    sizes: SamplerSizes
    shape: DecodeShape


def _decode_name(slots: int, shape: DecodeShape) -> str:
    p = shape.params
    draws = f"temperature {p.temperature:g}, top-p {p.top_p:g}, top-k {p.top_k}"
    return f"decode loop of {slots} slots of {shape.prompt} + {shape.group} x {p.max_tokens} tokens, {draws}"


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


def _rows(x_GR: np.ndarray, start: np.integer, length_G: np.ndarray) -> list[list]:
    """Each response from its first token on; column 0 is where the clock was a multiple of R."""
    return [row[:n].tolist() for row, n in zip(np.roll(x_GR, -int(start), axis=1), length_G, strict=True)]
