"""The paper's expert: a language model that plays a layout until it succeeds; the shortest way is kept.

An answer that cannot be used rejects the whole try, as any other failure does, so that every reasoning that is kept was
given to a state as the learner will see it and not to a complaint about the answer before.
"""

import collections
import dataclasses
import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from typing import TypedDict

from stgrpo.data.records import Step, Trajectory
from stgrpo.envs.sessions import open_session
from stgrpo.errors import UserError
from stgrpo.evaluation.episodes import EpisodeConfig, play_episodes
from stgrpo.evaluation.journal import Journal, Key
from stgrpo.evaluation.records import Episode, TurnRecord, played
from stgrpo.protocol import Environment, Judging, Session
from stgrpo.react.policy import Policy
from stgrpo.react.response import parse_response
from stgrpo.sampling.base import mix_seed
from stgrpo.serving.pool import parallel


@dataclasses.dataclass(frozen=True)
class Budget:
    """How much is tried for how many trajectories.

    Attributes:
        trajectories: wanted.
        tries: episodes a layout at most.
        successes: after which a layout is done; the shortest is kept.
        max_excess: steps that a success may have above the optimum, to count as one; None for any. It needs a planner.
        fits: whether the learner has room for what was said in a success; one that it has no room for does not count.
    """

    trajectories: int
    tries: int
    successes: int = 1
    max_excess: int | None = None
    fits: Callable[[Episode], bool] = lambda episode: True

    def counts(self, episode: Episode, *, judged: bool) -> bool:
        """Whether an episode is a success that can be learned from.

        Args:
            episode: any.
            judged: whether there is a planner; it must have judged each state then.
        """
        if not episode.success or not episode.turns:
            return False
        if judged and any(turn.distance is None for turn in episode.turns):
            return False
        return not self._too_long(episode) and self.fits(episode)

    def _too_long(self, episode: Episode) -> bool:
        if self.max_excess is None:
            return False
        return episode.optimal_steps is None or episode.steps - episode.optimal_steps > self.max_excess


@dataclasses.dataclass(frozen=True)
class LayoutTries:
    """A layout with all that was tried in it.

    Attributes:
        task, layout: their names.
        episodes: in the order of the tries.
        solutions: those of them that count.
        learned: what is kept of them; None without one.
    """

    task: str
    layout: str
    episodes: tuple[Episode, ...]
    solutions: tuple[Episode, ...]
    learned: Trajectory | None

    @property
    def kept(self) -> Episode | None:
        """The shortest solution, the first of several; None without one."""
        return shortest(self.solutions)


def shortest(solutions: Iterable[Episode]) -> Episode | None:
    """The first of those with the fewest steps; None of none."""
    return min(solutions, key=lambda e: e.steps, default=None)


def solved(layouts: Iterable[LayoutTries]) -> int:
    """How many of them give a trajectory."""
    return sum(bool(tries.solutions) for tries in layouts)


class LlmExpert:
    """Plays layouts, many at a time, and writes down every episode as soon as it has ended.

    Args:
        environment: the one that the layouts are of.
        policy: the language model; threads ask it at one time.
        config: how it plays; each try has a seed of its own, mixed from this one.
        budget: how many trajectories are wanted, and what a layout may take for one.
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
        """Tries the layouts in their order until there are enough trajectories.

        No more layouts are under way than trajectories are missing, so no answer is paid for in vain; and the same
        answers give the same result, whatever the number of workers and wherever it broke off.

        Args:
            task: one of the environment's tasks.
            layouts: their names, tried in this order.
            workers: number of layouts played at one time.
            on_error: makes requests that are under way end soon.
            progress: called after each layout with all that are done; an error that it raises ends the collection.

        Returns:
            The layouts in their order, with every episode that was played in them.
        """
        done: dict[str, LayoutTries] = {}

        def jobs() -> Iterator[Callable[[], LayoutTries] | None]:
            for begun, layout in enumerate(layouts):
                while begun - len(done) + solved(done.values()) >= self._budget.trajectories:
                    yield None
                yield functools.partial(self._try, task, layout)

        with closing(parallel(jobs(), workers, on_error=on_error)) as results:
            for tries in results:
                done[tries.layout] = tries
                progress(list(done.values()))
        return [done[layout] for layout in layouts if layout in done]

    def _try(self, task: str, layout: str) -> LayoutTries:
        episodes: list[Episode] = []
        solutions: list[Episode] = []
        with closing(open_session(self._environment, task, layout)) as session:
            judged = isinstance(session, Judging) and session.planner is not None
            while len(episodes) < self._budget.tries and len(solutions) < self._budget.successes:
                key = (task, layout, len(episodes))
                episodes.append(self._journal.played(key) or self._play(session, key))
                if self._budget.counts(episodes[-1], judged=judged):
                    solutions.append(episodes[-1])
            kept = shortest(solutions)
            learned = trajectory(session, kept) if kept is not None else None
        return LayoutTries(task, layout, tuple(episodes), tuple(solutions), learned)

    def _play(self, session: Session, key: Key) -> Episode:
        config = dataclasses.replace(self._config, seed=mix_seed(self._config.seed, key[2]))
        (episode,) = play_episodes([session], self._policy, config=config)
        self._journal.add(key, episode)
        return episode


def as_told(episode: Episode) -> Trajectory:
    """A success as it tells itself, without the other actions and the planner's word.

    It is enough to see how long its prompts and answers are.
    """
    steps, where = [], f"{episode.task} {episode.layout}"
    for turn in episode.turns:
        reasoning, action = _answer(turn, where, () if turn.action is None else (turn.action,))
        steps.append(Step(turn.observation, (action,), reasoning, action, None, None))
    return Trajectory(task=episode.task, layout=episode.layout, steps=tuple(steps))


def trajectory(session: Session, episode: Episode) -> Trajectory:
    """A success as the records that training reads: the model's own reasoning, and the planner's word on each state.

    Its actions are done once more, for the valid ones of each state.

    Raises:
        UserError: the session does not show what the model was shown.
    """
    seen, steps, where = session.reset(), [], f"{session.task} {session.layout}"
    for turn in episode.turns:
        if turn.observation != seen.observation:
            raise _not_repeated(turn, where)
        reasoning, action = _answer(turn, where, seen.valid_actions)
        optimal, distance = _judgement(session)
        steps.append(Step(turn.observation, seen.valid_actions, reasoning, action, optimal, distance))
        seen = session.step(action)
    return Trajectory(task=episode.task, layout=episode.layout, steps=tuple(steps))


def _answer(turn: TurnRecord, where: str, valid_actions: Sequence[str]) -> tuple[str, str]:
    """The reasoning and the action of a turn, which were of use when it was played."""
    parsed = parse_response(turn.response, valid_actions)
    if parsed.failure or parsed.reasoning is None or parsed.action is None:
        raise _not_repeated(turn, where)
    return parsed.reasoning, parsed.action


def _not_repeated(turn: TurnRecord, where: str) -> UserError:
    return UserError(
        f"{where}: step {turn.step} was played in another layout, or the environment "
        "does not repeat an episode: the same actions after a reset must show the same"
    )


def _judgement(session: Session) -> tuple[tuple[str, ...] | None, int | None]:
    """The optimal actions of the session's state and the distance to its goal; None without a planner."""
    if not isinstance(session, Judging) or session.planner is None:
        return None, None
    return tuple(session.planner.optimal_actions(session.state)), session.planner.distance(session.state)


class Summary(TypedDict):
    """How a sampling went.

    Attributes:
        layouts: that were tried.
        episodes: that were played.
        successes: of them.
        unfit: successes that did not count.
        kept: trajectories.
        mean_steps: of the kept ones; None without one.
        mean_excess: of their steps above the optimum; None without a planner.
        excess: how many kept ones are how many steps above the optimum; empty without a planner.
        failures: how many episodes ended in which way.
        server_failures: episodes that the server failed, which are in no other figure.
    """

    layouts: int
    episodes: int
    successes: int
    unfit: int
    kept: int
    mean_steps: float | None
    mean_excess: float | None
    excess: dict[str, int]
    failures: dict[str, int]
    server_failures: int


def summary(layouts: Sequence[LayoutTries]) -> Summary:
    """How the sampling of these layouts went."""
    every = [episode for tries in layouts for episode in tries.episodes]
    episodes = played(every)
    kept = [tries.kept for tries in layouts if tries.kept is not None]
    above = [e.steps - e.optimal_steps for e in kept if e.optimal_steps is not None]
    excess = collections.Counter(above)
    return {
        "layouts": len(layouts),
        "episodes": len(episodes),
        "successes": sum(e.success for e in episodes),
        "unfit": sum(e.success for e in episodes) - sum(len(tries.solutions) for tries in layouts),
        "kept": len(kept),
        "mean_steps": sum(e.steps for e in kept) / len(kept) if kept else None,
        "mean_excess": sum(above) / len(above) if above else None,
        "excess": {str(steps): excess[steps] for steps in sorted(excess)},
        "failures": dict(collections.Counter(e.failure for e in episodes if not e.success)),
        "server_failures": len(every) - len(episodes),
    }
