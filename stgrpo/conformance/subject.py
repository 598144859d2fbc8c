"""What is checked of an environment: some of its layouts, and a walk through each."""

import itertools
import random
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import cached_property
from itertools import zip_longest

from stgrpo import envs
from stgrpo.envs.sessions import open_session
from stgrpo.errors import UserError
from stgrpo.protocol import SPLITS, Environment, InvalidAction, Observed, Problem, PureEnvironment

WALK = 40
"""Steps of a walk, unless the episode ends before."""


class Failed(Exception):
    """An environment does not do what the protocol says: where, and what it does instead."""


class NotApplicable(Exception):
    """There is nothing to check, and why."""


@dataclass(frozen=True)
class Scope:
    """How much is looked at.

    Attributes:
        tasks: of the environment; empty for all.
        families: of layouts; empty for all.
        layouts: of each task, family, split and seed.
        seeds: that lists of layouts begin at.
        states: a search for the goal from one state gives up after so many.
        seconds: a check leaves out what it has not begun after so long.
    """

    tasks: tuple[str, ...] = ()
    families: tuple[str, ...] = ()
    layouts: int = 2
    seeds: tuple[int, ...] = (0,)
    states: int = 5000
    seconds: float = 30.0


@dataclass(frozen=True)
class Case:
    """One layout that an environment lists."""

    task: str
    family: str
    split: str
    layout: str

    def __str__(self) -> str:
        return f"{self.task} {self.layout}"


@dataclass(frozen=True)
class Walk:
    """What a walk showed: `seen[i]` is where the action i was taken; the last is where it ended."""

    seen: tuple[Observed, ...]
    actions: tuple[str, ...]


@dataclass
class Listed:
    """What an environment listed.

    Attributes:
        cases: of all tasks, families and splits, the first of each before the second of any.
        refused: what the environment said where it has too few layouts, or none without data.
        left_out: how many lists were not asked for, as the time was up.
        short: lists that have not as many layouts as were asked for.
    """

    cases: list[Case] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    left_out: int = 0
    short: list[str] = field(default_factory=list)


class Subject:
    """An environment under examination.

    Args:
        name: of the environment.
        scope: how much is looked at.
        engine: of the environment.
        data: where its data are, if it reads any.

    Raises:
        UserError: there is no such environment, or it cannot be imported.
    """

    def __init__(self, name: str, scope: Scope, *, engine: str = envs.OURS, data: str = ""):
        self.name, self.scope, self.engine, self.data = name, scope, engine, data
        self.environment = self.make()
        self._walks: dict[Case, Walk] = {}
        self._given = 0

    def make(self) -> Environment:
        """Returns the environment anew."""
        return envs.get(self.name, engine=self.engine, data=self.data)

    @cached_property
    def tasks(self) -> tuple[str, ...]:
        """The tasks that are looked at."""
        return self.scope.tasks or tuple(self.environment.tasks())

    @cached_property
    def families(self) -> tuple[str, ...]:
        """The families that are looked at."""
        return self.scope.families or tuple(self.environment.families())

    @cached_property
    def listed(self) -> Listed:
        """The layouts that are looked at."""
        listed, lists, clock = Listed(), [], Clock(self.scope.seconds)
        for task, family in ((task, family) for family in self.families for task in self.tasks):
            if clock.is_over():
                listed.left_out += 1
                continue
            try:
                lists.append(self._list(task, family, listed.short))
            except UserError as error:
                listed.refused.append(str(error))
        listed.cases = _by_turns(lists)
        return listed

    def _list(self, task: str, family: str, short: list[str]) -> list[Case]:
        """The layouts of a task and a family, of all splits by turns; adds to `short` what is wrong with them."""
        lists, count = [], self.scope.layouts
        for seed, split in itertools.product(self.scope.seeds, SPLITS):
            names = self.environment.layouts(task, family, split=split, count=count, seed=seed)
            lists.append([Case(task, family, split, name) for name in names])
            if len(names) != count or len(set(names)) < count:
                short.append(
                    f"layouts({task!r}, {family!r}) of {split!r} gives {len(set(names))} of {count} layouts: raise "
                    "UserError where there are fewer"
                )
        return _by_turns(lists)

    def each(self, what: str) -> Iterator[Case]:
        """Yields the cases until the time for a check is up.

        Raises:
            NotApplicable: there is none.
        """
        if not self.listed.cases:
            raise NotApplicable(f"no layout to {what}")
        self._given, clock = 0, Clock(self.scope.seconds)
        for number, case in enumerate(self.listed.cases):
            if number and clock.is_over():
                return
            self._given = number + 1
            yield case

    def looked_at(self) -> str:
        """Says how many layouts the last `each` has given."""
        layouts, among = self._given, len(self.listed.cases)
        return f"{layouts} layouts" if layouts == among else f"{layouts} of {among} layouts"

    def problem(self, case: Case) -> Problem:
        """Returns the problem of a case.

        Raises:
            NotApplicable: the environment has sessions alone.
        """
        if not isinstance(self.environment, PureEnvironment):
            raise NotApplicable("it has sessions alone, without states to return to")
        return self.environment.make(case.task, case.layout)

    def walk(self, case: Case) -> Walk:
        """Returns what a walk through a layout shows, the same whenever it is asked for."""
        if case not in self._walks:
            self._walks[case] = walk(self.environment, case)
        return self._walks[case]


def _by_turns(lists: Iterable[Sequence[Case]]) -> list[Case]:
    """The first of each list, then the second of each, and so on, each case once."""
    return list(dict.fromkeys(case for nth in zip_longest(*lists) for case in nth if case is not None))


class Clock:
    """Says when so many seconds are over."""

    def __init__(self, seconds: float):
        self._end = time.monotonic() + seconds

    def is_over(self) -> bool:
        """Says whether they are."""
        return time.monotonic() >= self._end


def walk(environment: Environment, case: Case, actions: Sequence[str] | None = None) -> Walk:
    """Walks through a layout.

    Args:
        environment: whose layout it is.
        case: the layout.
        actions: to take; None to draw them from the valid ones, alike where the start looks alike.

    Raises:
        Failed: a valid action is refused, or there is none though the episode is not over.
    """
    with closing(open_session(environment, case.task, case.layout)) as session:
        seen, taken = [session.reset()], []
        draw = random.Random(repr(seen[0].observation))
        for number in range(WALK if actions is None else len(actions)):
            if seen[-1].done:
                break
            if not seen[-1].valid_actions:
                raise Failed(f"{case}: no valid action after {taken}, though the episode is not over")
            action = draw.choice(seen[-1].valid_actions) if actions is None else actions[number]
            try:
                seen.append(session.step(action))
            except InvalidAction as error:
                what = "a valid action" if actions is None else "an action that could be taken before"
                raise Failed(f"{case}: {what}, {action!r}, is refused after {taken}: {error}") from error
            taken.append(action)
    return Walk(tuple(seen), tuple(taken))
