"""PPO's critic in training: values, generalised advantage estimates and returns, the value loss, the jitted update."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from stgrpo.models.critic import Critic
from stgrpo.models.sharding import batch_sharding, replicated
from stgrpo.training.accumulation import accumulate, in_parts
from stgrpo.training.batch import LossTerms
from stgrpo.training.batch_program import BatchProgram
from stgrpo.training.health import state_flags
from stgrpo.training.logprobs import batch_hidden
from stgrpo.training.loss import Sums, averages, token_sums
from stgrpo.training.masked import masked_sum
from stgrpo.training.packing import Batch


@dataclasses.dataclass(frozen=True)
class CriticState:
    """What training changes of a critic: its parameters, the state of its own optimiser, and the updates done."""

    params: Critic
    opt_state: optax.OptState
    step: jax.Array


jax.tree_util.register_dataclass(CriticState, ["params", "opt_state", "step"], [])


@dataclasses.dataclass(frozen=True)
class CriticSettings:
    """How a critic learns and what is made of its values.

    Attributes:
        optimiser: optax; its own.
        gamma: discount of a later reward, a token.
        gae_lambda: 1 counts all of a response, 0 one token and the next value.
        value_clip: a new value counts as no further than this from the one before the rollout's updates; 0 for any.
        kl_coef: of the KL to the reference that is taken off the reward of each token.
    """

    optimiser: optax.GradientTransformation
    gamma: float = 1.0
    gae_lambda: float = 1.0
    value_clip: float = 0.0
    kl_coef: float = 0.0


Estimates = tuple[jax.Array, jax.Array, jax.Array, Sums]
"""Values, advantages and returns in the layout of a batch's loss terms, and sums for `rl.critic`."""


@dataclasses.dataclass(frozen=True)
class CriticProgram:
    """Jitted functions of a critic.

    Attributes:
        estimate: (Critic, Batch) -> Estimates; the batch has the reward of each response as its advantage.
        scale: ((advantages, mean, factor), Batch) -> (advantages - mean) * factor of the batch's real tokens.
        update: (CriticState, Batch) -> (CriticState, metrics for `divergence.finite_metrics`); the state is donated.
    """

    estimate: BatchProgram[Critic, Estimates]
    scale: BatchProgram[tuple[jax.Array, float, float], jax.Array]
    update: BatchProgram[CriticState, tuple[CriticState, dict[str, jax.Array]]]


def critic_start(critic: Critic, settings: CriticSettings) -> CriticState:
    """A critic with a fresh optimiser."""
    params: Any = critic  # optax's own annotations know no module
    return CriticState(critic, settings.optimiser.init(params), jnp.int32(0))


def batch_values(critic: Critic, batch: Batch, *, dtype: jnp.dtype = jnp.float32) -> jax.Array:
    """The value before each response token, in the layout of the batch's loss terms."""
    with jax.named_scope("value"):
        return critic.values(batch_hidden(critic.model, batch, dtype))


def advantages(value: jax.Array, terms: LossTerms[jax.Array], settings: CriticSettings) -> tuple[jax.Array, jax.Array]:
    """Generalised advantage estimates (Eq. 16 of arXiv 1506.02438) and returns, the estimates plus the values.

    A token's reward is the KL that it takes off; the last one of a response has what the response earned too.

    Args:
        value: before each token; after the last one there is nothing more to come.
        terms: in the same layout; `adv` is what the response of a token earned.
        settings: discounts and the KL's coefficient.
    """
    following = jnp.roll(terms.response_id, -1, axis=-1) == terms.response_id
    goes_on = following & (jnp.roll(terms.mask, -1, axis=-1) > 0)
    goes_on = goes_on.at[..., -1].set(False).astype(value.dtype)
    reward = (1.0 - goes_on) * terms.adv
    if settings.kl_coef:
        assert terms.old_logp is not None  # `rl.update.needs_old_logprobs`
        reward -= settings.kl_coef * (terms.old_logp - terms.ref_logp)
    surprise = reward + settings.gamma * goes_on * jnp.roll(value, -1, axis=-1) - value
    fading = settings.gamma * settings.gae_lambda * goes_on

    def joined(later: tuple[jax.Array, jax.Array], now: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        return later[0] * now[0], now[1] + now[0] * later[1]

    _, found = jax.lax.associative_scan(joined, (fading, surprise), reverse=True, axis=value.ndim - 1)
    real = terms.mask > 0
    return jnp.where(real, found, 0.0), jnp.where(real, found + value, 0.0)


def value_loss(value: jax.Array, terms: LossTerms[jax.Array], value_clip: float) -> tuple[jax.Array, Sums]:
    """Half the squared error of the values to their returns, the larger one of the value and the clipped value."""
    assert terms.value is not None and terms.returns is not None  # `with_values` has been there
    error, clipped = (value - terms.returns) ** 2, jnp.zeros_like(value)
    if value_clip:
        bounded = terms.value + jnp.clip(value - terms.value, -value_clip, value_clip)
        other = (bounded - terms.returns) ** 2
        error, clipped = jnp.maximum(error, other), (other > error).astype(value.dtype)
    return 0.5 * masked_sum(error, terms.weight), token_sums(terms, value=value, value_clip_fraction=clipped)


def build_critic(
    settings: CriticSettings, states: CriticState, mesh: Mesh, *, micro_batches: int, dtype: jnp.dtype
) -> CriticProgram:
    """Compiles nothing yet.

    Args:
        settings: of the critic.
        states: shardings of its state.
        mesh: devices.
        micro_batches: parts a batch is taken in.
        dtype: of the computation.
    """

    def estimate(critic: Critic, batch: Batch) -> Estimates:
        value = in_parts(lambda part: batch_values(critic, part, dtype=dtype), batch, micro_batches)
        found, returns = advantages(value, batch.terms, settings)
        moments = {"adv": found, "adv_square": found**2, "returns": returns, "returns_square": returns**2}
        return value, found, returns, token_sums(batch.terms, **moments)

    def scale(given: tuple[jax.Array, float, float], batch: Batch) -> jax.Array:
        adv, mean, factor = given
        return jnp.where(batch.terms.mask > 0, (adv - mean) * factor, 0.0)

    def update(state: CriticState, batch: Batch) -> tuple[CriticState, dict[str, jax.Array]]:
        def loss_of(critic: Critic, part: Batch) -> tuple[jax.Array, Sums]:
            return value_loss(batch_values(critic, part, dtype=dtype), part.terms, settings.value_clip)

        params: Any = state.params  # as in `critic_start`
        with jax.named_scope("gradient"):
            grads, total, sums = accumulate(loss_of, params, batch, micro_batches)
        with jax.named_scope("optimiser"):
            changes, opt_state = settings.optimiser.update(grads, state.opt_state, params)
            changed: Any = optax.apply_updates(params, changes)
        metrics = {"value_loss": total, "critic_grad_norm": optax.tree.norm(grads)} | averages(sums)
        return CriticState(changed, opt_state, state.step + 1), metrics | state_flags(changed, opt_state)

    batches, whole = batch_sharding(mesh), replicated(mesh)
    jitted_estimate = jax.jit(
        estimate, in_shardings=(states.params, batches), out_shardings=(batches, batches, batches, whole)
    )
    jitted_scale = jax.jit(scale, in_shardings=(None, batches), out_shardings=batches)
    jitted_update = jax.jit(update, in_shardings=(states, batches), out_shardings=(states, whole), donate_argnums=0)
    return CriticProgram(
        BatchProgram(jitted_estimate, mesh), BatchProgram(jitted_scale, mesh), BatchProgram(jitted_update, mesh)
    )
