"""The figures of a comparison: rates with intervals and spread, and paired differences."""

import collections
import dataclasses
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from stgrpo.comparison.runs import Group, Run, differing
from stgrpo.evaluation.metrics import mcnemar, summarise, wilson_interval
from stgrpo.evaluation.records import FAILURES, STAGE_LABELS, Episode, played
from stgrpo.evaluation.statistics.crossed import (
    Interval,
    Spread,
    Variance,
    bootstrap,
    bootstrap_difference,
    spread,
    variance_parts,
)
from stgrpo.evaluation.statistics.paired import equivalence_p_value, holm, paired_difference
from stgrpo.files import json_digest
from stgrpo.workdir.keys import differences

_BOOTSTRAP = "bootstrap over seeds and layouts"
Layout = tuple[str, int]
"""A layout, and which of its plays, where one was played more than once."""


@dataclasses.dataclass(frozen=True)
class Row:
    """One policy of one group on one task and set of layouts.

    Attributes:
        suite, task, policy, group: which.
        seeds: of the trainings; None for one that is not known.
        layouts: that all of them have played, on which the rates are.
        sr: success rate over trainings and layouts.
        over_layouts: its interval for other layouts and these trainings: Wilson's of one training, else by bootstrap,
            and by Wilson again where all have the same outcome in every layout, so that a bootstrap sees no spread.
        over_seeds: how far the trainings lie apart; None of one.
        over_both: its interval for other layouts and other trainings, made in the same way; None of one.
        variance: of a single outcome, its parts; None of one training.
        asat, asst, spl: as `evaluation.metrics` has them, over all episodes.
        failures: episodes that failed, by how.
        dropped: episodes that are in no figure, as a server failed them.
        protocols: hashes of what was written down before its episodes were played, in what this task has of it; none
            where nothing was.
    """

    suite: str
    task: str
    policy: str
    group: str
    seeds: tuple[int | None, ...]
    layouts: int
    sr: float
    over_layouts: tuple[float, float]
    over_seeds: Spread | None
    over_both: tuple[float, float] | None
    variance: Variance | None
    asat: float | None
    asst: float | None
    spl: float | None
    failures: Mapping[str, int]
    dropped: int
    protocols: tuple[str, ...] = ()


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
    cells = list(_cells(groups, notes))
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


@dataclasses.dataclass(frozen=True)
class _Cell:
    """The episodes of one policy of one group on one task and set of layouts, of each training by layout."""

    suite: str
    task: str
    policy: str
    group: Group
    runs: tuple[Run, ...]
    episodes: tuple[tuple[Episode, ...], ...]
    by_layout: tuple[Mapping[Layout, Episode], ...]

    @property
    def seeds(self) -> tuple[int | None, ...]:
        return tuple(run.seed for run in self.runs)

    @property
    def name(self) -> str:
        return f"{STAGE_LABELS.get(self.policy, self.policy)}, {self.group.label}"

    @property
    def weights(self) -> list[tuple[str, str]]:
        """What tells the weights of its trainings from all others; empty where one has nothing that does."""
        settings = [run.data.evaluations[f"{self.policy}_{self.suite}"].settings for run in self.runs]
        found = [(str(s.get("base", "")), str(s.get("fingerprint", ""))) for s in settings]
        return found if all(fingerprint for _, fingerprint in found) else []

    @property
    def protocols(self) -> list[dict[str, Any]]:
        """What was said of its evaluations before they were played, of those that have it."""
        name = f"{self.policy}_{self.suite}"
        lines = (run.data.registrations.get((name, run.data.evaluations[name].protocol)) for run in self.runs)
        return [line.of_task(self.task) for line in lines if line is not None]

    @property
    def common(self) -> list[Layout]:
        """Layouts that all trainings have played."""
        return [layout for layout in self.by_layout[0] if all(layout in other for other in self.by_layout)]

    def successes(self, layouts: Sequence[Layout]) -> np.ndarray:
        """[seeds, layouts] float."""
        return np.array([[float(found[layout].success) for layout in layouts] for found in self.by_layout])

    def row(self) -> Row:
        values_SK = self.successes(self.common)
        every = [episode for episodes in self.episodes for episode in episodes]
        summary, several = summarise(every), len(self.runs) > 1
        wilson = wilson_interval(int(values_SK[0].sum()), values_SK.shape[1])
        if several and np.ptp(values_SK) > 0:
            layouts, both = (_ends(bootstrap(values_SK, seeds=seeds)) for seeds in (False, True))
        else:
            layouts, both = wilson, wilson if several else None
        return Row(
            suite=self.suite,
            task=self.task,
            policy=self.policy,
            group=self.group.label,
            seeds=self.seeds,
            layouts=values_SK.shape[1],
            sr=float(values_SK.mean()),
            over_layouts=layouts,
            over_seeds=spread(values_SK) if several else None,
            over_both=both,
            variance=variance_parts(values_SK[:, :, None]) if several and values_SK.shape[1] > 1 else None,
            asat=summary["asat"],
            asst=summary["asst"],
            spl=summary["spl"],
            failures={kind: count for kind in FAILURES if (count := summary["failures"][kind])},
            dropped=summary["server_failures"],
            protocols=tuple(dict.fromkeys(map(json_digest, self.protocols))),
        )


def _ends(interval: Interval) -> tuple[float, float]:
    return interval.low, interval.high


def _cells(groups: Sequence[Group], notes: list[str]) -> Iterator[_Cell]:
    """All that can be shown, by set of layouts and task, the groups in their order."""
    keys: dict[tuple[str, str, str], None] = {}
    for run in (run for group in groups for run in group.runs):
        for name, evaluation in run.data.evaluations.items():
            policy, _, suite = name.partition("_")
            keys |= dict.fromkeys((suite, task, policy) for task in evaluation.tasks)
        if not run.data.evaluations:
            notes.append(f"{run.name} has no evaluation yet: it is in the curves alone")
    order = list(STAGE_LABELS)
    rank = {key: order.index(key[2]) if key[2] in order else len(order) for key in keys}
    for suite, task, policy in sorted(keys, key=lambda key: (key[0], key[1], rank[key], key[2])):
        for group in groups:
            if cell := _cell(group, (suite, task, policy), notes):
                yield cell


def _cell(group: Group, key: tuple[str, str, str], notes: list[str]) -> _Cell | None:
    suite, task, policy = key
    runs, episodes, by_layout = [], [], []
    for run in group.runs:
        evaluation = run.data.evaluations.get(f"{policy}_{suite}")
        mine = tuple(e for e in evaluation.episodes if e.task == task) if evaluation else ()
        if played(mine):
            runs.append(run)
            episodes.append(mine)
            by_layout.append(_by_layout(played(mine)))
        elif run.data.evaluations:
            notes.append(f"{run.name} has no evaluation {policy}_{suite} of {task}: it is not in that row")
    if not runs:
        return None
    cell = _Cell(suite, task, policy, group, tuple(runs), tuple(episodes), tuple(by_layout))
    shared, most = len(cell.common), max(map(len, by_layout))
    where = f"{policy}_{suite} of {task}, {group.label}"
    if not shared:
        notes.append(f"{where}: its trainings have no layout in common, so they are in no row")
        return None
    if shared < most:
        notes.append(
            f"{where}: {most - shared} of {most} layouts are left out, which not all its trainings have played"
        )
    return cell


def _different_protocols(cells: Sequence[_Cell]) -> Iterator[str]:
    """What is not the same between evaluations of one task on one set of layouts, a sentence each."""
    first: dict[tuple[str, str], tuple[str, dict[str, Any]]] = {}
    for cell in cells:
        for protocol in cell.protocols:
            whose, other = first.setdefault((cell.suite, cell.task), (cell.name, protocol))
            if protocol != other:
                said = differences(other, protocol)
                yield f"{cell.task} ({cell.suite}): {cell.name} was played by another protocol than {whose} ({said})"
                break


def _by_layout(episodes: Sequence[Episode]) -> dict[Layout, Episode]:
    counts: collections.Counter[str] = collections.Counter()
    found = {}
    for episode in episodes:
        found[episode.layout, counts[episode.layout]] = episode
        counts[episode.layout] += 1
    return found


def _pairs(cells: Sequence[_Cell], groups: Sequence[Group], notes: list[str]) -> Iterator[tuple[_Cell, _Cell]]:
    """SFT and GRPO of each group; of each policy the first group and every other one, but for the very same weights."""
    for a, b in itertools.combinations(cells, 2):
        same_place = (a.suite, a.task) == (b.suite, b.task)
        trained = a.group is b.group and (a.policy, b.policy) == ("sft", "grpo")
        beside = a.policy == b.policy and a.group is groups[0]
        if same_place and (trained or (beside and not (a.weights and a.weights == b.weights))):
            if _shared(a, b):
                yield a, b
            else:
                notes.append(f"{a.name} and {b.name} have no layout of {a.task} ({a.suite}) in common: not paired")


def _shared(a: _Cell, b: _Cell) -> list[Layout]:
    there = set(b.common)
    return [layout for layout in a.common if layout in there]


def _contrast(a: _Cell, b: _Cell, margin: float) -> Contrast:
    layouts = _shared(a, b)
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
