"""Many episodes at once, of any environment of pure problems.

The rules of an episode stand here once; the `gymnasium` environments of `stgrpo.envs.gym` play by them too. N is the
number of episodes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypedDict

import numpy as np

from stgrpo.envs import get
from stgrpo.envs.sessions import require_problems
from stgrpo.errors import UserError, nearest
from stgrpo.protocol import SPLITS, Ending, InvalidAction, Planner, Problem, Scoring, planner_of

REWARDS = ("sparse", "distance", "score")
ON_INVALID = ("ignore", "end")
AUTORESETS = ("next_step", "same_step", "off")
BENCHMARK = "test"
"""The family of the benchmark's own layouts, beside those of the environment's generator."""


def _check(name: str, value: str, known: Sequence[str]) -> None:
    if value not in known:
        raise UserError(f"{name} {value!r}: unknown; use one of {', '.join(known)}")


@dataclass(frozen=True)
class Rules:
    """How an episode is played and rewarded.

    Attributes:
        reward: "sparse": 1 for reaching the goal, else 0. "distance": by how much a step shortens the way to the goal,
            as a share of the way from the start, so that the rewards of a solved episode sum to 1; a state from which
            the planner finds no way counts as far from the goal as the cap.
            "score": the environment's score at the end of an episode, short of the goal too; as "sparse" without one.
        on_invalid: what an invalid action does. "ignore": nothing, but the step counts. "end": the episode is lost.
        max_steps: the cap on the steps of an episode; 0 for the task's own.

    Raises:
        UserError: an unknown value.
    """

    reward: str = "sparse"
    on_invalid: str = "ignore"
    max_steps: int = 0

    def __post_init__(self) -> None:
        _check("reward", self.reward, REWARDS)
        _check("on_invalid", self.on_invalid, ON_INVALID)
        if self.max_steps < 0:
            raise UserError(f"max_steps {self.max_steps}: must be at least 1, or 0 for the task's own cap")


class RuleSettings(TypedDict, total=False):
    """`Rules` as keyword arguments, each of which may be left out."""

    reward: str
    on_invalid: str
    max_steps: int


class Places:
    """Where episodes take place: one layout, or another of a family each time.

    Args:
        task: the name of a task.
        layout: a layout; a family of layouts, of which every draw is another that can be solved within the cap; or
            "test" for the published ones.
        split: of the families' layouts: "train", "validation" or "test"; the three share no start.
        pool: draw from the family's first so many layouts only. They are found once, at the start, and each is compiled
            once, so that episodes begin faster; 0 for no limit.
        environment: a name that `stgrpo.envs.get` knows.
        data: where its data are, if it reads any.

    Raises:
        UserError: there is no such environment, task or layout.
    """

    def __init__(
        self,
        task: str,
        layout: str,
        *,
        split: str = "train",
        pool: int = 0,
        environment: str,
        data: str = "",
    ):
        self._environment = require_problems(get(environment, data=data), f"environment={environment!r}")
        self._task, self._layout, self._split = task, layout, split
        _check("split", split, SPLITS)
        self._problems: dict[str, Problem] = {}
        self._planners: dict[str, Planner] = {}
        is_family = layout in self._environment.families()
        if pool < 0 or (pool and not is_family):
            families = ", ".join(self._environment.families())
            raise UserError(f"pool {pool} of layout {layout!r}: must be 0, or at least 1 and of a family: {families}")
        tasks = self._environment.tasks()
        if (is_family or layout == BENCHMARK) and task not in tasks:
            raise UserError(f"task {task!r}: unknown; {nearest(task, tasks)}")
        self._names: Sequence[str] = (layout,)
        if layout == BENCHMARK:
            self._names = self._environment.benchmark_layouts(task)
            if not self._names:
                raise UserError(f"layout {layout!r} of {task}: it has no benchmark layouts; use a layout or a family")
        elif is_family:
            self._names = self._environment.layouts(task, layout, split=split, count=pool) if pool else ()
        else:
            self._names = (self._single(layout),)

    def _single(self, layout: str) -> str:
        """Makes the one problem that is played, and returns its layout's name."""
        return self._fixed(layout).layout

    def draw(self, rng: np.random.Generator) -> Problem:
        """Returns the problem of the next episode."""
        if self._names:
            return self._fixed(self._names[int(rng.integers(len(self._names)))])
        seed = int(rng.integers(1_000_000))
        (name,) = self._environment.layouts(self._task, self._layout, split=self._split, count=1, seed=seed)
        return self._environment.make(self._task, name)

    def _fixed(self, layout: str) -> Problem:
        if layout not in self._problems:
            self._problems[layout] = self._environment.make(self._task, layout)
        return self._problems[layout]

    def planner(self, problem: Problem) -> Planner:
        """Returns the planner of a problem that `draw` returned; one for all episodes of a fixed layout.

        Raises:
            UserError: the environment cannot plan for it.
        """
        if self._problems.get(problem.layout) is not problem:
            return self._plan(problem)
        if problem.layout not in self._planners:
            self._planners[problem.layout] = self._plan(problem)
        return self._planners[problem.layout]

    def _plan(self, problem: Problem) -> Planner:
        planner = planner_of(self._environment, problem)
        if planner is None:
            raise UserError(f"{problem.task} {problem.layout}: its environment has no planner")
        return planner


class Outcome(NamedTuple):
    """What a step of one episode led to, beside the state."""

    reward: float
    terminated: bool
    truncated: bool
    invalid: bool


class LiveEpisode:
    """One episode under way.

    Raises:
        UserError: the reward needs distances, and the planner has none for the start.
    """

    def __init__(self, places: Places, rules: Rules, rng: np.random.Generator):
        self._places, self._rules = places, rules
        self.problem = places.draw(rng)
        self.state = self.problem.initial_state()
        self.steps = 0
        self.max_steps = rules.max_steps or self.problem.max_steps
        self._planner: Planner | None = None
        self._left = self._start = self.distance() if rules.reward == "distance" else 0

    @property
    def planner(self) -> Planner:
        """The planner of the problem, made when it is first asked for."""
        if self._planner is None:
            self._planner = self._places.planner(self.problem)
        return self._planner

    def distance(self) -> int:
        """Returns the least number of steps from here to the goal.

        Raises:
            UserError: the planner knows of no way.
        """
        return self.planner.distance(self.state)

    def observation(self) -> str:
        """Returns the text an agent is shown."""
        return self.problem.observation(self.state)

    def step(self, action: str) -> Outcome:
        """Does an action by the rules."""
        self.steps += 1
        try:
            self.state = self.problem.step(self.state, action)
        except InvalidAction:
            lost = self._rules.on_invalid == "end"
            return Outcome(0.0, lost, not lost and self.steps >= self.max_steps, True)
        solved = self.problem.is_goal(self.state)
        terminated = solved or (isinstance(self.problem, Ending) and self.problem.is_over(self.state))
        truncated = not terminated and self.steps >= self.max_steps
        return Outcome(self._reward(solved, ended=terminated or truncated), terminated, truncated, False)

    def _reward(self, solved: bool, *, ended: bool) -> float:
        if self._rules.reward == "distance":
            return self._progress()
        if self._rules.reward == "score" and isinstance(self.problem, Scoring):
            return self.problem.score(self.state) if ended else 0.0
        return float(solved)

    def _progress(self) -> float:
        before = self._left
        try:
            self._left = self.distance()
        except UserError:
            self._left = self.max_steps
        return (before - self._left) / max(1, self._start)


class StepResult(NamedTuple):
    """What a step of N episodes led to.

    Attributes:
        observations: N texts; None where the vector was made without text.
        rewards_N: float64.
        terminated_N: the goal was reached, or the episode is over short of it, or was lost by an invalid action.
        truncated_N: the cap was reached.
        invalid_N: the action was invalid.
        final: under "same_step", the episodes that ended in this step and were replaced, by their place.
    """

    observations: tuple[str, ...] | None
    rewards_N: np.ndarray
    terminated_N: np.ndarray
    truncated_N: np.ndarray
    invalid_N: np.ndarray
    final: dict[int, LiveEpisode]


class EpisodeVector:
    """N episodes stepped together. A fixed layout is compiled once, however many episodes take place in it.

    Attributes:
        episodes: the N episodes under way; none before the first `reset`.

    Args:
        places: where: the same for all, or one for each episode.
        count: N, the number of episodes, where the places are the same for all.
        rules: by which every episode is played.
        autoreset: when an episode that has ended is replaced. "next_step": in the next `step`, whose action for it is
            not used (reward 0). "same_step": at once. "off": by `reset` only.
        text: whether observations are rendered; without, `episodes[i].observation()` renders the one asked for.

    Raises:
        UserError: there are no places, or the mode is unknown.
    """

    def __init__(
        self,
        places: Places | Sequence[Places],
        count: int = 1,
        *,
        rules: Rules = Rules(),
        autoreset: str = "next_step",
        text: bool = True,
    ):
        _check("autoreset", autoreset, AUTORESETS)
        self._places = [places] * count if isinstance(places, Places) else list(places)
        if not self._places:
            raise UserError("vector: 0 episodes; give at least 1")
        self._rules, self._autoreset, self._text = rules, autoreset, text
        self._rngs: list[np.random.Generator] = []
        self._ended_N = np.zeros(len(self), np.bool_)
        self.episodes: list[LiveEpisode] = []

    def __len__(self) -> int:
        return len(self._places)

    def observations(self) -> tuple[str, ...] | None:
        """Returns the text of every episode, or None where the vector was made without text."""
        return tuple(episode.observation() for episode in self.episodes) if self._text else None

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, mask_N: np.ndarray | None = None
    ) -> tuple[str, ...] | None:
        """Starts new episodes and returns the observations of all.

        Args:
            seed: from which layouts are drawn: place i has seed + i, or a seed of its own from a list. None goes on
                drawing, from an arbitrary seed the first time.
            mask_N: the places that start anew, instead of all.

        Raises:
            UserError: a list of another length.
        """
        seeds = _one_each(seed, len(self))
        if len(seeds) != len(self):
            raise UserError(f"vector: {len(seeds)} seeds for {len(self)} episodes; give one each or a single number")
        self._rngs = self._rngs or [np.random.default_rng() for _ in seeds]
        anew = range(len(self)) if mask_N is None or not self.episodes else np.flatnonzero(mask_N).tolist()
        for i in anew:
            if seeds[i] is not None:
                self._rngs[i] = np.random.default_rng(seeds[i])
        if self.episodes:
            for i in anew:
                self._begin(i)
        else:
            self.episodes = [self._new(i) for i in anew]
        return self.observations()

    def _new(self, i: int) -> LiveEpisode:
        return LiveEpisode(self._places[i], self._rules, self._rngs[i])

    def _begin(self, i: int) -> None:
        self.episodes[i] = self._new(i)
        self._ended_N[i] = False

    def step(self, actions: Sequence[str]) -> StepResult:
        """Does one action in every episode.

        Raises:
            UserError: not N actions, no `reset` before, or, with autoreset "off", an episode that has ended.
        """
        if len(actions) != len(self.episodes):
            raise UserError(
                f"vector: {len(actions)} actions for {len(self.episodes)} episodes; reset, and give one each"
            )
        if self._autoreset == "off" and self._ended_N.any():
            places = ", ".join(map(str, np.flatnonzero(self._ended_N)))
            raise UserError(f"vector: the episodes at {places} have ended; reset them (mask_N) before the next step")
        outcomes: list[Outcome] = []
        final: dict[int, LiveEpisode] = {}
        for i, action in enumerate(actions):
            if self._ended_N[i]:
                self._begin(i)
                outcomes.append(Outcome(0.0, False, False, False))
                continue
            outcome = self.episodes[i].step(action)
            outcomes.append(outcome)
            if outcome.terminated or outcome.truncated:
                self._ended_N[i] = True
                if self._autoreset == "same_step":
                    final[i] = self.episodes[i]
                    self._begin(i)
        return StepResult(
            self.observations(),
            rewards_N=np.array([outcome.reward for outcome in outcomes]),
            terminated_N=np.array([outcome.terminated for outcome in outcomes]),
            truncated_N=np.array([outcome.truncated for outcome in outcomes]),
            invalid_N=np.array([outcome.invalid for outcome in outcomes]),
            final=final,
        )


def _one_each(seed: int | Sequence[int | None] | None, count: int) -> list[int | None]:
    """Returns a seed for each place."""
    if seed is None:
        return [None] * count
    return [seed + i for i in range(count)] if isinstance(seed, int | np.integer) else list(seed)
