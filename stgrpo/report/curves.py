"""Which curves of metrics.jsonl are drawn, under which titles; whatever else was logged comes after the known ones."""

import dataclasses
from collections.abc import Mapping, Sequence

from stgrpo.report.charts import Series, line_chart
from stgrpo.report.load import Row
from stgrpo.report.text import absent, esc

STAGES = {"sft": "Supervised fine-tuning (SFT)", "grpo": "Group relative policy optimisation (GRPO)"}


@dataclasses.dataclass(frozen=True)
class ChartSpec:
    """One chart: title, the logged keys with their labels, and how to read it."""

    title: str
    keys: Mapping[str, str]
    note: str = ""


def _one(title: str, key: str, note: str = "") -> ChartSpec:
    return ChartSpec(title, {key: "last"}, note)


KNOWN: dict[str, tuple[ChartSpec, ...]] = {
    "sft": (
        _one("Loss", "response_loss", "Mean negative log-likelihood of a response token."),
        _one("Objective", "loss", "The same, and what the prompt adds where a config gives it a weight."),
        _one("Validation loss", "validation_loss"),
        _one("Validation success rate", "validation_sr", "Whole episodes in validation kitchens."),
        _one("Learning rate", "learning_rate"),
        _one("Gradient norm", "grad_norm"),
        _one("Entropy", "entropy", "Nats a response token."),
        ChartSpec("Seconds a step", {"seconds": "all", "seconds_update": "update"}),
    ),
    "grpo": (
        _one("Reward", "reward", "Mean over all responses of a step: format plus action."),
        _one("Format reward", "reward_format", "Highest possible: the format's weight."),
        _one("Action reward", "reward_action", "Highest possible: the action's weight."),
        _one("Right actions", "action_right", "Share of the responses that earn the action reward."),
        _one("Validation success rate", "validation_sr", "Whole episodes in validation kitchens."),
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
                "seconds_reward": "reward",
                "seconds_validation": "validation",
            },
        ),
        _one("Learning rate", "learning_rate"),
    ),
}


def _series(rows: Sequence[Row], key: str, label: str) -> Series:
    return Series(label, tuple((row["step"], row[key]) for row in rows if key in row))


def _chart(rows: Sequence[Row], spec: ChartSpec) -> str:
    return line_chart(spec.title, [_series(rows, key, label) for key, label in spec.keys.items()], note=spec.note)


def _others(rows: Sequence[Row], known: Sequence[ChartSpec]) -> list[ChartSpec]:
    """A chart for each number that no known chart shows and that takes more than one value."""
    shown = {"step", *(key for spec in known for key in spec.keys)}
    keys = dict.fromkeys(key for row in rows for key in row if key not in shown)
    changing = [key for key in keys if len({row[key] for row in rows if key in row}) > 1]
    return [_one(key.replace("_", " ").capitalize(), key) for key in changing]


def _stage(stage: str, rows: Sequence[Row]) -> str:
    known = KNOWN.get(stage, ())
    charts = "".join(_chart(rows, spec) for spec in known)
    others = "".join(_chart(rows, spec) for spec in _others(rows, known))
    more = f'<details><summary>Everything else that was logged</summary><div class="charts">{others}</div></details>'
    title = STAGES.get(stage, stage)
    return (
        f'<h3>{esc(title)} <small>{len(rows)} logged steps</small></h3><div class="charts">{charts}</div>'
        f"{more if others else ''}"
    )


def _no_stage(stage: str) -> str:
    missing = absent("No curve yet.", f"metrics.jsonl has no step of stage “{stage}”.")
    return f"<h3>{esc(STAGES[stage])}</h3>{missing}"


def curves_section(curves: Mapping[str, list[Row]]) -> str:
    """The training curves of every stage that was logged; SFT and GRPO are named where they are missing."""
    stages = [*STAGES, *(stage for stage in curves if stage not in STAGES)]
    parts = [_stage(stage, curves[stage]) if curves.get(stage) else _no_stage(stage) for stage in stages]
    hint = (
        "<p>Faint: as measured, neighbouring steps averaged where there are many; strong: running mean. Point at a "
        "chart to read its values.</p>"
    )
    return f'<section id="training"><h2>Training</h2>{hint}{"".join(parts)}</section>'
