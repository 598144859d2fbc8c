"""How far the sampler's probabilities are from the trainer's, and truncated importance sampling against it.

An engine of its own computes with other kernels and dtypes, and with max_staleness its weights are older: its responses
come from a distribution mu that is not quite the policy pi_old from which an update starts. Truncated importance
sampling (Ionides 2008) multiplies the policy gradient by min(pi_old / mu, cap), of each token or of each response.

NumPy in, NumPy out. Arrays hold one number a sampled token, in any layout; the mask tells which are real.
"""

import numpy as np

CORRECTIONS = ("none", "token", "sequence")
_LOG_LIMIT = 20.0  # exp(20) is finite in float32


def mismatch_metrics(old_logp: np.ndarray, sampler_logp: np.ndarray, mask: np.ndarray) -> dict[str, float]:
    """Mean and largest |difference| of log-probabilities, KL(mu || pi_old) and Pearson's r, over sampled tokens.

    Args:
      old_logp: by the trainer, under the policy that the update starts from.
      sampler_logp: by the sampler.
      mask: 1 for real tokens.
    """
    old, sampler = (x[mask > 0].astype(np.float64) for x in (old_logp, sampler_logp))
    log_ratio = np.clip(old - sampler, -_LOG_LIMIT, _LOG_LIMIT)
    spread = old.std() * sampler.std()
    covariance = np.mean((old - old.mean()) * (sampler - sampler.mean()))
    return {
        "mismatch_mean": float(np.mean(np.abs(old - sampler))),
        "mismatch_max": float(np.max(np.abs(old - sampler))),
        "mismatch_kl": float(np.mean(np.expm1(log_ratio) - log_ratio)),
        "mismatch_pearson": float(covariance / spread) if spread > 0 else float(np.array_equal(old, sampler)),
    }


def importance_weights(
    log_ratio: np.ndarray, mask: np.ndarray, responses: np.ndarray, *, kind: str, cap: float
) -> np.ndarray:
    """min(pi_old / mu, cap) of each token ("token"), or of the response that it is in ("sequence"); float32.

    Args:
      log_ratio: log(pi_old / mu) of each token.
      mask: 1 for real tokens; others have weight 0.
      responses: the number of the response of each token, from 0.
      kind: "token" or "sequence".
      cap: the largest weight.
    """
    real = mask > 0
    if kind == "sequence":
        log_ratio = np.bincount(responses[real], weights=log_ratio[real], minlength=responses.max() + 1)[responses]
    elif kind != "token":
        raise ValueError(f"correction {kind!r} is none of {CORRECTIONS}")
    weights = np.minimum(np.exp(np.clip(log_ratio, -_LOG_LIMIT, _LOG_LIMIT)), cap)
    return np.where(real, weights, 0.0).astype(np.float32)


def correction_metrics(weights: np.ndarray, mask: np.ndarray, *, cap: float) -> dict[str, float]:
    """The mean weight, and the share of tokens at the cap."""
    weights = weights[mask > 0]
    return {
        "correction_mean": float(np.mean(weights)),
        "correction_capped": float(np.mean(weights >= np.float32(cap))),
    }
