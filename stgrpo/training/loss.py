"""GRPO as pure functions: advantages over a group, the policy loss and its KL to the frozen reference.

Eqs. 4-6 of arXiv 2509.20616: maximise E[ratio * A] - beta * KL(policy || reference) with A = (r - mean r) / std r over
the group of responses to one prompt. The paper's analysis has no clipping; it is an option here.
"""

import dataclasses

import jax
import jax.numpy as jnp

from stgrpo.training.batch import LossTerms
from stgrpo.training.masked import masked_sum

KL_ESTIMATORS = ("k1", "k2", "k3")
_LOG_RATIO_LIMIT = 20.0  # exp(20) is finite in float32 with room for a sum over a batch


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
