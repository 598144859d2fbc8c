"""Losses by name: SFT, GRPO and its relatives, or a function of one's own by its import path.

Eqs. 4-6 of arXiv 2509.20616: maximise E[ratio * A] - beta * KL(policy || reference) with A = (r - mean r) / std r over
the group of responses to one prompt. The paper's analysis has no clipping; it is an option here.

A loss is a function `(LossInputs, Coefficients) -> (loss, figures)`: the loss as a sum over the tokens of a part of the
batch, whose weights carry the global denominator; the figures as `training.loss.token_sums` makes them. docs/losses.md
has an example.
"""

import dataclasses
import functools
import importlib
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from stgrpo.errors import UserError, nearest
from stgrpo.rl.mismatch import Mismatch, measured
from stgrpo.training.loss import Loss, LossInputs, Sums, token_sums
from stgrpo.training.masked import masked_sum, response_mean

Array = TypeVar("Array", jax.Array, np.ndarray)
BASELINES = ("group_mean", "leave_one_out")
KL_ESTIMATORS = ("k1", "k2", "k3")
_LOG_RATIO_LIMIT = 20.0  # exp(20) is finite in float32 with room for a sum over a batch


@dataclasses.dataclass(frozen=True)
class Coefficients:
    """What a run sets of its loss; a loss uses those that it knows.

    Attributes:
        kl_coef: beta, the weight of the KL to the reference.
        kl_estimator: "k1" log(p/q), "k2" its square / 2, "k3" q/p - 1 - log(q/p)
            (http://joschu.net/blog/kl-approx.html), all over sampled tokens. k1 in a loss has no expected gradient
            on-policy: it measures, it holds nothing back.
        clip_low: the ratio is clipped from below at 1 - clip_low; None for no clipping (the paper).
        clip_high: and from above at 1 + clip_high.
        options: of a loss of one's own, by name.
    """

    kl_coef: float = 0.001
    kl_estimator: str = "k3"
    clip_low: float | None = None
    clip_high: float | None = None
    options: tuple[tuple[str, float], ...] = ()

    def option(self, name: str, default: float) -> float:
        """One of the options."""
        return dict(self.options).get(name, default)


def loss_options(texts: Sequence[str]) -> tuple[tuple[str, float], ...]:
    """Options given as texts such as "cap=5".

    Raises:
        UserError: one is not of that form.
    """
    found = []
    for text in texts:
        name, _, value = text.partition("=")
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if not name.isidentifier() or not math.isfinite(number):
            raise UserError(f"option {text!r} of a loss is no NAME=NUMBER: give it as 'cap=5'")
        found.append((name, number))
    return tuple(found)


LossFunction = Callable[[LossInputs, Coefficients], tuple[jax.Array, Sums]]


def group_advantages(
    reward_BG: Array,
    *,
    baseline: str = "group_mean",
    scale_by_std: bool = True,
    epsilon: float = 1e-6,
) -> Array:
    """(r - mean) / std over each group (Eq. 5); without the division as in Dr. GRPO (arXiv 2503.20783).

    A group whose rewards are all equal has advantage exactly 0.

    Args:
        reward_BG: of each response; NumPy's stay on the host.
        baseline: "group_mean", or "leave_one_out": the mean of the other responses, which does not depend on the one
            that it is subtracted from (RLOO, arXiv 2402.14740); r less that is G / (G - 1) times r less the group's.
        scale_by_std: divide by the standard deviation.
        epsilon: is added to that.
    """
    if baseline not in BASELINES:
        raise ValueError(f"baseline {baseline!r} is none of {BASELINES}")
    xp: ModuleType = np if isinstance(reward_BG, np.ndarray) else jnp
    centred = reward_BG - xp.mean(reward_BG, axis=-1, keepdims=True)
    spread = xp.max(reward_BG, axis=-1, keepdims=True) - xp.min(reward_BG, axis=-1, keepdims=True)
    centred = xp.where(spread > 0, centred, 0.0)
    if baseline == "leave_one_out":
        centred *= reward_BG.shape[-1] / max(reward_BG.shape[-1] - 1, 1)
    return centred / (xp.std(reward_BG, axis=-1, keepdims=True) + epsilon) if scale_by_std else centred


def kl_penalty(logp: jax.Array, ref_logp: jax.Array, estimator: str) -> jax.Array:
    """Estimate of KL(policy || reference) from each sampled token; see `Coefficients.kl_estimator`."""
    log_ratio = jnp.clip(ref_logp - logp, -_LOG_RATIO_LIMIT, _LOG_RATIO_LIMIT)
    if estimator == "k1":
        return -log_ratio
    if estimator == "k2":
        return 0.5 * log_ratio**2
    if estimator == "k3":
        return jnp.expm1(log_ratio) - log_ratio
    raise ValueError(f"kl_estimator {estimator!r} is none of {KL_ESTIMATORS}")


def log_ratio(inputs: LossInputs) -> jax.Array:
    """Logarithm of the ratio of the policy to the one that the responses are taken to come from, of each token."""
    return jnp.clip(inputs.logp - inputs.start_logp, -_LOG_RATIO_LIMIT, _LOG_RATIO_LIMIT)


def sft_loss(inputs: LossInputs, coefficients: Coefficients) -> tuple[jax.Array, Sums]:
    """Negative log-likelihood of the responses, and of the prompts where the batch gives them weights."""
    del coefficients
    prompt_total = 0.0
    if inputs.prompt_logp is not None:
        assert inputs.prompt_weight is not None  # they come together
        prompt_total = masked_sum(inputs.prompt_logp, inputs.prompt_weight)
    total = -masked_sum(inputs.logp, inputs.weight) - prompt_total
    return total, token_sums(inputs, response_loss=-inputs.logp, entropy=inputs.entropy)


def grpo_loss(inputs: LossInputs, coefficients: Coefficients) -> tuple[jax.Array, Sums]:
    """The clipped policy gradient with a KL to the reference (Eq. 4 is the case without clipping)."""
    return _clipped_loss(jnp.exp(log_ratio(inputs)), inputs, coefficients)


def gspo_loss(inputs: LossInputs, coefficients: Coefficients) -> tuple[jax.Array, Sums]:
    """The same with one ratio a response, the geometric mean of its tokens' (Eqs. 5-7 of arXiv 2507.18071)."""
    mean = response_mean(log_ratio(inputs), inputs.mask, inputs.response_id)
    return _clipped_loss(jnp.exp(mean), inputs, coefficients)


def cispo_loss(inputs: LossInputs, coefficients: Coefficients) -> tuple[jax.Array, Sums]:
    """REINFORCE weighted by the clipped ratio, which has no gradient itself: no token loses its own (arXiv 2506.13585).

    Its value is no measure of anything; its gradient is that of the ratio, where nothing is clipped.
    """
    ratio = jax.lax.stop_gradient(jnp.exp(log_ratio(inputs)))
    weight = _bounded(ratio, coefficients)
    clipped = (weight != ratio).astype(jnp.float32)
    return _with_penalty(weight * inputs.adv * inputs.logp, inputs, coefficients, ratio=ratio, clip_fraction=clipped)


def _clipped_loss(ratio: jax.Array, inputs: LossInputs, c: Coefficients) -> tuple[jax.Array, Sums]:
    """PPO's pessimistic choice between the ratio and the clipped ratio (Eq. 7 of arXiv 1707.06347)."""
    gain, clipped = ratio * inputs.adv, jnp.zeros_like(ratio)
    if c.clip_low is not None or c.clip_high is not None:
        bounded = _bounded(ratio, c) * inputs.adv
        clipped = (bounded < gain).astype(jnp.float32)
        gain = jnp.minimum(gain, bounded)
    return _with_penalty(gain, inputs, c, ratio=ratio, clip_fraction=clipped)


def _bounded(ratio: jax.Array, c: Coefficients) -> jax.Array:
    low = 0.0 if c.clip_low is None else 1.0 - c.clip_low
    high = jnp.inf if c.clip_high is None else 1.0 + c.clip_high
    return jnp.clip(ratio, low, high)


def _with_penalty(gain: jax.Array, inputs: LossInputs, c: Coefficients, **figures: jax.Array) -> tuple[jax.Array, Sums]:
    """The loss of what each token gains: corrected for the sampler, less the KL to the reference."""
    if inputs.correction is not None:
        gain *= inputs.correction
    penalty = functools.partial(kl_penalty, inputs.logp, inputs.ref_logp)
    total = masked_sum(c.kl_coef * penalty(c.kl_estimator) - gain, inputs.weight)
    kl = {"kl": penalty("k3"), "kl_k1": penalty("k1"), "entropy": inputs.entropy}
    return total, token_sums(inputs, **kl, **figures)


LOSSES: dict[str, LossFunction] = {"sft": sft_loss, "grpo": grpo_loss, "gspo": gspo_loss, "cispo": cispo_loss}
"""The losses that are chosen by name."""


def find_loss(name: str) -> LossFunction:
    """Returns a loss by its name in `LOSSES`, or a function of one's own by `package.module:function`.

    The module is looked for where Python looks, and in the current folder.

    Raises:
        UserError: there is none.
    """
    if name in LOSSES:
        return LOSSES[name]
    module_name, _, attribute = name.partition(":")
    if not attribute:
        raise UserError(f"loss {name!r}: unknown; {nearest(name, LOSSES)}, or give one of your own as MODULE:FUNCTION")
    try:
        function = getattr(_import(module_name), attribute)
    except Exception as error:  # of any kind: the module is somebody's own
        raise UserError(f"loss {name!r} cannot be imported ({error}): give it as MODULE:FUNCTION") from error
    if not callable(function):
        raise UserError(f"loss {name!r} is no function: it takes (LossInputs, Coefficients), see docs/losses.md")
    return function


def _import(module_name: str) -> object:
    here = str(Path.cwd())
    sys.path.append(here)
    try:
        return importlib.import_module(module_name)
    finally:
        sys.path.remove(here)


def make_loss(
    name: str,
    coefficients: Coefficients = Coefficients(),
    *,
    temperature: float = 1.0,
    mismatch: Mismatch | None = None,
) -> Loss:
    """A loss for `build_program`.

    Args:
        name: see `find_loss`.
        coefficients: of the loss.
        temperature: that responses are drawn at.
        mismatch: what is done about a sampler that differs from the trainer; None to leave it alone.

    Raises:
        UserError: there is no such loss.
    """
    function = find_loss(name)
    bound = lambda inputs: function(inputs, coefficients)  # noqa: E731
    return Loss(bound if mismatch is None else measured(bound, mismatch), temperature)
