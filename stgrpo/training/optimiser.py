"""AdamW with warm-up and a cosine, built from plain numbers."""

import dataclasses

import jax
import optax


@dataclasses.dataclass(frozen=True)
class OptimiserSettings:
    """AdamW (arXiv 1711.05101) with a clipped gradient.

    Attributes:
      learning_rate: its peak.
      warmup_steps: linear from 0 to the peak.
      total_steps: of the run, where the cosine ends.
      schedule: "cosine" or "constant" after warm-up.
      final_fraction: of the peak, where the cosine ends.
      weight_decay: on matrices only, not on norms and biases.
      clip_norm: global norm of the gradient is cut to this; 0 for no limit.
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


def learning_rate(settings: OptimiserSettings) -> optax.Schedule:
    """The learning rate as a function of the update's number, from 0."""
    s = settings
    if s.schedule == "cosine":
        return optax.warmup_cosine_decay_schedule(
            0.0 if s.warmup_steps else s.learning_rate,
            s.learning_rate,
            s.warmup_steps,
            max(s.total_steps, s.warmup_steps + 1),
            s.learning_rate * s.final_fraction,
        )
    warmup = optax.linear_schedule(0.0, s.learning_rate, max(s.warmup_steps, 1))
    return optax.join_schedules([warmup, optax.constant_schedule(s.learning_rate)], [s.warmup_steps])


def make_optimiser(settings: OptimiserSettings) -> optax.GradientTransformation:
    """The optax chain for these settings."""
    s = settings
    adamw = optax.adamw(
        learning_rate(s), b1=s.b1, b2=s.b2, weight_decay=s.weight_decay, mask=_is_matrix if s.weight_decay else None
    )
    return optax.chain(optax.clip_by_global_norm(s.clip_norm), adamw) if s.clip_norm else adamw


def _is_matrix(params: object) -> object:
    def matrix(path: tuple, leaf: jax.Array) -> bool:
        name = jax.tree_util.keystr(path)
        return not ("norm" in name or "bias" in name)

    return jax.tree_util.tree_map_with_path(matrix, params)
