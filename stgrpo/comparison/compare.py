"""The figures of a comparison: rates with intervals and spread, and paired differences."""

import dataclasses
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from stgrpo.comparison.cells import Cell, Row, cells_of, shared_layouts
from stgrpo.comparison.runs import Group, differing
from stgrpo.evaluation.metrics import mcnemar
from stgrpo.evaluation.statistics.crossed import Interval, bootstrap_difference
from stgrpo.evaluation.statistics.paired import equivalence_p_value, holm, paired_difference
from stgrpo.workdir.keys import differences

_BOOTSTRAP = "bootstrap over seeds and layouts"


@dataclasses.dataclass(frozen=True)
class Contrast:
    """How much more often one policy succeeds than another on the same layouts.

    Attributes:
        suite, task: where.
        a, b: which two, as POLICY of GROUP.
        layouts: that both have played.
        difference: success rate of b minus that of a, with its interval.
        method: how the interval and the p-value were made.
        p_value: two-sided; None where there is none.
        p_holm: adjusted for all contrasts of the comparison that have one (Holm).
        equivalent: whether they are the same within the margin, at 5 %; None without a margin.
    """

    suite: str
    task: str
    a: str
    b: str
    layouts: int
    difference: Interval
    method: str
    p_value: float | None
    p_holm: float | None
    equivalent: bool | None


@dataclasses.dataclass(frozen=True)
class Comparison:
    """All figures.

    Attributes:
        groups: label and names of the runs of each.
        differ: the fields in which the groups' configs differ.
        rows, contrasts: see there.
        notes: what could not be read or paired, a sentence each.
        margin: of equivalence; 0 for none.
    """

    groups: Mapping[str, tuple[str, ...]]
    differ: tuple[str, ...]
    rows: tuple[Row, ...]
    contrasts: tuple[Contrast, ...]
    notes: tuple[str, ...]
    margin: float


def compare(groups: Sequence[Group], margin: float = 0.0) -> Comparison:
    """Compares all groups with the first, and in each group GRPO with SFT.

    Args:
        groups: at least one.
        margin: the least difference of success rates that matters; 0 where no equivalence is to be claimed.
    """
    notes = [f"{run.name}: {note}" for group in groups for run in group.runs for note in run.data.notes]
    cells = list(cells_of(groups, notes))
    rows = tuple(cell.row() for cell in cells)
    notes += _different_protocols(cells)
    pairs = list(_pairs(cells, groups, notes))
    contrasts = [_contrast(a, b, margin) for a, b in pairs]
    known = [c.p_value for c in contrasts if c.p_value is not None]
    adjusted = iter(holm(known))
    contrasts = [dataclasses.replace(c, p_holm=None if c.p_value is None else next(adjusted)) for c in contrasts]
    return Comparison(
        {group.label: tuple(run.name for run in group.runs) for group in groups},
        tuple(differing([group.runs for group in groups])),
        rows,
        tuple(contrasts),
        tuple(notes),
        margin,
    )


def _different_protocols(cells: Sequence[Cell]) -> Iterator[str]:
    """What is not the same between evaluations of one task on one set of layouts, a sentence each."""
    first: dict[tuple[str, str], tuple[str, dict[str, Any]]] = {}
    for cell in cells:
        for protocol in cell.protocols:
            whose, other = first.setdefault((cell.suite, cell.task), (cell.name, protocol))
            if protocol != other:
                said = differences(other, protocol)
                yield f"{cell.task} ({cell.suite}): {cell.name} was played by another protocol than {whose} ({said})"
                break


def _pairs(cells: Sequence[Cell], groups: Sequence[Group], notes: list[str]) -> Iterator[tuple[Cell, Cell]]:
    """SFT and GRPO of each group; of each policy the first group and every other one, but for the very same weights."""
    for a, b in itertools.combinations(cells, 2):
        same_place = (a.suite, a.task) == (b.suite, b.task)
        trained = a.group is b.group and (a.policy, b.policy) == ("sft", "grpo")
        beside = a.policy == b.policy and a.group is groups[0]
        if same_place and (trained or (beside and not (a.weights and a.weights == b.weights))):
            if shared_layouts((a, b)):
                yield a, b
            else:
                notes.append(f"{a.name} and {b.name} have no layout of {a.task} ({a.suite}) in common: not paired")


def _contrast(a: Cell, b: Cell, margin: float) -> Contrast:
    layouts = shared_layouts((a, b))
    values_a, values_b = a.successes(layouts), b.successes(layouts)
    if len(values_a) == len(values_b) == 1:
        found, method, p_value, same = _of_two(values_a[0] > 0, values_b[0] > 0, margin)
    else:
        paired = a.seeds == b.seeds and None not in a.seeds
        found, method, p_value, same = _of_many(values_a, values_b, margin, paired=paired)
    equivalent = same if margin else None
    return Contrast(a.suite, a.task, a.name, b.name, len(layouts), found, method, p_value, None, equivalent)


def _of_two(a: np.ndarray, b: np.ndarray, margin: float) -> tuple[Interval, str, float | None, bool]:
    first, second = a.tolist(), b.tolist()
    found = paired_difference(first, second)
    same = bool(margin) and equivalence_p_value(first, second, margin) < 0.05
    method = "Tango's score interval, exact McNemar test"
    return Interval(found.estimate, found.low, found.high), method, mcnemar(first, second).p_value, same


def _of_many(
    a_SK: np.ndarray, b_SK: np.ndarray, margin: float, *, paired: bool
) -> tuple[Interval, str, float | None, bool]:
    from scipy.stats import ttest_ind, ttest_rel

    if np.ptp(a_SK) == np.ptp(b_SK) == 0.0:  # every training did the same everywhere: a bootstrap sees no spread
        return _of_two(a_SK[0] > 0, b_SK[0] > 0, margin)
    found = bootstrap_difference(a_SK, b_SK, paired=paired)
    same = bool(margin) and _within(margin, bootstrap_difference(a_SK, b_SK, paired=paired, confidence=0.9))
    means_a, means_b = a_SK.mean(axis=1), b_SK.mean(axis=1)
    if min(len(means_a), len(means_b)) < 2:
        return found, f"{_BOOTSTRAP}, no test of a single training", None, False
    moves = means_b - means_a if paired else np.concatenate([means_a - means_a.mean(), means_b - means_b.mean()])
    if np.ptp(moves) < 1e-12:  # every training says the same, and the test has no unit
        return found, f"{_BOOTSTRAP}, no test, as the seeds do not differ", None, same
    tested = ttest_rel(means_b, means_a) if paired else ttest_ind(means_b, means_a, equal_var=False)
    same = same and _within(margin, tested.confidence_interval(0.9))  # wide where seeds are few, as no bootstrap is
    method = f"{_BOOTSTRAP}, {'paired' if paired else 'Welch’s'} t test over seeds"
    return found, method, float(tested.pvalue), same


def _within(margin: float, interval: Any) -> bool:
    """Whether an interval, ours or scipy's, lies between -margin and margin."""
    return bool(-margin < interval.low and interval.high < margin)
