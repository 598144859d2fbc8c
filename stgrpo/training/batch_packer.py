"""Batches in the layout that a config asks for: groups, or packed rows."""

import dataclasses
from collections.abc import Iterable
from typing import TypeVar

import jax
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from stgrpo.config.training import plays_episodes
from stgrpo.console import ProgramLog
from stgrpo.data.padding import bucket
from stgrpo.training.batch import GroupBatch
from stgrpo.training.micro_batches import row_unit
from stgrpo.training.packing import Batch, pack

B = TypeVar("B", bound=Batch)


class BatchPacker:
    """Lays batches out as a config asks, groups or packed rows, and logs which programs that needs compiled."""

    def __init__(self, stage: str, config: ConfigDict, mesh: Mesh, programs: ProgramLog):
        section = config[stage]
        self._row, self._programs = section.row_tokens, programs
        self._is_ragged = stage == "grpo" and plays_episodes(config)  # any number of prompts
        self._unit = row_unit(config, stage, mesh)
        critic = ("values", "update of the critic") if stage == "grpo" and config.grpo.baseline == "critic" else ()
        self._kinds = ("update",) if stage == "sft" else ("log-probabilities", *critic, "update")

    def __call__(self, batch: GroupBatch) -> Batch:
        """The batch as the programs of the stage take it."""
        laid: Batch = pack(batch, self._row, unit=self._unit) if self._row else batch
        if self._is_ragged:
            parts = -(-len(jax.tree.leaves(laid)[0]) // self._unit)
            laid = filled_up(laid, bucket(parts, smallest=1) * self._unit)
        for kind in self._kinds:
            self._programs.met(f"{kind} of {laid.shape_text}")
        return laid


def filled_up(batch: B, rows: int) -> B:
    """A batch on the host with so many rows, or groups; what comes after its own is a token at most, and no answer."""
    more = rows - len(jax.tree.leaves(batch)[0])
    wide = jax.tree.map(lambda x: np.concatenate([x, np.zeros((more, *x.shape[1:]), x.dtype)]), batch)
    if isinstance(wide, GroupBatch):
        wide = dataclasses.replace(wide, prompt_len_B=np.maximum(wide.prompt_len_B, 1))
    return wide


def padding(batches: Iterable[Batch]) -> dict[str, float]:
    """Tokens that the model computes, and the share of them that is none."""
    batches = list(batches)
    size, tokens = sum(batch.size for batch in batches), sum(batch.tokens for batch in batches)
    return {"tokens_processed": size, "padding": 1.0 - tokens / size}
