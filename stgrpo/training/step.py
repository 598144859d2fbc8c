"""The sharded, jitted updates: SFT and GRPO on one path, with exact gradient accumulation and a donated state."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from stgrpo.models.attention.xla import XLA, AttentionCore
from stgrpo.models.lora import Adapters, Lora, adapted, frozen
from stgrpo.models.random import random_key
from stgrpo.models.shapes import ModelShape
from stgrpo.models.sharding import abstract_tree, batch_sharding, replicated
from stgrpo.models.transformer import Transformer, row_hidden
from stgrpo.processes.exchange import placed as on_all_hosts
from stgrpo.training.batch import GroupBatch
from stgrpo.training.health import state_flags
from stgrpo.training.logprobs import batch_logprobs, token_logprobs
from stgrpo.training.loss import Loss, LossInputs, averages, combine, empty, token_sums
from stgrpo.training.packing import Batch

First = TypeVar("First")
Result = TypeVar("Result")


@dataclasses.dataclass(frozen=True)
class TrainState:
    """What training changes: parameters, optimiser state, and the number of updates done.

    Attributes:
        params: what is trained, the whole model or the adapters of one.
        opt_state: of these.
        step: updates done.
        base: the frozen model under the adapters, handed on unchanged; None where the whole model is trained.
    """

    params: Transformer | Adapters
    opt_state: optax.OptState
    step: jax.Array
    base: Transformer | None = None

    @property
    def policy(self) -> Transformer:
        """The model in training, its adapters in place."""
        if isinstance(self.params, Transformer):
            return self.params
        assert self.base is not None  # adapters are trained on one
        return adapted(self.base, self.params)


jax.tree_util.register_dataclass(TrainState, ["params", "opt_state", "step", "base"], [])

LossFn = Callable[[Transformer | Adapters, Batch], tuple[jax.Array, dict[str, jax.Array]]]


@dataclasses.dataclass(frozen=True)
class BatchProgram(Generic[First, Result]):
    """A jitted function of something and a batch; of several processes each places its devices' part of the batch."""

    jitted: jax.stages.Wrapped
    mesh: Mesh

    def __call__(self, first: First, batch: Batch) -> Result:
        """Runs it."""
        if self.mesh.is_multi_process:
            batch = on_all_hosts(batch, batch_sharding(self.mesh))
        return self.jitted(first, batch)

    def lower(self, first: First, batch: Batch) -> jax.stages.Lowered:
        """The program for arguments of these shapes and shardings, of whole batches."""
        return self.jitted.lower(first, batch)


@dataclasses.dataclass(frozen=True)
class TrainProgram:
    """Jitted functions over one mesh.

    Attributes:
        init: key -> TrainState, born sharded.
        init_from: Transformer -> TrainState with a fresh optimiser (the model is donated).
        update: (TrainState, Batch) -> (TrainState, metrics for `divergence.finite_metrics`); the state is donated.
        logprobs: (Transformer, Batch) -> log-probabilities of the reference or the old policy, laid out as the batch's
            loss terms.
        abstract: the TrainState as shapes with shardings.
        model: the model that `init_from` takes, likewise.
        mesh: devices the parameters are sharded over.
    """

    init: Callable[[jax.Array], TrainState]
    init_from: Callable[[Transformer], TrainState]
    update: BatchProgram[TrainState, tuple[TrainState, dict[str, jax.Array]]]
    logprobs: BatchProgram[Transformer, jax.Array]
    abstract: TrainState
    model: Transformer
    mesh: Mesh


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
    prompt_BPD, response_BGRD = row_hidden(model, batch.prompt_BP, batch.prompt_len_B, batch.response_BGR, dtype)
    how = {"temperature": temperature, "vocab": model.shape.real_vocab}
    logprobs = functools.partial(token_logprobs, head_VD=model.head_VD, **how)
    both = logprobs(response_BGRD.reshape(B, G * R, -1), target_BT=batch.response_BGR.reshape(B, G * R))
    logp_BP, _ = logprobs(prompt_BPD[:, :-1], target_BT=batch.prompt_BP[:, 1:])
    return both[0].reshape(B, G, R), both[1].reshape(B, G, R), logp_BP


def _parts(batch: Batch, count: int) -> Batch:
    """The batch in equal parts on a new leading axis, strided, so that every part has rows of every device."""
    return jax.tree.map(lambda x: x.reshape(x.shape[0] // count, count, *x.shape[1:]).swapaxes(0, 1), batch)


def accumulate(loss_fn: LossFn, params: Transformer | Adapters, batch: Batch, micro_batches: int):
    """Gradient, loss and sums of a batch taken in equal parts: the same numbers as in one piece, up to rounding."""
    grad_fn = jax.value_and_grad(loss_fn, has_aux=True)
    if micro_batches == 1:
        (loss, sums), grads = grad_fn(params, batch)
        return grads, loss, sums

    parts = _parts(batch, micro_batches)
    shapes = jax.eval_shape(grad_fn, params, jax.tree.map(lambda x: x[0], parts))
    (_, sums_shape), _ = shapes
    (zero_loss, _), zero_grads = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)

    def body(total, part):
        ((loss, sums), grads), ((more_loss, more_sums), more_grads) = total, grad_fn(params, part)
        return ((loss + more_loss, combine(sums, more_sums)), jax.tree.map(jnp.add, grads, more_grads)), None

    start = (zero_loss, empty(sums_shape)), zero_grads
    ((loss, sums), grads), _ = jax.lax.scan(body, start, parts)
    return grads, loss, sums


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
    """

    def start(model: Transformer) -> TrainState:
        params: Any = model if lora is None else Adapters(shape, lora)  # optax's own annotations know no module
        base = None if lora is None else frozen(model, lora.base_dtype)
        return TrainState(params, optimiser.init(params), jnp.int32(0), base)

    def update(state: TrainState, batch: Batch):
        def loss_of(params: Transformer | Adapters, part: Batch):
            policy = dataclasses.replace(state, params=params).policy
            inputs = loss_inputs(policy, part, temperature=loss.temperature, dtype=dtype)
            with jax.named_scope("loss"):
                total, sums = loss.function(inputs)
                return total, token_sums(inputs) | sums

        params: Any = state.params  # as in `start`
        with jax.named_scope("gradient"):
            grads, total, sums = accumulate(loss_of, params, batch, micro_batches)
        with jax.named_scope("optimiser"):
            changes, opt_state = optimiser.update(grads, state.opt_state, params)
            params = optax.apply_updates(params, changes)
        with jax.named_scope("figures"):
            metrics = {"loss": total, "grad_norm": optax.tree.norm(grads)} | averages(sums)
            metrics |= state_flags(params, opt_state)
        # pyrefly: ignore[bad-argument-type] - optax says no more than "a tree"; it is one like the parameters
        return TrainState(params, opt_state, state.step + 1, state.base), metrics

    def logprobs(model: Transformer, batch: Batch) -> jax.Array:
        def of(part: Batch) -> jax.Array:
            return batch_logprobs(model, part, temperature=loss.temperature, dtype=dtype)[0]

        if micro_batches == 1:
            return of(batch)
        found = jax.lax.map(of, _parts(batch, micro_batches)).swapaxes(0, 1)
        return found.reshape(-1, *found.shape[2:])

    init = lambda key: start(Transformer(shape, key, remat=remat, core=core))  # noqa: E731
    abstract = jax.eval_shape(init, random_key(0))
    placed = abstract_tree(abstract, shape, mesh)
    states = jax.tree.map(lambda x: x.sharding, placed)
    batches, whole = batch_sharding(mesh), replicated(mesh)
    model = states.params if lora is None else states.base
    jitted_update = jax.jit(update, in_shardings=(states, batches), out_shardings=(states, whole), donate_argnums=0)
    jitted_logprobs = jax.jit(logprobs, in_shardings=(None, batches), out_shardings=batches)  # with adapters or without
    return TrainProgram(
        init=jax.jit(init, out_shardings=states),
        init_from=jax.jit(start, in_shardings=(model,), out_shardings=states, donate_argnums=0),
        update=BatchProgram(jitted_update, mesh),
        logprobs=BatchProgram(jitted_logprobs, mesh),
        abstract=placed,
        model=placed.params if lora is None else placed.base,
        mesh=mesh,
    )
