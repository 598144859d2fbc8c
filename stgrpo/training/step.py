"""The sharded, jitted updates: SFT and GRPO on one path, with exact gradient accumulation and a donated state."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from stgrpo.models.attention.xla import XLA, AttentionCore, KeyValues
from stgrpo.models.critic import Critic
from stgrpo.models.grouped import row_below, row_hidden
from stgrpo.models.lora import Adapters, Lora, adapted, frozen
from stgrpo.models.random import random_key
from stgrpo.models.shapes import ModelShape
from stgrpo.models.sharding import abstract_tree, batch_sharding, replicated
from stgrpo.models.transformer import Transformer, keys_values, primed
from stgrpo.training.accumulation import accumulate, in_parts
from stgrpo.training.batch import GroupBatch
from stgrpo.training.batch_program import BatchProgram
from stgrpo.training.critic import CriticProgram, CriticSettings, CriticState, build_critic, critic_start
from stgrpo.training.health import state_flags
from stgrpo.training.logprobs import batch_logprobs, token_logprobs
from stgrpo.training.loss import Loss, LossInputs, averages, token_sums
from stgrpo.training.packing import Batch


@dataclasses.dataclass(frozen=True)
class TrainState:
    """What training changes: parameters, optimiser state, and the number of updates done.

    Attributes:
        params: what is trained, the whole model or the adapters of one.
        opt_state: of these.
        step: updates done.
        base: the frozen model under the adapters, handed on unchanged; None where the whole model is trained.
        critic: what has updates of its own, handed on unchanged by those of the policy; None without one.
    """

    params: Transformer | Adapters
    opt_state: optax.OptState
    step: jax.Array
    base: Transformer | None = None
    critic: CriticState | None = None

    @property
    def policy(self) -> Transformer:
        """The model in training, its adapters in place."""
        if isinstance(self.params, Transformer):
            return self.params
        assert self.base is not None  # adapters are trained on one
        return adapted(self.base, self.params)


jax.tree_util.register_dataclass(TrainState, ["params", "opt_state", "step", "base", "critic"], [])


@dataclasses.dataclass(frozen=True)
class TrainProgram:
    """Jitted functions over one mesh.

    Attributes:
        init: key -> TrainState, born sharded.
        init_from: Transformer -> TrainState with a fresh optimiser (the model is donated).
        update: (TrainState, Batch) -> (TrainState, metrics for `divergence.finite_metrics`); the state is donated.
        logprobs: (Transformer, Batch) -> log-probabilities of the reference or the old policy, laid out as the batch's
            loss terms.
        below: (TrainState, GroupBatch) -> what the layers below all adapters give, `GroupBatch.below_BSD`; no update
            changes it.
        abstract: the TrainState as shapes with shardings.
        model: the model that `init_from` takes, likewise.
        mesh: devices the parameters are sharded over.
        critic: functions of the state's critic; None without one.
        skip: tokens at the beginning of each prompt that batches leave out, see `prefix` of `build_program`.
    """

    init: Callable[[jax.Array], TrainState]
    init_from: Callable[[Transformer], TrainState]
    update: BatchProgram[TrainState, tuple[TrainState, dict[str, jax.Array]]]
    logprobs: BatchProgram[Transformer, jax.Array]
    below: BatchProgram[TrainState, jax.Array]
    abstract: TrainState
    model: Transformer
    mesh: Mesh
    critic: CriticProgram | None = None
    skip: int = 0


def loss_inputs(model: Transformer, batch: Batch, *, temperature: float, dtype: jnp.dtype) -> LossInputs:
    """What a loss takes: the batch's terms, and the policy's log-probabilities of its tokens, differentiable."""
    if isinstance(batch, GroupBatch) and batch.prompt_weight_BP is not None:
        logp, entropy, logp_BP = _with_prompts(model, batch, temperature, dtype)
        prompt = {"prompt_logp": logp_BP, "prompt_weight": batch.prompt_weight_BP[:, 1:]}
        return LossInputs.of(batch.terms, logp=logp, entropy=entropy, **prompt)
    logp, entropy = batch_logprobs(model, batch, temperature=temperature, dtype=dtype)
    return LossInputs.of(batch.terms, logp=logp, entropy=entropy)


def _with_prompts(model: Transformer, batch: GroupBatch, temperature: float, dtype: jnp.dtype) -> tuple[jax.Array, ...]:
    """Log-probabilities and entropies of the responses [B, G, R], log-probabilities of the prompts [B, P - 1]."""
    B, G, R = batch.response_BGR.shape
    prompt_BPD, response_BGRD = row_hidden(model, batch.rows, dtype)
    how = {"temperature": temperature, "vocab": model.shape.real_vocab}
    logprobs = functools.partial(token_logprobs, head_VD=model.head_VD, **how)
    both = logprobs(response_BGRD.reshape(B, G * R, -1), target_BT=batch.response_BGR.reshape(B, G * R))
    logp_BP, _ = logprobs(prompt_BPD[:, :-1], target_BT=batch.prompt_BP[:, 1:])
    return both[0].reshape(B, G, R), both[1].reshape(B, G, R), logp_BP


@dataclasses.dataclass(frozen=True)
class _Traced:
    """The functions of a program, on arrays wherever they lie; attributes are the arguments of `build_program`."""

    shape: ModelShape
    optimiser: optax.GradientTransformation
    loss: Loss
    micro_batches: int
    dtype: jnp.dtype
    remat: bool
    lora: Lora | None
    core: AttentionCore
    critic: CriticSettings | None
    prefix: Sequence[int]

    def init(self, key: jax.Array) -> TrainState:
        """A state of random weights."""
        return self.start(Transformer(self.shape, key, remat=self.remat, core=self.core))

    def start(self, model: Transformer) -> TrainState:
        """The state before the first update of a model, or of adapters on it."""
        params: Any = model if self.lora is None else Adapters(self.shape, self.lora)  # optax's types know no module
        base = None if self.lora is None else frozen(model, self.lora.base_dtype)
        valued = None if self.critic is None else critic_start(Critic(model), self.critic)
        return TrainState(params, self.optimiser.init(params), jnp.int32(0), base, valued)

    def update(self, state: TrainState, batch: Batch) -> tuple[TrainState, dict[str, jax.Array]]:
        """One step of the optimiser, and what is logged of it."""
        params: Any = state.params  # as in `start`
        with jax.named_scope("gradient"):
            grads, total, sums = self._gradient(state, batch)
        with jax.named_scope("optimiser"):
            changes, opt_state = self.optimiser.update(grads, state.opt_state, params)
            params = optax.apply_updates(params, changes)
        with jax.named_scope("figures"):
            metrics = {"loss": total, "grad_norm": optax.tree.norm(grads)} | averages(sums)
            metrics |= state_flags(params, opt_state)
        # pyrefly: ignore[bad-argument-type] - optax says no more than "a tree"; it is one like the parameters
        return TrainState(params, opt_state, state.step + 1, state.base, state.critic), metrics

    def logprobs(self, model: Transformer, batch: Batch) -> jax.Array:
        """Of the batch's tokens by a model that is not trained, laid out as its loss terms."""
        behind = primed(model, self._read(model))

        def of(part: Batch) -> jax.Array:
            return batch_logprobs(behind, part, temperature=self.loss.temperature, dtype=self.dtype)[0]

        return in_parts(of, batch, self.micro_batches)

    def below(self, state: TrainState, batch: GroupBatch) -> jax.Array:
        """What the layers below all adapters give for a batch."""
        behind = primed(state.policy, self._read(state.policy))
        return in_parts(lambda part: row_below(behind, part.rows, self.dtype), batch, self.micro_batches)

    def _gradient(self, state: TrainState, batch: Batch) -> tuple[Any, jax.Array, dict[str, jax.Array]]:
        """Of the loss over all parts of a batch, with the loss and the sums that figures are made of."""

        def policy_of(params: Transformer | Adapters) -> Transformer:
            return dataclasses.replace(state, params=params).policy

        def loss_of(given: tuple[Transformer | Adapters, KeyValues | None], part: Batch):
            policy = primed(policy_of(given[0]), given[1])
            inputs = loss_inputs(policy, part, temperature=self.loss.temperature, dtype=self.dtype)
            with jax.named_scope("loss"):
                total, sums = self.loss.function(inputs)
                return total, token_sums(inputs) | sums

        params: Any = state.params  # as in `start`
        read, back = jax.vjp(lambda p: self._read(policy_of(p)), params)
        (grads, d_read), total, sums = accumulate(loss_of, (params, read), batch, self.micro_batches)
        if self.prefix:
            grads = jax.tree.map(jnp.add, grads, back(d_read)[0])
        return grads, total, sums

    def _read(self, model: Transformer) -> KeyValues | None:
        """What all prompts begin with, read once."""
        return keys_values(model, self.prefix, self.dtype) if self.prefix else None


def build_program(
    shape: ModelShape,
    mesh: Mesh,
    optimiser: optax.GradientTransformation,
    *,
    loss: Loss,
    micro_batches: int = 1,
    dtype: jnp.dtype = jnp.float32,
    remat: bool = True,
    lora: Lora | None = None,
    core: AttentionCore = XLA,
    critic: CriticSettings | None = None,
    prefix: Sequence[int] = (),
) -> TrainProgram:
    """Compiles nothing yet: returns the jitted functions, with shardings from the table of `models.sharding`.

    Args:
        shape: of the model.
        mesh: devices.
        optimiser: optax.
        loss: what is minimised; `rl.losses` has them.
        micro_batches: parts a batch is taken in.
        dtype: of the computation; parameters and optimiser state are float32.
        remat: see `Transformer`.
        lora: trains adapters on a frozen model; None to train the model.
        core: the implementation of attention.
        critic: trains a critic beside the policy, which starts as a copy of it; None for none.
        prefix: tokens that every prompt begins with and that batches leave out. They go through the model once an
            update, whatever its examples and parts are; gradients of all these go back through that one pass.
    """
    traced = _Traced(shape, optimiser, loss, micro_batches, dtype, remat, lora, core, critic, prefix)
    abstract = jax.eval_shape(traced.init, random_key(0))
    placed = abstract_tree(abstract, shape, mesh)
    states = jax.tree.map(lambda x: x.sharding, placed)
    batches, whole = batch_sharding(mesh), replicated(mesh)
    model = states.params if lora is None else states.base
    valued = None
    if critic is not None:
        valued = build_critic(critic, states.critic, mesh, micro_batches=micro_batches, dtype=dtype)
    donated = {"in_shardings": (states, batches), "out_shardings": (states, whole), "donate_argnums": 0}
    either = {"in_shardings": (None, batches), "out_shardings": batches}  # models with adapters or without
    return TrainProgram(
        init=jax.jit(traced.init, out_shardings=states),
        init_from=jax.jit(traced.start, in_shardings=(model,), out_shardings=states, donate_argnums=0),
        update=BatchProgram(jax.jit(traced.update, **donated), mesh),
        logprobs=BatchProgram(jax.jit(traced.logprobs, **either), mesh),
        below=BatchProgram(jax.jit(traced.below, in_shardings=(states, batches), out_shardings=batches), mesh),
        abstract=placed,
        model=placed.params if lora is None else placed.base,
        mesh=mesh,
        critic=valued,
        skip=len(prefix),
    )
