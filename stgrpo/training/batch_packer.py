"""Batches in the layout that a config asks for: groups, or packed rows."""

from collections.abc import Iterable

from jax.sharding import Mesh
from ml_collections import ConfigDict

from stgrpo.console import say
from stgrpo.training.batch import GroupBatch
from stgrpo.training.packing import Batch, pack


class BatchPacker:
    """Lays batches out as a config asks, groups or packed rows, and says which programs that needs compiled."""

    def __init__(self, stage: str, config: ConfigDict, mesh: Mesh):
        section = config[stage]
        self._stage, self._row = stage, section.row_tokens
        self._unit = mesh.shape["data"] * mesh.shape["fsdp"] * section.micro_batches
        self._forms: set[str] = set()

    def __call__(self, batch: GroupBatch) -> Batch:
        """The batch as the update takes it; a form that was not met before is named."""
        laid: Batch = pack(batch, self._row, unit=self._unit) if self._row else batch
        if laid.shape_text not in self._forms:
            self._forms.add(laid.shape_text)
            say(f"{self._stage}: program {len(self._forms)}, {laid.shape_text}")
        return laid


def padding(batches: Iterable[Batch]) -> dict[str, float]:
    """Tokens that the model computes, and the share of them that is none."""
    size, tokens = map(sum, zip(*((b.size, b.tokens) for b in batches), strict=True))
    return {"tokens_processed": size, "padding": 1.0 - tokens / size}
