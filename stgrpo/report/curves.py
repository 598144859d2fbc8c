"""Which curves of metrics.jsonl are drawn, under which titles; whatever else was logged comes after the known ones."""

import dataclasses
from collections.abc import Mapping, Sequence

from stgrpo.report.charts import Chart, Series, line_chart
from stgrpo.report.load import Row

STAGES = {"sft": "Supervised fine-tuning (SFT)", "grpo": "Group relative policy optimisation (GRPO)"}
NO_CURVES = ("collect", "evaluate")  # their figures have tables of their own


@dataclasses.dataclass(frozen=True)
class ChartSpec:
    """One chart: title, the logged keys with their labels, and how to read it."""

    title: str
    keys: Mapping[str, str]
    note: str = ""


def _one(title: str, key: str, note: str = "") -> ChartSpec:
    return ChartSpec(title, {key: "last"}, note)


_MACHINE = (
    ChartSpec(
        "Real tokens a second, a device",
        {"machine/update_tokens_per_second": "updated with", "machine/sample_tokens_per_second": "drawn"},
        "Padding is not counted; of the machine, not of the run.",
    ),
    _one("TFLOP a second, a device", "machine/update_tflops", "That the updates need: no padding, nothing twice."),
    _one("Model FLOP utilisation", "machine/mfu", "The same as a share of the most that the device can do."),
    ChartSpec("Device memory, GiB", {"machine/memory_gib": "in use", "machine/memory_peak_gib": "most so far"}),
)
KNOWN: dict[str, tuple[ChartSpec, ...]] = {
    "sft": (
        _one("Loss", "response_loss", "Mean negative log-likelihood of a response token."),
        _one("Objective", "loss", "The same, and what the prompt adds where a config gives it a weight."),
        _one("Validation loss", "validation_loss"),
        _one("Validation success rate", "validation_sr", "Whole episodes of the validation split."),
        _one("Learning rate", "learning_rate"),
        _one("Gradient norm", "grad_norm"),
        _one("Entropy", "entropy", "Nats a response token."),
        ChartSpec("Seconds a step", {"seconds": "all", "seconds_update": "update", "seconds_batch": "batch"}),
        *_MACHINE,
    ),
    "grpo": (
        _one("Reward", "reward", "Mean over all responses of a step: format plus action."),
        _one("Format reward", "reward_format", "Highest possible: the format's weight."),
        _one("Action reward", "reward_action", "Highest possible: the action's weight."),
        _one("Right actions", "action_right", "Share of the responses that earn the action reward."),
        _one("Validation success rate", "validation_sr", "Whole episodes of the validation split."),
        _one("KL to the SFT policy", "kl", "Nats a token; how far the policy has moved."),
        _one("Entropy", "entropy", "Nats a token; towards 0 the policy stops exploring."),
        _one("Gradient norm", "grad_norm", "Before clipping."),
        _one("Response length", "response_length", "Tokens, mean."),
        _one("Loss", "loss"),
        ChartSpec(
            "Groups by outcome",
            {"groups_zero_variance": "no signal", "groups_all_right": "all right", "groups_all_wrong": "all wrong"},
            "A group whose rewards are all equal teaches nothing.",
        ),
        ChartSpec(
            "Importance ratio",
            {"ratio": "mean", "ratio_mean": "mean", "ratio_first": "first update"},
            "1 on the first update after a rollout.",
        ),
        _one("Clipped fraction", "clip_fraction"),
        _one("Value loss", "value_loss", "Of PPO's critic."),
        _one("Explained variance", "explained_variance", "Of the returns by the critic's values; 1 explains all."),
        _one("Truncated responses", "truncated_fraction", "Cut at the longest length."),
        ChartSpec(
            "Tokens a step",
            {"tokens_processed": "processed", "tokens_dense": "without sharing"},
            "Each prompt is processed once a group, not once a response.",
        ),
        ChartSpec(
            "Seconds a step",
            {
                "seconds_sample": "sample",
                "seconds_update": "update",
                "seconds_reference": "reference",
                "seconds_critic": "critic",
                "seconds_reward": "reward",
                "seconds_batch": "batch",
                "seconds_validation": "validation",
            },
        ),
        _one("Learning rate", "learning_rate"),
        *_MACHINE,
    ),
}


def _series(rows: Sequence[Row], key: str, label: str) -> Series:
    return Series(label, tuple((row["step"], row[key]) for row in rows if key in row))


def _charts(rows: Sequence[Row], specs: Sequence[ChartSpec]) -> tuple[Chart, ...]:
    drawn = (
        line_chart(spec.title, [_series(rows, key, label) for key, label in spec.keys.items()], note=spec.note)
        for spec in specs
    )
    return tuple(chart for chart in drawn if chart is not None)


def _others(rows: Sequence[Row], known: Sequence[ChartSpec]) -> list[ChartSpec]:
    """A chart for each number that no known chart shows and that takes more than one value."""
    shown = {"step", *(key for spec in known for key in spec.keys)}
    keys = dict.fromkeys(key for row in rows for key in row if key not in shown)
    changing = [key for key in keys if len({row[key] for row in rows if key in row}) > 1]
    return [_one(key.replace("_", " ").capitalize(), key) for key in changing]


@dataclasses.dataclass(frozen=True)
class StageCurves:
    """The curves of one stage: how many steps were logged, the known charts, and those of whatever else was logged."""

    stage: str
    title: str
    steps: int
    charts: tuple[Chart, ...]
    others: tuple[Chart, ...]


def training_view(curves: Mapping[str, list[Row]]) -> tuple[StageCurves, ...]:
    """The training curves of every stage that was logged; SFT and GRPO stand there without steps if they were not."""
    stages = [*STAGES, *(stage for stage in curves if stage not in (*STAGES, *NO_CURVES))]
    return tuple(_stage(stage, curves.get(stage, ())) for stage in stages)


def _stage(stage: str, rows: Sequence[Row]) -> StageCurves:
    known = KNOWN.get(stage, ())
    charts, others = _charts(rows, known), _charts(rows, _others(rows, known))
    return StageCurves(stage, STAGES.get(stage, stage), len(rows), charts, others)
