"""GRPO as pure functions: advantages over a group, the policy loss and its KL to the frozen reference.

Eqs. 4-6 of arXiv 2509.20616: maximise E[ratio * A] - beta * KL(policy || reference) with A = (r - mean r) / std r over
the group of responses to one prompt. The paper's analysis has no clipping; it is an option here.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from stgrpo.training.masked import length_mask, masked_sum

KL_ESTIMATORS = ("k1", "k2", "k3")
AGGREGATIONS = ("token_mean", "sequence_mean", "dr_grpo")
_LOG_RATIO_LIMIT = 20.0  # exp(20) is finite in float32 with room for a sum over a batch


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
    def form(self) -> str:
        """The sizes a program is compiled for, for people."""
        (B, P), (_, G, R) = self.prompt_BP.shape, self.response_BGR.shape
        return f"{B} prompts of {P} tokens, {G} responses of {R}"


jax.tree_util.register_dataclass(GroupBatch, [f.name for f in dataclasses.fields(GroupBatch)], [])


@dataclasses.dataclass(frozen=True)
class GrpoLoss:
    """What the loss is made of.

    Attributes:
      kl_coef: beta, the weight of the KL to the reference.
      kl_estimator: "k1" log(p/q), "k2" its square / 2, "k3" q/p - 1 - log(q/p) (http://joschu.net/blog/kl-approx.html),
        all over sampled tokens. k1 in a loss has no expected gradient on-policy: it measures, it holds nothing back.
      clip_low: the ratio is clipped from below at 1 - clip_low; None for no clipping (the paper).
      clip_high: and from above at 1 + clip_high.
      temperature: of sampling; log-probabilities are taken at the same.
    """

    kl_coef: float = 0.001
    kl_estimator: str = "k3"
    clip_low: float | None = None
    clip_high: float | None = None
    temperature: float = 1.0


def group_advantages(reward_BG: jax.Array, *, scale_by_std: bool = True, epsilon: float = 1e-6) -> jax.Array:
    """(r - mean) / std over each group (Eq. 5); without the division as in Dr. GRPO (arXiv 2503.20783).

    A group whose rewards are all equal has advantage exactly 0.
    """
    centred = reward_BG - jnp.mean(reward_BG, axis=-1, keepdims=True)
    spread = jnp.max(reward_BG, axis=-1, keepdims=True) - jnp.min(reward_BG, axis=-1, keepdims=True)
    centred = jnp.where(spread > 0, centred, 0.0)
    return centred / (jnp.std(reward_BG, axis=-1, keepdims=True) + epsilon) if scale_by_std else centred


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


def kl_penalty(logp: jax.Array, ref_logp: jax.Array, estimator: str) -> jax.Array:
    """Estimate of KL(policy || reference) from each sampled token; see `GrpoLoss.kl_estimator`."""
    log_ratio = jnp.clip(ref_logp - logp, -_LOG_RATIO_LIMIT, _LOG_RATIO_LIMIT)
    if estimator == "k1":
        return -log_ratio
    if estimator == "k2":
        return 0.5 * log_ratio**2
    if estimator == "k3":
        return jnp.expm1(log_ratio) - log_ratio
    raise ValueError(f"kl_estimator {estimator!r} is none of {KL_ESTIMATORS}")


def policy_loss(
    logp: jax.Array, entropy: jax.Array, terms: LossTerms, loss: GrpoLoss
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """The loss to minimise, as a sum over the tokens of this part of the batch, and sums to log.

    Args:
      logp: log-probabilities of the response tokens under the policy, differentiable, in any layout.
      entropy: of the policy at each token.
      terms: the rest, in the same layout; its weights carry the global denominator.
      loss: coefficients.

    Returns:
      The loss and a dict of sums over real tokens ("tokens" counts them).
    """
    old_logp = jax.lax.stop_gradient(logp) if terms.old_logp is None else terms.old_logp
    log_ratio = jnp.clip(logp - old_logp, -_LOG_RATIO_LIMIT, _LOG_RATIO_LIMIT)
    ratio = jnp.exp(log_ratio)
    gain, clipped = ratio * terms.adv, jnp.zeros_like(ratio)
    if loss.clip_low is not None or loss.clip_high is not None:
        low = 0.0 if loss.clip_low is None else 1.0 - loss.clip_low
        high = jnp.inf if loss.clip_high is None else 1.0 + loss.clip_high
        bounded = jnp.clip(ratio, low, high) * terms.adv
        clipped = (bounded < gain).astype(jnp.float32)
        gain = jnp.minimum(gain, bounded)
    if terms.correction is not None:
        gain *= terms.correction
    kl = kl_penalty(logp, terms.ref_logp, loss.kl_estimator)
    total = masked_sum(loss.kl_coef * kl - gain, terms.weight)
    mask = terms.mask
    sums = {
        "tokens": jnp.sum(mask),
        "kl": masked_sum(kl_penalty(logp, terms.ref_logp, "k3"), mask),
        "kl_k1": masked_sum(kl_penalty(logp, terms.ref_logp, "k1"), mask),
        "entropy": masked_sum(entropy, mask),
        "ratio": masked_sum(ratio, mask),
        "clip_fraction": masked_sum(clipped, mask),
    }
    return total, jax.lax.stop_gradient(sums)
