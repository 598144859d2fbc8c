"""Tables in the form of a paper's: its numbers, and beneath each ours, or that there is none.

A paper trains each policy on one task alone. So runs of several tasks are in none of these tables, and where runs
differ in more than their tasks and seeds (a recipe each) every recipe has a row of its own.
"""

import dataclasses
from collections.abc import Iterator, Sequence

from stgrpo.comparison.cells import Cell, Row, cells_of
from stgrpo.comparison.claims import HEADINGS, claims
from stgrpo.comparison.compare import Comparison
from stgrpo.comparison.runs import Group, differing
from stgrpo.errors import UserError
from stgrpo.evaluation.records import STAGE_LABELS
from stgrpo.protocol import Environment, Published, PublishedResult, PublishedTransfer
from stgrpo.report.text import task_title

NOT_RUN = "not run"
TRAINED = ("sft", "grpo")
_NO_RECIPE = ("seed", "env.tasks", "evaluation.tasks", "evaluation.layouts", "evaluation.suites")
FIGURES = {"sr": "SR", "asat": "ASAT", "asst": "ASST"}


@dataclasses.dataclass(frozen=True)
class PaperTable:
    """A table as it is shown: a title, headings, rows of as many cells."""

    title: str
    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclasses.dataclass(frozen=True)
class Ours:
    """A row of a comparison, and what it is a result of.

    Attributes:
        row: the figures.
        cell: what they are of.
        trained: the one task that its policy was trained on; empty for several, and for policies that were not trained.
        recipe: what tells it from other recipes, for people; empty where there is but one.
    """

    row: Row
    cell: Cell
    trained: str
    recipe: str

    @property
    def label(self) -> str:
        """Of its policy."""
        return STAGE_LABELS.get(self.row.policy, self.row.policy) + (f", {self.recipe}" if self.recipe else "")


def paper_tables(comparison: Comparison, groups: Sequence[Group]) -> tuple[PaperTable, ...]:
    """The tables, for each set of layouts that the runs were evaluated on.

    Raises:
        UserError: the runs played no environment with published results.
    """
    played = (run.data.played.environment for group in groups for run in group.runs)
    environment = next((found for found in played if isinstance(found, Published)), None)
    if environment is None or not published_tasks(environment):
        raise UserError("--paper: these runs played no environment with published results: leave it out")
    ours = list(_ours(comparison, groups))
    suites = dict.fromkeys(row.suite for row in comparison.rows)
    return tuple(
        table
        for suite in suites or ("",)
        for table in tables_of(environment, [found for found in ours if found.row.suite == suite], suite)
    )


def published_tasks(environment: Environment) -> tuple[str, ...]:
    """The tasks that a paper has results on, in the environment's order."""
    assert isinstance(environment, Published)
    return tuple(task for task in environment.tasks() if environment.published_results(task))


def tables_of(environment: Environment, ours: Sequence[Ours], suite: str = "") -> Iterator[PaperTable]:
    """The main table; where a paper has one, the matrix of tasks trained and evaluated on, a figure each; its claims.

    Args:
        environment: with published results.
        ours: of one set of layouts.
        suite: its name; empty where there is none.
    """
    tasks, where = published_tasks(environment), f", ours on {suite} layouts" if suite else ""
    headings = tuple(map(task_title, tasks))
    rows = tuple(_main_rows(environment, tasks, ours))
    yield PaperTable(f"SR / ASAT / ASST, trained on the task alone{where}", ("policy", *headings), rows)
    if not isinstance(environment, PublishedTransfer):
        return
    recipes = dict.fromkeys(found.recipe for found in ours if found.row.policy == "grpo") or ("",)
    for figure, name in FIGURES.items():
        rows = tuple(_transfer_rows(environment, tasks, ours, (figure, tuple(recipes))))
        yield PaperTable(f"{name} after GRPO, trained on (row), evaluated on (column){where}", ("", *headings), rows)
    if rows := tuple(_claims(tasks, ours, tuple(recipes))):
        yield PaperTable(f"What the paper claims{where}", HEADINGS, rows)


def _claims(tasks: Sequence[str], ours: Sequence[Ours], recipes: Sequence[str]) -> Iterator[tuple[str, ...]]:
    for recipe in recipes:
        cells = {(f.row.policy, f.trained, f.row.task): f.cell for f in ours if f.trained and f.recipe == recipe}
        for what, *figures in claims(cells, tasks):
            yield (f"{what}, {recipe}" if recipe else what, *figures)


def _ours(comparison: Comparison, groups: Sequence[Group]) -> Iterator[Ours]:
    by_label = {group.label: group for group in groups}
    alone = {label: tasks[0] for label, group in by_label.items() if len(tasks := _tasks(group)) == 1}
    trained = dict.fromkeys(row.group for row in comparison.rows if row.policy in TRAINED and row.group in alone)
    names = _recipes([by_label[label] for label in trained])
    for row, cell in zip(comparison.rows, cells_of(groups, []), strict=True):  # a row is made of each cell
        if row.policy not in TRAINED:
            yield Ours(row, cell, "", "")
        elif row.group in trained:
            yield Ours(row, cell, alone[row.group], names[row.group])


def _tasks(group: Group) -> Sequence[str]:
    return group.runs[0].fields.get("env.tasks", ())


def _recipes(groups: Sequence[Group]) -> dict[str, str]:
    """What each group's recipe is called, by the group's label."""
    fields = [name for name in differing([group.runs for group in groups]) if name not in _NO_RECIPE]
    last = [name.rpartition(".")[2] for name in fields]
    shown = {name: word if last.count(word) == 1 else name for name, word in zip(fields, last, strict=True)}
    return {
        group.label: ", ".join(f"{shown[name]}={group.runs[0].fields.get(name, '?')}" for name in fields)
        for group in groups
    }


def _main_rows(environment: Environment, tasks: Sequence[str], ours: Sequence[Ours]) -> Iterator[tuple[str, ...]]:
    assert isinstance(environment, Published)
    there = {task: environment.published_results(task)[0].rows for task in tasks}
    mine = [found for found in ours if found.trained in ("", found.row.task)]
    named = set()
    for number, first in enumerate(there[tasks[0]]):
        named.add(first.ours)
        yield (f"{first.policy}: paper", *(_published(there[task][number]) for task in tasks))
        yield from _our_rows([f for f in mine if f.row.policy == first.ours], tasks, f"{first.policy}: ours")
    yield from _our_rows([found for found in mine if found.row.policy not in named], tasks, "")


def _our_rows(mine: Sequence[Ours], tasks: Sequence[str], absent: str) -> Iterator[tuple[str, ...]]:
    """A row a policy and recipe; one that says that there is none, where it is named and there is none."""
    labels = dict.fromkeys(found.label for found in mine)
    for label in labels:
        cells = {found.row.task: _measured(found.row) for found in reversed(mine) if found.label == label}
        yield (f"{label}: ours", *(cells.get(task, NOT_RUN) for task in tasks))
    if absent and not labels:
        yield (absent, *(NOT_RUN,) * len(tasks))


def _transfer_rows(
    environment: PublishedTransfer, tasks: Sequence[str], ours: Sequence[Ours], of: tuple[str, Sequence[str]]
) -> Iterator[tuple[str, ...]]:
    figure, recipes = of
    mine = {(f.recipe, f.trained, f.row.task): f.row for f in reversed(ours) if f.row.policy == "grpo"}
    for trained in tasks:
        there = (environment.published_transfer(trained, task) for task in tasks)
        yield (f"{task_title(trained)}: paper", *(_printed(found, figure) for found in there))
        for recipe in recipes:
            rows = [mine.get((recipe, trained, task)) for task in tasks]
            cells = (NOT_RUN if row is None else _cell(row, figure) for row in rows)
            yield (f"{task_title(trained)}{f', {recipe}' if recipe else ''}: ours", *cells)


def _published(row: PublishedResult) -> str:
    return " / ".join(_printed(row, figure) for figure in FIGURES)


def _printed(row: PublishedResult | None, figure: str) -> str:
    """A figure with as many digits as the paper has."""
    value = None if row is None else getattr(row, figure)
    return "–" if value is None else f"{value:g}".removeprefix("0") or "0"


def _measured(row: Row) -> str:
    return " / ".join(_cell(row, figure) for figure in FIGURES)


def _cell(row: Row, figure: str) -> str:
    """A figure of ours; a rate with its interval, which is for other trainings too where there are several."""
    low, high = row.over_both or row.over_layouts
    bounds = f" [{_number(low, 'sr')}, {_number(high, 'sr')}]" if figure == "sr" else ""
    return _number(getattr(row, figure), figure) + bounds


def _number(value: float | None, figure: str) -> str:
    if value is None:
        return "–"
    return f"{value:.2f}".removeprefix("0") if figure == "sr" else f"{value:.1f}"
