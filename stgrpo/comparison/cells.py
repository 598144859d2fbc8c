"""What one policy of runs of the same config did on one task: the episodes, and the figures of them."""

import collections
import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from stgrpo.comparison.runs import Group, Run
from stgrpo.evaluation.metrics import summarise, wilson_interval
from stgrpo.evaluation.records import FAILURES, STAGE_LABELS, Episode, played
from stgrpo.evaluation.statistics.crossed import Interval, Spread, Variance, bootstrap, spread, variance_parts
from stgrpo.files import json_digest

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
class Cell:
    """The episodes of one policy of one group on one task and set of layouts.

    Attributes:
        suite, task, policy: which.
        group: whose trainings these are.
        runs: those of the group that have played it.
        episodes: of each run, all of them.
        by_layout: of each run those that say something of the policy.
    """

    suite: str
    task: str
    policy: str
    group: Group
    runs: tuple[Run, ...]
    episodes: tuple[tuple[Episode, ...], ...]
    by_layout: tuple[Mapping[Layout, Episode], ...]

    @property
    def seeds(self) -> tuple[int | None, ...]:
        """Of its trainings."""
        return tuple(run.seed for run in self.runs)

    @property
    def name(self) -> str:
        """For people: POLICY, GROUP."""
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
        """Its figures."""
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


def shared_layouts(cells: Iterable[Cell]) -> list[Layout]:
    """The layouts that all trainings of all cells have played, in the order of the first; at least one cell."""
    first, *others = (cell.common for cell in cells)
    there = [set(common) for common in others]
    return [layout for layout in first if all(layout in layouts for layouts in there)]


def _ends(interval: Interval) -> tuple[float, float]:
    return interval.low, interval.high


def cells_of(groups: Sequence[Group], notes: list[str]) -> Iterator[Cell]:
    """All that can be shown, by set of layouts and task, the groups in their order; notes get what cannot be."""
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


def _cell(group: Group, key: tuple[str, str, str], notes: list[str]) -> Cell | None:
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
    cell = Cell(suite, task, policy, group, tuple(runs), tuple(episodes), tuple(by_layout))
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


def _by_layout(episodes: Sequence[Episode]) -> dict[Layout, Episode]:
    counts: collections.Counter[str] = collections.Counter()
    found = {}
    for episode in episodes:
        found[episode.layout, counts[episode.layout]] = episode
        counts[episode.layout] += 1
    return found
