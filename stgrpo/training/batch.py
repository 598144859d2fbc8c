"""What an update is made from: prompts, each held once, with their G responses.

Batches are made on the host (`GroupBatch[np.ndarray]`) and used on devices (`GroupBatch[jax.Array]`); a program is
compiled ahead for the shapes of one (`GroupBatch[jax.ShapeDtypeStruct]`).
"""

import dataclasses
from typing import Any, Generic, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from stgrpo.models.flops import TokenCounts, group_counts
from stgrpo.models.grouped import GroupRows
from stgrpo.training.masked import length_mask

A = TypeVar("A", bound=jax.Array | np.ndarray | jax.ShapeDtypeStruct)

AGGREGATIONS = ("token_mean", "sequence_mean", "dr_grpo")


@dataclasses.dataclass(frozen=True)
class LossTerms(Generic[A]):
    """What a batch says of each of its response tokens, all of one shape whatever the layout: [B, G, R] or rows [X, M].

    Attributes:
        weight: share in the loss, 0 for padding; see `loss_weights`.
        mask: 1 for a real response token.
        adv: advantage of its response; its own, where a critic tells tokens apart.
        ref_logp: log-probability under the frozen reference.
        response_id: number of its response in the group or row (the first axis), from 0; see `masked.response_sum`.
        length: tokens of its response.
        finished: 1 where its response ended by itself, 0 where the limit cut it.
        old_logp: log-probability by the trainer, under the policy before the first update of the rollout; None where
            that is the current one, as it is when there is one update a rollout.
        sampler_logp: by the engine that drew the response, when it drew it; None where nothing was drawn.
        value: what the critic expected before the token, when the rollout came; None without a critic.
        returns: what it should have expected: what came after; None likewise.
    """

    weight: A
    mask: A
    adv: A
    ref_logp: A
    response_id: A
    length: A
    finished: A
    old_logp: A | None = None
    sampler_logp: A | None = None
    value: A | None = None
    returns: A | None = None


jax.tree_util.register_dataclass(LossTerms, [f.name for f in dataclasses.fields(LossTerms)], [])


@dataclasses.dataclass(frozen=True)
class GroupBatch(Generic[A]):
    """Prompts, each held once, with their G responses.

    Attributes:
        prompt_BP: token ids, padded on the right.
        prompt_len_B: real lengths.
        response_BGR: token ids, padded on the right.
        weight_BGR: share of each token in the loss, 0 for padding; see `loss_weights`.
        mask_BGR: 1 for each real response token.
        adv_BG: advantages; the rewards themselves, where a critic's values are still to be taken off.
        ref_logp_BGR: log-probabilities under the frozen reference.
        old_logp_BGR: see `LossTerms.old_logp`.
        sampler_logp_BGR: see `LossTerms.sampler_logp`.
        finished_BG: 1 for each response that ended by itself; None where all did.
        prompt_weight_BP: share of each prompt token in the loss of SFT, or None to leave the prompt out.
        token_adv_BGR: advantages of the tokens, in place of those of their responses; None where these are alike.
        value_BGR: see `LossTerms.value`.
        returns_BGR: see `LossTerms.returns`.
        below_BSD: see `GroupRows.below_BSD`.
    """

    prompt_BP: A
    prompt_len_B: A
    response_BGR: A
    weight_BGR: A
    mask_BGR: A
    adv_BG: A
    ref_logp_BGR: A
    old_logp_BGR: A | None = None
    sampler_logp_BGR: A | None = None
    finished_BG: A | None = None
    prompt_weight_BP: A | None = None
    token_adv_BGR: A | None = None
    value_BGR: A | None = None
    returns_BGR: A | None = None
    below_BSD: A | None = None

    @property
    def rows(self: "GroupBatch[jax.Array]") -> GroupRows:
        """What goes through the model."""
        return GroupRows(self.prompt_BP, self.prompt_len_B, self.response_BGR, self.below_BSD)

    @property
    def terms(self) -> LossTerms[A]:
        """Of the responses, each [B, G, R]."""
        return _terms(self)

    def with_logprobs(self, ref_logp: A, old_logp: A | None) -> "GroupBatch[A]":
        """The batch with these log-probabilities, laid out like its terms."""
        return dataclasses.replace(self, ref_logp_BGR=ref_logp, old_logp_BGR=old_logp)

    def with_values(self, *, value: A, adv: A, returns: A) -> "GroupBatch[A]":
        """The batch with a critic's values and what was counted from them, laid out like its terms."""
        return dataclasses.replace(self, value_BGR=value, token_adv_BGR=adv, returns_BGR=returns)

    @property
    def tokens(self: "GroupBatch[np.ndarray] | GroupBatch[jax.Array]") -> int:
        """Real tokens, each prompt counted once."""
        return int(self.prompt_len_B.sum() + self.mask_BGR.sum())

    @property
    def counts(self: "GroupBatch[np.ndarray]") -> TokenCounts:
        """Real tokens, of these the predicted ones, and what each sees: its prompt, and its own response up to it."""
        found = group_counts(self.prompt_len_B, self.mask_BGR.sum(-1))
        of_prompts = 0 if self.prompt_weight_BP is None else int((self.prompt_len_B - 1).sum())
        return dataclasses.replace(found, predicted=found.predicted + of_prompts)

    @property
    def size(self) -> int:
        """Tokens that the model computes, padding included."""
        return self.prompt_BP.size + self.response_BGR.size

    @property
    def shape_text(self) -> str:
        """The sizes a program is compiled for, for people."""
        (B, P), (_, G, R) = self.prompt_BP.shape, self.response_BGR.shape
        return f"{B} prompts of {P} tokens, {G} responses of {R}"


jax.tree_util.register_dataclass(GroupBatch, [f.name for f in dataclasses.fields(GroupBatch)], [])


def _terms(batch: GroupBatch[Any]) -> LossTerms[Any]:
    """Of arrays of either kind, by what both can: NumPy's stay on the host."""
    mask_BGR, xp = batch.mask_BGR, np if isinstance(batch.mask_BGR, np.ndarray) else jnp
    finished_BGR = mask_BGR if batch.finished_BG is None else batch.finished_BG[..., None] * mask_BGR
    return LossTerms(
        weight=batch.weight_BGR,
        mask=mask_BGR,
        adv=batch.adv_BG[..., None] * mask_BGR if batch.token_adv_BGR is None else batch.token_adv_BGR,
        ref_logp=batch.ref_logp_BGR,
        response_id=xp.broadcast_to(xp.arange(mask_BGR.shape[1], dtype=xp.int32)[:, None], mask_BGR.shape),
        length=mask_BGR.sum(-1, keepdims=True) * mask_BGR,
        finished=finished_BGR,
        old_logp=batch.old_logp_BGR,
        sampler_logp=batch.sampler_logp_BGR,
        value=batch.value_BGR,
        returns=batch.returns_BGR,
    )


def loss_weights(length: jax.Array, size: int, aggregation: str, *, limit: int = 0) -> jax.Array:
    """The share of each token in the loss, over the whole batch: weights sum to 1 ("dr_grpo": to at most 1).

    The denominator is in the weights, so a sum over any split of the batch, in micro-batches or over devices, adds up
    to the same loss.

    Args:
        length: [..., ] real response lengths of the whole batch; 0 for a row that is padding.
        size: R, the padded length.
        aggregation: "token_mean" (every token the same), "sequence_mean" (every response the same, its tokens sharing),
            "dr_grpo" (every token 1 / (responses * limit), arXiv 2503.20783).
        limit: the longest a response may be, Dr. GRPO's constant; 0 for `size`.

    Returns:
        [..., R] float32.
    """
    mask = length_mask(length, size)
    responses = jnp.maximum(jnp.sum(length > 0), 1)
    if aggregation == "token_mean":
        return mask / jnp.maximum(jnp.sum(mask), 1.0)
    if aggregation == "sequence_mean":
        return mask / jnp.maximum(length, 1)[..., None] / responses
    if aggregation == "dr_grpo":
        return mask / (responses * (limit or size))
    raise ValueError(f"aggregation {aggregation!r} is none of {AGGREGATIONS}")
