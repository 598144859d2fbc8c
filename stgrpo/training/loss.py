"""What a loss is: a function of one number a response token, whatever the model, the layout, the mesh or the engine."""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp

from stgrpo.training.batch import LossTerms
from stgrpo.training.masked import masked_sum

Sums = dict[str, jax.Array]
"""Figures of a part of a batch, by name: sums over its real tokens, or a maximum where the name ends in "_max"."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class LossInputs(LossTerms[jax.Array]):
    """All that a loss may look at: what the batch says of its tokens (`LossTerms`), and what the policy does.

    Attributes:
        logp: log-probability of each response token under the policy, differentiable.
        entropy: of the policy at each token.
        correction: factor of the policy gradient that makes up for a sampler that is not quite the old policy, see
            `rl.mismatch`; None for none.
        prompt_logp: log-probabilities of the prompts' tokens after the first, [B, P - 1], where the batch gives them
            weights and holds them apart; packed rows have them among the responses, with mask 0.
        prompt_weight: their shares in the loss.
    """

    logp: jax.Array
    entropy: jax.Array
    correction: jax.Array | None = None
    prompt_logp: jax.Array | None = None
    prompt_weight: jax.Array | None = None

    @property
    def start_logp(self) -> jax.Array:
        """Log-probabilities under the policy that the update starts from: the current one, where no other is given."""
        return jax.lax.stop_gradient(self.logp) if self.old_logp is None else self.old_logp

    @classmethod
    def of(
        cls,
        terms: LossTerms[jax.Array],
        *,
        logp: jax.Array,
        entropy: jax.Array,
        correction: jax.Array | None = None,
        prompt_logp: jax.Array | None = None,
        prompt_weight: jax.Array | None = None,
    ) -> "LossInputs":
        """The terms of a batch with what the policy adds to them."""
        return cls(
            **vars(terms),
            logp=logp,
            entropy=entropy,
            correction=correction,
            prompt_logp=prompt_logp,
            prompt_weight=prompt_weight,
        )


@dataclasses.dataclass(frozen=True)
class Loss:
    """A loss as an update uses it, its coefficients in place.

    Attributes:
        function: returns the loss of a part of a batch, to be minimised and summed over all parts (its weights carry
            the global denominator), and figures to log.
        temperature: logits are divided by it, as in sampling.
    """

    function: Callable[[LossInputs], tuple[jax.Array, Sums]]
    temperature: float = 1.0


def token_sums(inputs: LossTerms[jax.Array], **figures: jax.Array) -> Sums:
    """Figures to log, each given as one number a token: their sums over real tokens, and the number of these."""
    sums = {name: masked_sum(x, inputs.mask) for name, x in figures.items()}
    return jax.lax.stop_gradient({"tokens": jnp.sum(inputs.mask), **sums})


def combine(total: Sums, part: Sums) -> Sums:
    """The figures of two parts of a batch."""
    return {name: (jnp.maximum if name.endswith("_max") else jnp.add)(total[name], part[name]) for name in total}


def empty(sums: Sums) -> Sums:
    """The figures of no tokens, for `combine` to begin with; `sums` are shapes or arrays."""
    start = {name: -jnp.inf if name.endswith("_max") else 0.0 for name in sums}
    return {name: jnp.full(x.shape, start[name], x.dtype) for name, x in sums.items()}


def averages(sums: Sums) -> Sums:
    """What is logged of a whole batch: means over its real tokens, and maxima."""
    tokens = jnp.maximum(sums["tokens"], 1.0)
    return {name: x if name.endswith("_max") else x / tokens for name, x in sums.items() if name != "tokens"}
