"""What stgrpo asks of an environment: goal problems with text observations and text actions.

An environment lists tasks and layouts (`Environment`) and makes of each a pure `Problem` (`PureEnvironment`) or, where
its engine cannot be pure, a stateful `Session` (`SessionEnvironment`). All else may be left out: a planner
(`Planning`), words of its own (`Instructing`, `Explaining`, `Naming`), an action that lets time pass (`Waiting`), an
end short of the goal (`Ending`), a score (`Scoring`), a person in the agent's place (`Playable`). Prompts, rewards,
training, evaluation and the report only ever talk to these methods; how an environment is found by its name is in
`stgrpo.envs`.

States are each environment's own. A `Problem[S]`, its `Planner[S]` and what else speaks of its states are of one type
of them; a `Problem` or `Planner` without it stands for any, whose states nobody looks into.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, runtime_checkable

SPLITS = ("train", "validation", "test")

State = Hashable
"""What a problem's states have in common: nobody but the problem and its planner looks inside."""

S = TypeVar("S", bound=State)
S_contra = TypeVar("S_contra", bound=State, contravariant=True)


class InvalidAction(ValueError):
    """The action is not among the valid actions of the state; the state is unchanged."""


class Problem(Protocol[S]):
    """One layout of one task: a deterministic goal-directed decision process over immutable, hashable states.

    Attributes:
        task: the name of the task.
        layout: the name of the layout.
        goal: in words.
        max_steps: the cap on the steps of an episode.
    """

    task: str
    layout: str
    goal: str
    max_steps: int

    def initial_state(self) -> S:
        """Returns the state every episode starts in."""
        ...

    def observation(self, state: S) -> str:
        """Returns the whole text an agent is shown: the state, the valid actions and the goal."""
        ...

    def valid_actions(self, state: S) -> tuple[str, ...]:
        """Returns the valid action strings in the order in which the observation lists them."""
        ...

    def step(self, state: S, action: str) -> S:
        """Returns the successor; pure.

        Raises:
            InvalidAction: the action is not valid in this state.
        """
        ...

    def is_goal(self, state: S) -> bool:
        """Says whether the goal holds; an episode ends at the first such state."""
        ...


@dataclass(frozen=True)
class Observed:
    """What a session shows after a reset or a step.

    Attributes:
        observation: the whole text an agent is shown: the state, the valid actions and the goal.
        valid_actions: in the order in which the observation lists them.
        done: whether the episode is over: at the goal, or where the engine lets nobody go on.
        success: whether the goal holds.
        score: how well the episode went so far, from 0 to 1; None where the environment says no more than success.
    """

    observation: str
    valid_actions: tuple[str, ...]
    done: bool
    success: bool
    score: float | None = None


class Session(Protocol):
    """One layout of one task, played in place. What it has that costs something is taken by the first `reset`.

    The same actions after a reset show the same again: a success of a language model is read back that way.

    Attributes:
        task: the name of the task.
        layout: the name of the layout.
        goal: in words.
        max_steps: the cap on the steps of an episode, which the player counts.
    """

    task: str
    layout: str
    goal: str
    max_steps: int

    def reset(self) -> Observed:
        """Begins an episode, any number of times; always the same one."""
        ...

    def step(self, action: str) -> Observed:
        """Does an action in the episode under way.

        Raises:
            InvalidAction: the action is not valid now; nothing has changed.
        """
        ...

    def close(self) -> None:
        """Gives back what the session holds; it is not used afterwards."""
        ...


class Planner(Protocol[S_contra]):
    """Exact distances of one problem."""

    def distance(self, state: S_contra) -> int:
        """Returns the least number of steps from this state to the goal."""
        ...

    def optimal_actions(self, state: S_contra) -> tuple[str, ...]:
        """Returns the actions whose successor is one step nearer to the goal, in display order; none at the goal."""
        ...


class Environment(Protocol):
    """What every environment has: lists of tasks and layouts.

    It is a `PureEnvironment` or a `SessionEnvironment` too.
    """

    def tasks(self) -> tuple[str, ...]:
        """Returns the names of the tasks."""
        ...

    def families(self) -> tuple[str, ...]:
        """Returns the names of the families of layouts that `layouts` draws from."""
        ...

    def benchmark_layouts(self, task: str) -> tuple[str, ...]:
        """Returns the layouts that published results of this task are measured on; empty where there are none."""
        ...

    def layouts(self, task: str, family: str, *, split: str, count: int, seed: int = 0) -> list[str]:
        """Lists layouts of one split; the splits never share a start, not even under other names.

        Raises:
            UserError: the family has fewer than `count` distinct layouts in this split.
        """
        ...


@runtime_checkable
class PureEnvironment(Environment, Protocol):
    """An `Environment` of pure problems."""

    def make(self, task: str, layout: str) -> Problem:
        """Builds one problem.

        Raises:
            UserError: there is no such task or layout.
        """
        ...


@runtime_checkable
class SessionEnvironment(Environment, Protocol):
    """An `Environment` whose engine is played in place."""

    def session(self, task: str, layout: str) -> Session:
        """Makes a session that nobody else uses.

        Raises:
            UserError: there is no such task or layout.
        """
        ...


@runtime_checkable
class Demonstrating(Protocol[S_contra]):
    """A `Planner` with an expert to imitate that is not optimal.

    Where an agent does not see the whole state, the optimal action is one that it could not know. Without this the
    expert takes the first of the optimal actions.
    """

    def expert_action(self, state: S_contra) -> str | None:
        """Returns the expert's action; None where it has none."""
        ...


P_contra = TypeVar("P_contra", bound=Problem[Any], contravariant=True)


@runtime_checkable
class Planning(Protocol[P_contra]):
    """A `PureEnvironment` that can plan."""

    def planner(self, problem: P_contra) -> Planner[Any] | None:
        """Returns the exact planner of a problem that `make` built; None if there is none for this one."""
        ...


@runtime_checkable
class Judging(Protocol):
    """A `Session` whose states a planner can judge.

    Attributes:
        state: of the episode under way, as the planner knows it.
        planner: None where there is none after all.
    """

    @property
    def state(self) -> State:
        """Of the episode under way."""
        ...

    @property
    def planner(self) -> Planner | None:
        """Of its problem."""
        ...


@runtime_checkable
class Waiting(Protocol):
    """A `Problem`, or a `Session`, with an action that only lets time pass.

    Attributes:
        wait: that action; it need not be valid in every state.
    """

    @property
    def wait(self) -> str:
        """The action."""
        ...


@runtime_checkable
class Ending(Protocol[S_contra]):
    """A `Problem` with states other than the goal in which an episode is over."""

    def is_over(self, state: S_contra) -> bool:
        """Says whether nothing more can be done."""
        ...


@runtime_checkable
class Scoring(Protocol[S_contra]):
    """A `Problem` that says how well an episode went, where there is more than success and failure."""

    def score(self, state: S_contra) -> float:
        """Returns the score of an episode that ends in a state, from 0 to 1; 1 at the goal."""
        ...


@runtime_checkable
class Playable(Protocol):
    """An `Environment` that a person can play in the terminal: `stgrpo play`."""

    def play(self, task: str, layout: str, *, raw: bool = False) -> None:
        """Plays one episode with the person at standard input.

        Args:
            task: one of its tasks; empty for any that shows what it is like.
            layout: one of its layouts; empty likewise.
            raw: whether to show the very text an agent is shown.

        Raises:
            UserError: there is no such task or layout.
        """
        ...


@runtime_checkable
class Reading(Protocol):
    """An `Environment` some of whose layouts are read from data that are no part of it."""

    def with_data(self, path: str) -> Environment:
        """Returns the same environment with its data at a path, which is looked at when a layout needs it."""
        ...


@runtime_checkable
class SeveralBenchmarks(Protocol):
    """An `Environment` whose published results are of several sets of layouts, each with figures of its own."""

    def benchmark_sets(self) -> tuple[str, ...]:
        """Returns the names of the sets."""
        ...

    def benchmark_set(self, name: str, task: str) -> tuple[str, ...]:
        """Returns the layouts of one task in a set; `benchmark_layouts` has those of all sets."""
        ...


@dataclass(frozen=True)
class Instructions:
    """What `prompt.instructions="full"` tells a model of an environment, beside how it is to answer.

    Attributes:
        task: what there is to do, in a sentence or two.
        observation: what an observation consists of.
        rules: paragraphs of rules, recipes, whatever helps.
    """

    task: str
    observation: str = ""
    rules: str = ""


GENERAL = Instructions("You work towards a goal, one action at a time, in as few actions as possible.")
"""The instructions of an environment that has none of its own."""


@runtime_checkable
class Instructing(Protocol):
    """An `Environment` with instructions of its own."""

    def instructions(self) -> Instructions:
        """Returns what to tell a model."""
        ...


@runtime_checkable
class Explaining(Protocol[S_contra]):
    """A `Problem` that puts the expert's reasoning into words of its own."""

    def explain(self, state: S_contra, plan: Sequence[str]) -> str:
        """Says why the first action of a plan is right, in sentences a model can learn to say.

        Args:
            state: where the plan begins; not a goal.
            plan: the expert's actions from there to the goal.
        """
        ...


@runtime_checkable
class Naming(Protocol):
    """An `Environment` whose observations name things by a word and a number, such as box3.

    A tokenizer that is trained on its texts has each of these names as one token.
    """

    def object_names(self) -> tuple[str, ...]:
        """Returns every name that may occur."""
        ...


def planner_of(environment: Environment, problem: Problem) -> Planner | None:
    """Returns the planner of a problem that the environment made; None without one."""
    return environment.planner(problem) if isinstance(environment, Planning) else None


def expert_action_of(planner: Planner, state: State, wait: str | None = None) -> str | None:
    """Returns the action of the expert that a planner speaks for: the planner's own, or an optimal one.

    Args:
        planner: of the problem.
        state: any.
        wait: the problem's action that only lets time pass, which the expert takes where it is optimal, rather than
            walk about; else it takes the first optimal action that is displayed.

    Returns:
        None at the goal, and where the expert has none.
    """
    if isinstance(planner, Demonstrating):
        return planner.expert_action(state)
    optimal = planner.optimal_actions(state)
    return wait if wait in optimal else next(iter(optimal), None)


def wait_of(played: Problem | Session) -> str | None:
    """Returns the action of a problem, or of its session, that only lets time pass; None without one."""
    return played.wait if isinstance(played, Waiting) else None


def instructions_of(environment: Environment) -> Instructions:
    """Returns an environment's own instructions, or the general ones."""
    return environment.instructions() if isinstance(environment, Instructing) else GENERAL


@dataclass(frozen=True)
class PublishedResult:
    """A row of a published table: one policy on one task.

    Attributes:
        policy: its name, as the table has it.
        n: episodes it was measured on.
        sr: success rate.
        asat: mean steps of all episodes, a failure counted at the cap.
        asst: mean steps of the successful episodes; None without any.
        ours: what a result of ours of the same policy is called: "sft", "grpo", or the name of a served model.
    """

    policy: str
    n: int
    sr: float
    asat: float
    asst: float | None
    ours: str = ""

    @property
    def successes(self) -> int:
        """How many episodes succeeded."""
        return round(self.sr * self.n)


@dataclass(frozen=True)
class PublishedTable:
    """Results of others on one task: whose they are, in a heading, and the rows."""

    heading: str
    rows: tuple[PublishedResult, ...]


@runtime_checkable
class Published(Protocol):
    """An `Environment` on which others have published results."""

    def published_results(self, task: str) -> Sequence[PublishedTable]:
        """Returns the tables to compare with; none for a task that nobody published, or that there is not."""
        ...


@runtime_checkable
class PublishedTransfer(Published, Protocol):
    """One on which others have trained a policy on one task and evaluated it on others."""

    def published_transfer(self, trained: str, task: str) -> PublishedResult | None:
        """Returns the result on a task of the policy that was trained on another, or on itself; None without one."""
        ...


@runtime_checkable
class Illustrating(Protocol):
    """An `Environment` that draws its states, from what an agent was shown of them.

    What it draws is put on a page as it is: text that came from outside is to be escaped.
    """

    def symbols(self) -> str:
        """Returns what the pictures of a page share: one <svg> of no size with shapes and style; "" for none."""
        ...

    def caption(self, observation: str) -> str:
        """Returns a line, as plain text, to stand above an episode that begins like this: its goal; "" for none."""
        ...

    def draw(self, observations: Sequence[str], actions: Sequence[str]) -> list[str | None]:
        """Draws the states of one episode as SVG elements of one size.

        Args:
            observations: of the states.
            actions: what is about to be done in each; "" for nothing.

        Returns:
            A picture each; None for an observation that cannot be read.
        """
        ...


@dataclass(frozen=True)
class Noun:
    """What an environment calls a layout, one and many, in lower case."""

    one: str
    many: str


LAYOUT = Noun("layout", "layouts")


@runtime_checkable
class Wording(Protocol):
    """An `Environment` that speaks of its layouts in words of its own."""

    layout_noun: Noun

    def describe_layouts(self, layouts: Sequence[str]) -> str:
        """Says what layouts of these names have in common, in a few words; "" where there is nothing to say."""
        ...


BENCHMARK = "benchmark"
"""The name of the set of published layouts where there is but one."""


def benchmark_sets_of(environment: Environment) -> tuple[str, ...]:
    """Returns the names of an environment's sets of published layouts."""
    return environment.benchmark_sets() if isinstance(environment, SeveralBenchmarks) else (BENCHMARK,)


def benchmark_set_of(environment: Environment, name: str, task: str) -> tuple[str, ...]:
    """Returns the layouts of one task in a set of these."""
    if isinstance(environment, SeveralBenchmarks):
        return environment.benchmark_set(name, task)
    return environment.benchmark_layouts(task)


def object_names_of(environment: Environment) -> tuple[str, ...]:
    """Returns the names of things that an environment declares, if any."""
    return environment.object_names() if isinstance(environment, Naming) else ()
