"""AdamW, Muon or Adafactor with warm-up and a cosine, built from plain numbers."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import optax
from optax import contrib

from stgrpo.models.shapes import LINEAR, parameter_name

OPTIMISERS = ("adamw", "muon", "adafactor")
MUON_SIZE = 0.2
"""Root mean square of Muon's changes at a rate of 1: about AdamW's, so one rate serves both (arXiv 2502.16982)."""


@dataclasses.dataclass(frozen=True)
class OptimiserSettings:
    """How a gradient, clipped, becomes a change of the parameters.

    Attributes:
        learning_rate: its peak.
        warmup_steps: updates before the first one at the peak, the rates of which rise in equal steps from above 0;
            cut so that at least the last update has the peak.
        total_steps: of the run, where the cosine ends.
        schedule: "cosine" or "constant" after warm-up.
        final_fraction: of the peak, where the cosine ends.
        weight_decay: on matrices only, not on norms and biases.
        clip_norm: global norm of the gradient is cut to this; 0 for no limit.
        name: "adamw" (arXiv 1711.05101). "muon" (Jordan et al., 2024): the linear maps of the layers change by their
            momentum made orthogonal, everything else, adapters too, as AdamW has it; one moment a parameter in those
            maps.
            "adafactor" (arXiv 1804.04235): no first moment, and of the second only its means over rows and over columns
            wherever two axes have at least 128 places. Its changes are not scaled by the parameter, so that a learning
            rate means about the same to all; b1 and b2 are AdamW's alone.
        moment_dtype: in which AdamW's two moments are kept between updates; computed in float32.
    """

    learning_rate: float
    warmup_steps: int
    total_steps: int
    schedule: str = "cosine"
    final_fraction: float = 0.1
    weight_decay: float = 0.0
    b1: float = 0.9
    b2: float = 0.95
    clip_norm: float = 1.0
    name: str = "adamw"
    moment_dtype: str = "float32"


def learning_rate(settings: OptimiserSettings) -> optax.Schedule:
    """The learning rate as a function of the update's number, from 0.

    Of n updates of warm-up number i has (i + 1) / (n + 1) of the peak, as in nanoGPT: none is spent on a rate of 0, and
    number n is the first at the peak. The cosine would be at its end one update after the last.
    """
    s = settings
    total = max(s.total_steps, 1)
    warm = min(s.warmup_steps, total - 1)
    after = optax.constant_schedule(s.learning_rate)
    if s.schedule == "cosine":
        after = optax.cosine_decay_schedule(s.learning_rate, total - warm, alpha=s.final_fraction)
    if not warm:
        return after
    rising = optax.linear_schedule(s.learning_rate / (warm + 1), s.learning_rate, warm)
    return optax.join_schedules([rising, after], [warm])


def make_optimiser(settings: OptimiserSettings) -> optax.GradientTransformation:
    """The optax chain for these settings.

    Raises:
        ValueError: b1 or b2 is so near 1 that a moment in `moment_dtype` would never change again.
    """
    s = settings
    scale = {"adamw": _adam, "muon": _muon, "adafactor": _adafactor}[s.name](s)
    decay = optax.add_decayed_weights(s.weight_decay, _is_matrix if s.weight_decay else None)
    chain = optax.chain(scale, decay, optax.scale_by_learning_rate(learning_rate(s)))
    return optax.chain(optax.clip_by_global_norm(s.clip_norm), chain) if s.clip_norm else chain


def _adam(s: OptimiserSettings) -> optax.GradientTransformation:
    dtype = jnp.dtype(s.moment_dtype)
    # What a moment forgets in an update has to be some steps of its dtype: with b2 = 0.99 in bfloat16, 1.3 of them,
    # updates come out 1.1 % short; with 0.999 a third (benchmarks/moments.py).
    least = 2 * float(jnp.finfo(dtype).eps)
    if 1 - max(s.b1, s.b2) <= least:
        raise ValueError(f"b1={s.b1}, b2={s.b2}: moments in {dtype} need both below {1 - least}")
    adam = optax.scale_by_adam(s.b1, s.b2)
    return adam if dtype == jnp.float32 else _kept_in(dtype, adam)


def _muon(s: OptimiserSettings) -> optax.GradientTransformation:
    maps = contrib.scale_by_muon(weight_dimension_numbers=_inputs_and_outputs)
    sized = optax.stateless(lambda changes, _: jax.tree_util.tree_map_with_path(_of_muons_size, changes))
    return optax.partition({"maps": optax.chain(maps, sized), "rest": _adam(s)}, _which_are_maps)


def _of_muons_size(path: tuple, change: jax.Array) -> jax.Array:
    """With a root mean square of `MUON_SIZE`: an orthogonal [I, O] has a mean square of 1 / max(I, O)."""
    cut = 1 + LINEAR[parameter_name(path)]
    longer = max(math.prod(change.shape[1:cut]), math.prod(change.shape[cut:]))
    return MUON_SIZE * math.sqrt(longer) * change


def _adafactor(_: OptimiserSettings) -> optax.GradientTransformation:
    return optax.chain(optax.scale_by_factored_rms(), optax.clip_by_block_rms(1.0))


def _kept_in(dtype: jnp.dtype, inner: optax.GradientTransformation) -> optax.GradientTransformation:
    """The same transformation, its state rounded to the nearest of `dtype` between updates."""

    def cast(state: optax.OptState, to: jnp.dtype) -> optax.OptState:
        return jax.tree.map(lambda x: x.astype(to) if jnp.issubdtype(x.dtype, jnp.floating) else x, state)

    def update(
        updates: optax.Updates, state: optax.OptState, params: optax.Params | None = None
    ) -> tuple[optax.Updates, optax.OptState]:
        changes, state = inner.update(updates, cast(state, jnp.float32), params)
        return changes, cast(state, dtype)

    return optax.GradientTransformation(lambda params: cast(inner.init(params), dtype), update)


def _is_matrix(params: object) -> object:
    def matrix(path: tuple, leaf: jax.Array) -> bool:
        name = parameter_name(path)
        return not ("norm" in name or "bias" in name)

    return jax.tree_util.tree_map_with_path(matrix, params)


def _which_are_maps(params: object) -> object:
    """Linear maps of the layers, [L, inputs..., outputs...], are of the "maps", all other parameters of the "rest"."""
    return jax.tree_util.tree_map_with_path(
        lambda path, _: "maps" if parameter_name(path) in LINEAR else "rest", params
    )


def _inputs_and_outputs(maps: optax.Params) -> optax.Params:
    """Which axes of each linear map are summed over and which come out; the layers, on the first axis, stay apart."""

    def axes(path: tuple, leaf: jax.Array) -> contrib.MuonDimensionNumbers:
        cut = 1 + LINEAR[parameter_name(path)]
        return contrib.MuonDimensionNumbers(tuple(range(1, cut)), tuple(range(cut, leaf.ndim)))

    return jax.tree_util.tree_map_with_path(axes, maps)
