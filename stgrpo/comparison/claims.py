"""What a paper claims of its method, held to runs: GRPO above SFT, and what one task teaches for another.

Intervals are for other layouts and, where there are several trainings, for other trainings too.
"""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from stgrpo.comparison.cells import Cell, shared_layouts
from stgrpo.evaluation.metrics import wilson_interval
from stgrpo.evaluation.statistics.crossed import bootstrap_pooled
from stgrpo.evaluation.statistics.paired import paired_difference
from stgrpo.report.text import task_title

HEADINGS = ("claim", "ours [95 %]", "trainings", "layouts")
Claim = tuple[str, str, str, str]


def claims(cells: Mapping[tuple[str, str, str], Cell], tasks: Sequence[str]) -> Iterator[Claim]:
    """The rows for one recipe; those alone that runs say something of.

    Args:
        cells: by policy, the one task that it was trained on, and the task that it was evaluated on.
        tasks: from the simplest to the most complex.
    """
    gains = {task: gain for task in tasks if (gain := _gain(cells, task)) is not None}
    for task, gain_SK in gains.items():
        yield _row(f"GRPO above SFT: {task_title(task).lower()}", [gain_SK], signed=True)
    if len(gains) > 1:
        yield _row(f"GRPO above SFT: these {len(gains)} tasks together", [*gains.values()], signed=True)
    for what, harder in (("simpler", False), ("more complex", True)):
        found = [*_transfers(cells, tasks, harder=harder)]
        if found:
            trainings = {training for trainings, _ in found for training in trainings}
            name = f"SR after GRPO on tasks that are {what} than the one trained on"
            yield _row(name, [values_SK for _, values_SK in found], trainings=len(trainings))


def _gain(cells: Mapping[tuple[str, str, str], Cell], task: str) -> np.ndarray | None:
    """[seeds, layouts] by how much GRPO is above SFT on the task of its training; None where one was not played."""
    sft, grpo = (cells.get((policy, task, task)) for policy in ("sft", "grpo"))
    if sft is None or grpo is None or sft.seeds != grpo.seeds:
        return None
    layouts = shared_layouts((sft, grpo))
    return grpo.successes(layouts) - sft.successes(layouts) if layouts else None


def _transfers(
    cells: Mapping[tuple[str, str, str], Cell], tasks: Sequence[str], *, harder: bool
) -> Iterator[tuple[list[tuple[str, int | None]], np.ndarray]]:
    """Of each task the trainings on others that are simpler than it, or more complex, and their [trainings, layouts].

    All play the same layouts of a task, so these count once.
    """
    for number, task in enumerate(tasks):
        others = tasks[:number] if harder else tasks[number + 1 :]
        found = {other: cell for other in others if (cell := cells.get(("grpo", other, task))) is not None}
        if found and (layouts := shared_layouts(found.values())):
            trainings = [(other, seed) for other, cell in found.items() for seed in cell.seeds]
            yield trainings, np.concatenate([cell.successes(layouts) for cell in found.values()])


def _row(what: str, strata_SK: Sequence[np.ndarray], *, trainings: int = 0, signed: bool = False) -> Claim:
    """A claim by strata of [trainings, layouts]; so many trainings where some are in several strata."""
    found = bootstrap_pooled(strata_SK)
    low, high = found.low, found.high
    count = sum(values_SK.shape[1] for values_SK in strata_SK)
    if all(np.ptp(values_SK) == 0 for values_SK in strata_SK):  # the same everywhere: a bootstrap sees no spread
        value_K = np.concatenate([values_SK[0] for values_SK in strata_SK])
        exact = paired_difference((value_K < 0).tolist(), (value_K > 0).tolist())
        low, high = (exact.low, exact.high) if signed else wilson_interval(int(value_K.sum()), count)
    number = "{:+.3f} [{:+.3f}, {:+.3f}]" if signed else "{:.3f} [{:.3f}, {:.3f}]"
    return what, number.format(found.estimate, low, high), str(trainings or sum(map(len, strata_SK))), str(count)
