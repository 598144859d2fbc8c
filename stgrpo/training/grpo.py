"""GRPO as pure functions: advantages over a group, the policy loss and its KL to the frozen reference.

Eqs. 4-6 of arXiv 2509.20616: maximise E[ratio * A] - beta * KL(policy || reference) with A = (r - mean r) / std r over
the group of responses to one prompt. The paper's analysis has no clipping; it is an option here.
"""

import dataclasses

import jax
import jax.numpy as jnp

from stgrpo.training.masked import length_mask, masked_sum

KL_ESTIMATORS = ("k1", "k2", "k3")
AGGREGATIONS = ("token_mean", "sequence_mean", "dr_grpo")
_LOG_RATIO_LIMIT = 20.0  # exp(20) is finite in float32 with room for a sum over a batch


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
    prompt_weight_BP: jax.Array | None = None


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
    logp_BGR: jax.Array, entropy_BGR: jax.Array, batch: GroupBatch, loss: GrpoLoss
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """The loss to minimise, as a sum over the tokens of this part of the batch, and sums to log.

    Args:
      logp_BGR: log-probabilities of the responses under the policy, differentiable.
      entropy_BGR: entropies of the policy at each token.
      batch: the groups; its weights carry the global denominator.
      loss: coefficients.

    Returns:
      The loss and a dict of sums over real tokens ("tokens" counts them).
    """
    old_logp_BGR = jax.lax.stop_gradient(logp_BGR) if batch.old_logp_BGR is None else batch.old_logp_BGR
    log_ratio = jnp.clip(logp_BGR - old_logp_BGR, -_LOG_RATIO_LIMIT, _LOG_RATIO_LIMIT)
    ratio = jnp.exp(log_ratio)
    adv_BG1 = batch.adv_BG[..., None]
    gain, clipped = ratio * adv_BG1, jnp.zeros_like(ratio)
    if loss.clip_low is not None or loss.clip_high is not None:
        low = 0.0 if loss.clip_low is None else 1.0 - loss.clip_low
        high = jnp.inf if loss.clip_high is None else 1.0 + loss.clip_high
        bounded = jnp.clip(ratio, low, high) * adv_BG1
        clipped = (bounded < gain).astype(jnp.float32)
        gain = jnp.minimum(gain, bounded)
    kl = kl_penalty(logp_BGR, batch.ref_logp_BGR, loss.kl_estimator)
    total = masked_sum(loss.kl_coef * kl - gain, batch.weight_BGR)
    mask = batch.mask_BGR
    sums = {
        "tokens": jnp.sum(mask),
        "kl": masked_sum(kl_penalty(logp_BGR, batch.ref_logp_BGR, "k3"), mask),
        "kl_k1": masked_sum(kl_penalty(logp_BGR, batch.ref_logp_BGR, "k1"), mask),
        "entropy": masked_sum(entropy_BGR, mask),
        "ratio": masked_sum(ratio, mask),
        "clip_fraction": masked_sum(clipped, mask),
    }
    return total, jax.lax.stop_gradient(sums)
