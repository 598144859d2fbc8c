"""What a rollout gives a critic: advantages counted from its values, and its own updates."""

from collections.abc import Mapping, Sequence

import numpy as np
from ml_collections import ConfigDict

from stgrpo.training.checkpointing import host_scalars
from stgrpo.training.context import optimiser_settings
from stgrpo.training.critic import CriticProgram, CriticSettings, CriticState
from stgrpo.training.divergence import finite_metrics
from stgrpo.training.optimiser import make_optimiser
from stgrpo.training.packing import Batch

_EPSILON = 1e-8  # added to a variance that is divided by


def has_critic(config: ConfigDict) -> bool:
    """Whether advantages are counted from a critic's values."""
    return config.grpo.baseline == "critic"


def kl_in_reward(config: ConfigDict) -> bool:
    """Whether the KL to the reference is taken off the rewards, and not in the loss."""
    return has_critic(config) and config.critic.kl_in == "reward"


def rollouts_alone(config: ConfigDict) -> int:
    """Rollouts from which only the critic learns, at first."""
    return config.critic.warmup_rollouts if has_critic(config) else 0


def critic_settings(config: ConfigDict, updates: int) -> CriticSettings | None:
    """How the critic of a config learns in so many updates; None where there is none."""
    if not has_critic(config):
        return None
    c = config.critic
    return CriticSettings(
        make_optimiser(optimiser_settings(c, updates)),
        gamma=c.gamma,
        gae_lambda=c.gae_lambda,
        value_clip=c.value_clip,
        kl_coef=config.grpo.kl_coef if kl_in_reward(config) else 0.0,
    )


def critic_updates(
    config: ConfigDict, program: CriticProgram, state: CriticState, batches: Sequence[Batch]
) -> tuple[CriticState, list[Batch], dict[str, float]]:
    """All updates of the critic on one rollout, minibatches with the advantages before the first, and mean metrics.

    Args:
        config: of the run.
        program: of the critic.
        state: before the updates; it is donated.
        batches: minibatches with log-probabilities and the rewards of responses in place of advantages.

    Raises:
        NotFinite: an update made numbers that are none.
    """
    found = [program.estimate(state.params, batch) for batch in batches]
    means = _means([host_scalars(sums) for *_, sums in found])
    mean, factor = means["adv"], (_variance(means, "adv") + _EPSILON) ** -0.5
    counted = []
    for batch, (value, adv, returns, _) in zip(batches, found, strict=True):
        scaled = program.scale((adv, mean, factor), batch) if config.critic.whiten else adv
        counted.append(batch.with_values(value=value, adv=scaled, returns=returns))
    metrics: list[dict[str, float]] = []
    for number, batch in enumerate(counted * config.grpo.passes):
        state, values = program.update(state, batch)
        metrics.append(finite_metrics(values, number))
    figures = {name: float(np.mean([m[name] for m in metrics])) for name in metrics[0]}
    return state, counted, figures | {"explained_variance": explained_variance(means), "returns": means["returns"]}


def explained_variance(means: Mapping[str, float]) -> float:
    """1 - variance of (return - value) / variance of the returns, over tokens; 0 where returns do not vary.

    The unscaled advantage is the return less the value.
    """
    returns, errors = _variance(means, "returns"), _variance(means, "adv")
    return 1.0 - errors / returns if returns > _EPSILON else 0.0


def _means(sums: Sequence[Mapping[str, float]]) -> dict[str, float]:
    tokens = max(sum(s["tokens"] for s in sums), 1.0)
    return {name: sum(s[name] for s in sums) / tokens for name in sums[0] if name != "tokens"}


def _variance(means: Mapping[str, float], name: str) -> float:
    return max(means[f"{name}_square"] - means[name] ** 2, 0.0)
