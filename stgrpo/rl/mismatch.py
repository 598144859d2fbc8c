"""How far the sampler's probabilities are from the trainer's, and truncated importance sampling against it.

An engine computes with other kernels, other shapes and perhaps other dtypes than the trainer, and with max_staleness
its weights are older: its responses come from a distribution mu that is not quite the policy pi_old from which an
update starts. This holds for the embedded sampler as for any other: the same code measures all of them, within the
update. Truncated importance sampling (Ionides 2008) multiplies the policy gradient by min(pi_old / mu, cap), of each
token or of each response.
"""

import dataclasses
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np

from stgrpo.training.loss import LossInputs, Sums, token_sums
from stgrpo.training.masked import response_sum

CORRECTIONS = ("none", "token", "sequence")
DENOMINATORS = ("trainer", "sampler")
_LOG_LIMIT = 20.0  # exp(20) is finite in float32
_MOMENTS = ("x", "y", "xx", "yy", "xy")
_ROUNDING = 1e-6  # of a second moment in float32

LossOfInputs = Callable[[LossInputs], tuple[jax.Array, Sums]]


@dataclasses.dataclass(frozen=True)
class Mismatch:
    """What is done about it.

    Attributes:
        correction: "none", or truncated importance sampling by "token" or "sequence".
        cap: its largest weight.
        denominator: of the ratio in the loss: pi_old by the "trainer", or mu by the "sampler".
    """

    correction: str = "none"
    cap: float = 2.0
    denominator: str = "trainer"


def measured(loss: LossOfInputs, mismatch: Mismatch) -> LossOfInputs:
    """A loss that also measures the mismatch of a batch with a sampler's log-probabilities, and corrects for it."""

    def loss_and_mismatch(inputs: LossInputs) -> tuple[jax.Array, Sums]:
        if inputs.sampler_logp is None:
            return loss(inputs)
        log_ratio, figures = inputs.start_logp - inputs.sampler_logp, mismatch_sums(inputs, inputs.start_logp)
        if mismatch.correction != "none":
            weights = importance_weights(log_ratio, inputs, kind=mismatch.correction, cap=mismatch.cap)
            inputs = dataclasses.replace(inputs, correction=weights)
            capped = (weights >= mismatch.cap).astype(jnp.float32)
            figures |= token_sums(inputs, correction_mean=weights, correction_capped=capped)
        if mismatch.denominator == "sampler":
            inputs = dataclasses.replace(inputs, old_logp=inputs.sampler_logp)
        total, sums = loss(inputs)
        return total, figures | sums

    return loss_and_mismatch


def mismatch_sums(inputs: LossInputs, old_logp: jax.Array) -> Sums:
    """Sums over real tokens of |difference| and KL(mu || pi_old), the largest difference, moments for Pearson's r.

    Args:
        inputs: with the sampler's log-probabilities.
        old_logp: by the trainer, under the policy that the update starts from.
    """
    x, y = old_logp, inputs.sampler_logp
    if y is None:
        raise ValueError("without a sampler's log-probabilities there is no mismatch")
    log_ratio = jnp.clip(x - y, -_LOG_LIMIT, _LOG_LIMIT)
    moments = dict(zip(_MOMENTS, (x, y, x * x, y * y, x * y), strict=True))
    largest = jnp.max(jnp.where(inputs.mask > 0, jnp.abs(x - y), 0.0))
    return token_sums(
        inputs,
        mismatch_mean=jnp.abs(x - y),
        mismatch_kl=jnp.expm1(log_ratio) - log_ratio,
        **{f"mismatch_{name}": moment for name, moment in moments.items()},
    ) | {"mismatch_max": jax.lax.stop_gradient(largest)}


def mismatch_metrics(means: Mapping[str, float]) -> dict[str, float]:
    """What is logged: the moments among means over tokens become Pearson's r of the two log-probabilities."""
    kept = {name: value for name, value in means.items() if name not in {f"mismatch_{m}" for m in _MOMENTS}}
    if len(kept) == len(means):
        return kept
    x, y, xx, yy, xy = (means[f"mismatch_{name}"] for name in _MOMENTS)
    spread = np.sqrt(max(xx - x * x, 0.0) * max(yy - y * y, 0.0))
    if spread > _ROUNDING * max(xx, yy):
        return kept | {"mismatch_pearson": float(np.clip((xy - x * y) / spread, -1.0, 1.0))}
    return kept | {"mismatch_pearson": float(means["mismatch_max"] == 0.0)}


def importance_weights(log_ratio: jax.Array, inputs: LossInputs, *, kind: str, cap: float) -> jax.Array:
    """min(pi_old / mu, cap) of each token ("token"), or of the response that it is in ("sequence"); 0 for padding.

    Args:
        log_ratio: log(pi_old / mu) of each token.
        inputs: tell real tokens and their responses.
        kind: "token" or "sequence".
        cap: the largest weight.
    """
    if kind == "sequence":
        log_ratio = response_sum(log_ratio, inputs.mask, inputs.response_id)
    elif kind != "token":
        raise ValueError(f"correction {kind!r} is none of {CORRECTIONS}")
    weights = jnp.minimum(jnp.exp(jnp.clip(log_ratio, -_LOG_LIMIT, _LOG_LIMIT)), cap)
    return jax.lax.stop_gradient(jnp.where(inputs.mask > 0, weights, 0.0))
