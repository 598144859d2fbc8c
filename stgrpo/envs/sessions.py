"""Sessions of any environment: its own, or those that an adapter makes of its pure problems."""

import functools
from collections.abc import Generator, Iterable
from contextlib import ExitStack, closing, contextmanager

from stgrpo.errors import UserError
from stgrpo.protocol import (
    Ending,
    Environment,
    Observed,
    Planner,
    Problem,
    PureEnvironment,
    Scoring,
    Session,
    SessionEnvironment,
    State,
    planner_of,
    wait_of,
)


class ProblemSession:
    """A session of a pure problem, which tells its state.

    Args:
        problem: what is played.
        planner: of the problem, if it has one.
    """

    def __init__(self, problem: Problem, planner: Planner | None = None):
        self.problem, self.planner = problem, planner
        self.task, self.layout, self.goal, self.max_steps = (
            problem.task,
            problem.layout,
            problem.goal,
            problem.max_steps,
        )
        self.state: State = problem.initial_state()
        if (wait := wait_of(problem)) is not None:
            self.wait = wait  # so that it is `Waiting` where its problem is

    def reset(self) -> Observed:
        """Begins an episode at the problem's start."""
        self.state = self.problem.initial_state()
        return self._observed()

    def step(self, action: str) -> Observed:
        """Does an action; an episode is over at the goal, and where the problem says so (`Ending`).

        Raises:
            InvalidAction: the action is not valid now; the state is unchanged.
        """
        self.state = self.problem.step(self.state, action)
        return self._observed()

    def close(self) -> None:
        """Does nothing: a pure problem holds nothing."""

    def _observed(self) -> Observed:
        problem, state = self.problem, self.state
        at_goal, valid = problem.is_goal(state), tuple(problem.valid_actions(state))
        is_over = at_goal or (isinstance(problem, Ending) and problem.is_over(state))
        score = problem.score(state) if isinstance(problem, Scoring) else None
        return Observed(problem.observation(state), valid, done=is_over, success=at_goal, score=score)


def open_session(environment: Environment, task: str, layout: str) -> Session:
    """Returns a session of one layout; who opens it closes it. A pure problem brings its planner.

    Raises:
        UserError: there is no such task or layout, or the environment makes neither problems nor sessions.
    """
    if isinstance(environment, PureEnvironment):
        return ProblemSession(*_problem(environment, task, layout))
    if isinstance(environment, SessionEnvironment):
        return environment.session(task, layout)
    raise UserError(f"{type(environment).__name__} has neither make nor session: give it one (docs/environments.md)")


@contextmanager
def open_sessions(environment: Environment, layouts: Iterable[tuple[str, str]]) -> Generator[list[Session]]:
    """Opens a session a (task, layout), and closes them all; those of one layout share its problem, if that is pure."""
    if isinstance(environment, PureEnvironment):
        made = functools.cache(functools.partial(_problem, environment))
        yield [ProblemSession(*made(*each)) for each in layouts]
        return
    with ExitStack() as stack:
        yield [stack.enter_context(closing(open_session(environment, *each))) for each in layouts]


def _problem(environment: PureEnvironment, task: str, layout: str) -> tuple[Problem, Planner | None]:
    problem = environment.make(task, layout)
    return problem, planner_of(environment, problem)


def require_problems(environment: Environment, what: str) -> PureEnvironment:
    """Returns an environment that makes pure problems.

    Args:
        environment: any.
        what: what asks for it, for the message.

    Raises:
        UserError: it has sessions alone.
    """
    if isinstance(environment, PureEnvironment):
        return environment
    raise UserError(f"{what} needs states that can be returned to: the environment has sessions alone")
