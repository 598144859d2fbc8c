"""What an update is made from: prompts, each held once, with their G responses."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from stgrpo.training.masked import length_mask

AGGREGATIONS = ("token_mean", "sequence_mean", "dr_grpo")


@dataclasses.dataclass(frozen=True)
class LossTerms:
    """What a batch says of each of its response tokens, all of one shape whatever the layout: [B, G, R] or rows [X, M].

    Attributes:
        weight: share in the loss, 0 for padding; see `loss_weights`.
        mask: 1 for a real response token.
        adv: advantage of its response.
        ref_logp: log-probability under the frozen reference.
        response_id: number of its response in the group or row (the first axis), from 0; see `masked.response_sum`.
        length: tokens of its response.
        finished: 1 where its response ended by itself, 0 where the limit cut it.
        old_logp: log-probability by the trainer, under the policy before the first update of the rollout; None where
            that is the current one, as it is when there is one update a rollout.
        sampler_logp: by the engine that drew the response, when it drew it; None where nothing was drawn.
    """

    weight: jax.Array
    mask: jax.Array
    adv: jax.Array
    ref_logp: jax.Array
    response_id: jax.Array
    length: jax.Array
    finished: jax.Array
    old_logp: jax.Array | None = None
    sampler_logp: jax.Array | None = None


jax.tree_util.register_dataclass(LossTerms, [f.name for f in dataclasses.fields(LossTerms)], [])


@dataclasses.dataclass(frozen=True)
class GroupBatch:
    """Prompts, each held once, with their G responses.

    Attributes:
        prompt_BP: token ids, padded on the right.
        prompt_len_B: real lengths.
        response_BGR: token ids, padded on the right.
        weight_BGR: share of each token in the loss, 0 for padding; see `loss_weights`.
        mask_BGR: 1 for each real response token.
        adv_BG: advantages.
        ref_logp_BGR: log-probabilities under the frozen reference.
        old_logp_BGR: see `LossTerms.old_logp`.
        sampler_logp_BGR: see `LossTerms.sampler_logp`.
        finished_BG: 1 for each response that ended by itself; None where all did.
        prompt_weight_BP: share of each prompt token in the loss of SFT, or None to leave the prompt out.
    """

    prompt_BP: jax.Array
    prompt_len_B: jax.Array
    response_BGR: jax.Array
    weight_BGR: jax.Array
    mask_BGR: jax.Array
    adv_BG: jax.Array
    ref_logp_BGR: jax.Array
    old_logp_BGR: jax.Array | None = None
    sampler_logp_BGR: jax.Array | None = None
    finished_BG: jax.Array | None = None
    prompt_weight_BP: jax.Array | None = None

    @property
    def terms(self) -> LossTerms:
        """Of the responses, each [B, G, R]."""
        mask_BGR, xp = self.mask_BGR, np if isinstance(self.mask_BGR, np.ndarray) else jnp
        finished_BGR = mask_BGR if self.finished_BG is None else self.finished_BG[..., None] * mask_BGR
        return LossTerms(
            weight=self.weight_BGR,
            mask=mask_BGR,
            adv=self.adv_BG[..., None] * mask_BGR,
            ref_logp=self.ref_logp_BGR,
            response_id=xp.broadcast_to(xp.arange(mask_BGR.shape[1], dtype=xp.int32)[:, None], mask_BGR.shape),
            length=mask_BGR.sum(-1, keepdims=True) * mask_BGR,
            finished=finished_BGR,
            old_logp=self.old_logp_BGR,
            sampler_logp=self.sampler_logp_BGR,
        )

    def with_logprobs(self, ref_logp: jax.Array, old_logp: jax.Array | None) -> "GroupBatch":
        """The batch with these log-probabilities, laid out like its terms."""
        return dataclasses.replace(self, ref_logp_BGR=ref_logp, old_logp_BGR=old_logp)

    @property
    def tokens(self) -> int:
        """Real tokens, each prompt counted once."""
        return int(self.prompt_len_B.sum() + self.mask_BGR.sum())

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
