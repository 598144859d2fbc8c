"""The largest batch that a stage gives to an update, as shapes: every prompt and response as long as its limit."""

import dataclasses

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jax.typing import DTypeLike
from ml_collections import ConfigDict

from stgrpo.data.padding import bucket
from stgrpo.models.sharding import batch_sharding
from stgrpo.rl.critic import has_critic
from stgrpo.rl.update import needs_old_logprobs
from stgrpo.training.batch import GroupBatch, LossTerms
from stgrpo.training.micro_batches import largest_batch, most_rows, row_unit
from stgrpo.training.packing import Batch, PackedBatch, row_count, target_count


def abstract_batch(config: ConfigDict, mesh: Mesh, stage: str = "grpo", *, width: int = 0) -> Batch:
    """The largest minibatch of a stage, as shapes with shardings.

    Args:
        config: of the run.
        mesh: devices that its rows are split over.
        stage: "sft" or "grpo".
        width: of the model, where SFT begins behind its frozen layers.
    """
    shapes = _Shapes(config, mesh, stage, width)
    return shapes.rows() if config[stage].row_tokens else shapes.groups()


class _Shapes:
    """Sizes of a batch and what of it there is: SFT's has one response a prompt, which nobody drew."""

    def __init__(self, config: ConfigDict, mesh: Mesh, stage: str, width: int):
        self._config, self._mesh, self._stage = config, mesh, stage
        self._groups, grpo = largest_batch(config, stage), stage == "grpo"
        self._drawn, self._several = grpo, grpo and needs_old_logprobs(config)
        self._prompts_too = not grpo and bool(config.sft.prompt_weight)
        self._valued = grpo and has_critic(config)
        self._width = 0 if grpo or not config.sft.keep_frozen else width

    def rows(self) -> PackedBatch[jax.ShapeDtypeStruct]:
        """Packed."""
        config, row = self._config, self._config[self._stage].row_tokens
        unit, longest = row_unit(config, self._stage, self._mesh), self._groups.longest
        G, R, a_row = self._groups.group, self._groups.response, max(1, row // longest)
        rows = row_count(most_rows(config, self._stage), unit), bucket(longest, smallest=row)
        predicted = longest - 1 if self._prompts_too else G * R
        targets = rows[0], target_count(a_row * predicted, rows[1])
        tokens, ids = self._array(*rows, dtype=jnp.int32), self._array(*targets, dtype=jnp.int32)
        return PackedBatch(
            token_XS=tokens,
            position_XS=tokens,
            segment_ids_XS=tokens,
            response_ids_XS=tokens if G > 1 else None,
            source_XM=ids,
            target_XM=ids,
            terms=self._terms(*targets),
        )

    def groups(self) -> GroupBatch[jax.ShapeDtypeStruct]:
        """A row each."""
        B, P, G, R = dataclasses.astuple(self._groups)
        array = self._array
        return GroupBatch(
            prompt_BP=array(B, P, dtype=jnp.int32),
            prompt_len_B=array(B, dtype=jnp.int32),
            response_BGR=array(B, G, R, dtype=jnp.int32),
            weight_BGR=array(B, G, R),
            mask_BGR=array(B, G, R),
            adv_BG=array(B, G),
            ref_logp_BGR=array(B, G, R),
            old_logp_BGR=array(B, G, R) if self._several else None,
            sampler_logp_BGR=array(B, G, R) if self._drawn else None,
            finished_BG=array(B, G) if self._drawn else None,
            prompt_weight_BP=array(B, P) if self._prompts_too else None,
            token_adv_BGR=array(B, G, R) if self._valued else None,
            value_BGR=array(B, G, R) if self._valued else None,
            returns_BGR=array(B, G, R) if self._valued else None,
            below_BSD=array(B, P + G * R, self._width, dtype=self._config.model.dtype) if self._width else None,
        )

    def _terms(self, *sizes: int) -> LossTerms[jax.ShapeDtypeStruct]:
        one = self._array(*sizes)
        return LossTerms(
            *(one,) * 4,
            response_id=self._array(*sizes, dtype=jnp.int32),
            length=one,
            finished=one,
            old_logp=one if self._several else None,
            sampler_logp=one if self._drawn else None,
            value=one if self._valued else None,
            returns=one if self._valued else None,
        )

    def _array(self, *sizes: int, dtype: DTypeLike = jnp.float32) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(sizes, dtype, sharding=batch_sharding(self._mesh))
