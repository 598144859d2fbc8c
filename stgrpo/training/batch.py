"""What an update is made from: prompts, each held once, with their G responses."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from stgrpo.training.masked import length_mask

AGGREGATIONS = ("token_mean", "sequence_mean", "dr_grpo")


@dataclasses.dataclass(frozen=True)
class LossTerms:
    """What the loss takes for each response token beside the policy itself, all of one shape whatever the layout.

    Attributes:
      weight: share in the loss, 0 for padding; see `loss_weights`.
      mask: 1 for a real response token.
      adv: advantage of its response.
      ref_logp: log-probability under the frozen reference.
      old_logp: under the policy that drew the responses; None where that is the current one, as it is when there is
        one update a rollout.
      correction: factors of the policy gradient that make up for a sampler that is not quite the old policy, see
        `training.mismatch`; None for none.
    """

    weight: jax.Array
    mask: jax.Array
    adv: jax.Array
    ref_logp: jax.Array
    old_logp: jax.Array | None = None
    correction: jax.Array | None = None


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
      old_logp_BGR: log-probabilities under the policy that drew the responses, or None to take the current policy's,
        which is the same thing when there is one update a rollout.
      correction_BGR: see `LossTerms.correction`.
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
    correction_BGR: jax.Array | None = None
    prompt_weight_BP: jax.Array | None = None

    @property
    def terms(self) -> LossTerms:
        """Of the responses, each [B, G, R]."""
        adv_BGR = self.adv_BG[..., None] * self.mask_BGR
        return LossTerms(
            self.weight_BGR, self.mask_BGR, adv_BGR, self.ref_logp_BGR, self.old_logp_BGR, self.correction_BGR
        )

    def with_terms(
        self, ref_logp: jax.Array, old_logp: jax.Array | None, correction: jax.Array | None = None
    ) -> "GroupBatch":
        """The batch with what `LossTerms` says of these, laid out like its terms."""
        return dataclasses.replace(self, ref_logp_BGR=ref_logp, old_logp_BGR=old_logp, correction_BGR=correction)

    @property
    def responses(self) -> np.ndarray:
        """The number of the response that each token of the terms is in."""
        B, G, R = self.response_BGR.shape
        return np.broadcast_to(np.arange(B * G).reshape(B, G, 1), (B, G, R))

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
