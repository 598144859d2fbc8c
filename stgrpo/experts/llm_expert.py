"""The paper's expert: a language model that plays a kitchen until it succeeds; the shortest way is kept.

An answer that cannot be used rejects the whole try, as any other failure does, so that every reasoning that is kept was
given to a state as the learner will see it and not to a complaint about the answer before.
"""

import collections
import dataclasses
import functools
from collections.abc import Callable, Iterable, Iterator, Sequence

from stgrpo.data.records import Step, Trajectory
from stgrpo.evaluation.episodes import EpisodeConfig, play_episodes
from stgrpo.evaluation.journal import Journal, Key
from stgrpo.evaluation.records import Episode
from stgrpo.protocol import Environment, Planner, Problem
from stgrpo.react.policy import Policy
from stgrpo.react.response import parse_response
from stgrpo.sampling.base import mix_seed
from stgrpo.serving.pool import parallel


@dataclasses.dataclass(frozen=True)
class Budget:
    """How much is tried for how many trajectories.

    Attributes:
      trajectories: wanted.
      tries: episodes a kitchen at most.
      successes: after which a kitchen is done; the shortest is kept.
      max_excess: steps that a success may have above the optimum, to count as one; None for any.
      fits: whether the learner has room for what was said in a success; one that it has no room for does not count.
    """

    trajectories: int
    tries: int
    successes: int = 1
    max_excess: int | None = None
    fits: Callable[[Episode], bool] = lambda episode: True

    def counts(self, episode: Episode) -> bool:
        """Whether an episode is a success that can be learned from: the planner must have judged each of its states."""
        if not episode.success or not episode.turns or any(turn.distance is None for turn in episode.turns):
            return False
        too_long = self.max_excess is not None and episode.steps - episode.optimal_steps > self.max_excess
        return not too_long and self.fits(episode)


@dataclasses.dataclass(frozen=True)
class LayoutTries:
    """A kitchen with all that was tried in it.

    Attributes:
      problem, planner: the kitchen.
      episodes: in the order of the tries.
      solutions: those of them that count.
    """

    problem: Problem
    planner: Planner
    episodes: tuple[Episode, ...]
    solutions: tuple[Episode, ...]

    @property
    def kept(self) -> Episode | None:
        """The shortest solution, the first of several; None without one."""
        return min(self.solutions, key=lambda e: e.steps, default=None)


def solved(kitchens: Iterable[LayoutTries]) -> int:
    """How many of them give a trajectory."""
    return sum(bool(kitchen.solutions) for kitchen in kitchens)


class LlmExpert:
    """Plays kitchens, many at a time, and writes down every episode as soon as it has ended.

    Args:
      environment: the registry entry that makes kitchens and planners.
      policy: the language model; threads ask it at one time.
      config: how it plays; each try has a seed of its own, mixed from this one.
      budget: how much is tried.
      journal: has the episodes of a run that broke off; they are not played again.
    """

    def __init__(
        self, environment: Environment, policy: Policy, *, config: EpisodeConfig, budget: Budget, journal: Journal
    ):
        self._environment, self._policy, self._config = environment, policy, config
        self._budget, self._journal = budget, journal

    def collect(
        self,
        task: str,
        layouts: Sequence[str],
        *,
        workers: int,
        on_error: Callable[[], None],
        progress: Callable[[Sequence[LayoutTries]], None],
    ) -> list[LayoutTries]:
        """Tries the kitchens in their order until there are enough trajectories.

        No more kitchens are under way than trajectories are missing, so no answer is paid for in vain; and the same
        answers give the same result, whatever the number of workers and wherever it broke off.

        Args:
          task: of the environment.
          layouts: kitchens, tried in this order.
          workers: kitchens at one time.
          on_error: makes requests that are under way end soon.
          progress: called after each kitchen with all that are done.

        Returns:
          The kitchens in the order of the layouts, with every episode that was played in them.
        """
        done: dict[str, LayoutTries] = {}

        def jobs() -> Iterator[Callable[[], LayoutTries] | None]:
            for begun, layout in enumerate(layouts):
                while begun - len(done) + solved(done.values()) >= self._budget.trajectories:
                    yield None
                yield functools.partial(self._try, task, layout)

        for kitchen in parallel(jobs(), workers, on_error=on_error):
            done[kitchen.problem.layout] = kitchen
            progress(list(done.values()))
        return [done[layout] for layout in layouts if layout in done]

    def _try(self, task: str, layout: str) -> LayoutTries:
        problem = self._environment.make(task, layout)
        planner = self._environment.planner(problem)
        episodes: list[Episode] = []
        solutions: list[Episode] = []
        while len(episodes) < self._budget.tries and len(solutions) < self._budget.successes:
            key = (task, layout, len(episodes))
            episodes.append(self._journal.episodes.get(key) or self._play(problem, planner, key))
            solutions += filter(self._budget.counts, episodes[-1:])
        return LayoutTries(problem, planner, tuple(episodes), tuple(solutions))

    def _play(self, problem: Problem, planner: Planner, key: Key) -> Episode:
        config = dataclasses.replace(self._config, seed=mix_seed(self._config.seed, key[2]))
        (episode,) = play_episodes([problem], [planner], self._policy, config=config)
        self._journal.add(key, episode)
        return episode


def as_told(episode: Episode) -> Trajectory:
    """A success as it tells itself, without the planner's word: enough to see how long its prompts and answers are."""
    steps = []
    for turn in episode.turns:
        parsed = parse_response(turn.response, (turn.action,))
        steps.append(Step(turn.observation, (turn.action,), parsed.reasoning, turn.action, (), distance=1))
    return Trajectory(task=episode.task, layout=episode.layout, steps=tuple(steps))


def trajectory(kitchen: LayoutTries, episode: Episode) -> Trajectory:
    """A success as the records that training reads: the model's own reasoning, and the planner's word on each state.

    Raises:
      ValueError: the episode is not one of this kitchen: what the model was shown is not what the state shows.
    """
    problem, planner, state, steps = kitchen.problem, kitchen.planner, kitchen.problem.initial_state(), []
    for turn in episode.turns:
        valid = tuple(problem.valid_actions(state))
        parsed = parse_response(turn.response, valid)
        if turn.observation != problem.observation(state) or parsed.failure:
            raise ValueError(f"{episode.task} {episode.layout}: step {turn.step} was not played in this kitchen")
        steps.append(
            Step(
                observation=turn.observation,
                valid_actions=valid,
                reasoning=parsed.reasoning,
                action=parsed.action,
                optimal_actions=tuple(planner.optimal_actions(state)),
                distance=planner.distance(state),
            )
        )
        state = problem.step(state, parsed.action)
    return Trajectory(task=episode.task, layout=episode.layout, steps=tuple(steps))


def summary(kitchens: Sequence[LayoutTries]) -> dict[str, object]:
    """How the sampling went.

    Returns:
      kitchens, episodes, successes; unfit: successes that did not count; kept, with their mean_steps and mean_excess
      above the optimum; excess: how many kept ones are how many steps above it; failures: how many episodes ended in
      which way.
    """
    episodes = [episode for kitchen in kitchens for episode in kitchen.episodes]
    kept = [kitchen.kept for kitchen in kitchens if kitchen.kept is not None]
    excess = collections.Counter(e.steps - e.optimal_steps for e in kept)
    return {
        "kitchens": len(kitchens),
        "episodes": len(episodes),
        "successes": sum(e.success for e in episodes),
        "unfit": sum(e.success for e in episodes) - sum(len(kitchen.solutions) for kitchen in kitchens),
        "kept": len(kept),
        "mean_steps": sum(e.steps for e in kept) / len(kept) if kept else None,
        "mean_excess": sum(e.steps - e.optimal_steps for e in kept) / len(kept) if kept else None,
        "excess": {str(steps): excess[steps] for steps in sorted(excess)},
        "failures": dict(collections.Counter(e.failure for e in episodes if not e.success)),
    }
