"""Checks of environments: one that keeps to the protocol passes, and each kind of fault is found by its own check."""

import itertools
import pathlib

import pytest

from stgrpo import envs
from stgrpo.cli import main
from stgrpo.conformance.run import FAILED, NOT_APPLICABLE, OK, check_environment
from stgrpo.conformance.subject import Scope
from stgrpo.errors import UserError
from stgrpo.protocol import InvalidAction, Observed

LEFT, RIGHT = "Go left", "Go right"
SCOPE = Scope(layouts=2, seconds=20)


def ways(place: int) -> tuple[str, ...]:
    return () if place == 9 else (RIGHT, LEFT) if place else (RIGHT,)


def moved(place: int, action: str) -> int:
    if action not in ways(place):
        raise InvalidAction(action)
    return place + (1 if action == RIGHT else -1)


class Row:
    """Places 0 to 9 in a row, the goal at 9; states are places; with its planner."""

    goal, max_steps = "Stand at place9", 20

    def __init__(self, task: str, layout: str):
        if task != "row" or not layout.removeprefix("place").isdecimal():
            raise UserError(f"no {task!r} {layout!r}: use row place0 to place8")
        self.task, self.layout, self.start = task, layout, int(layout.removeprefix("place"))

    def initial_state(self):
        return self.start

    def observation(self, state):
        return "\n".join([f"You stand at place{state}.", "Valid Actions:", *self.valid_actions(state), self.goal])

    def valid_actions(self, state):
        return ways(state)

    def step(self, state, action):
        return moved(state, action)

    def is_goal(self, state):
        return state == 9

    def distance(self, state):
        return 9 - state

    def optimal_actions(self, state):
        return () if state == 9 else (RIGHT,)


class Rows:
    """The environment, of a class of problems."""

    problem: type[Row] = Row
    starts = {"train": (0, 1, 2), "validation": (3, 4), "test": (5, 6)}

    def tasks(self):
        return ("row",)

    def families(self):
        return ("place",)

    def benchmark_layouts(self, task):
        return ()

    def layouts(self, task, family, *, split, count, seed=0):
        return [f"place{start}" for start in self.starts[split]][:count]

    def make(self, task, layout):
        return self.problem(task, layout)

    def planner(self, problem):
        return problem


def found(monkeypatch: pytest.MonkeyPatch, problem: type = Row, environment: type = Rows) -> dict[str, str]:
    """The checks that failed, and what they say."""
    monkeypatch.setattr(envs, "_REGISTRY", {"rows": {"ours": type("Mine", (environment,), {"problem": problem})}})
    return {r.check: r.why for r in check_environment("rows", SCOPE) if r.status == FAILED}


def test_an_environment_that_keeps_to_the_protocol_passes(monkeypatch) -> None:
    monkeypatch.setattr(envs, "_REGISTRY", {"rows": {"ours": Rows}})
    results = {result.check: result for result in check_environment("rows", SCOPE)}
    assert {result.status for result in results.values()} == {OK}, results
    assert results["planner"].why.endswith("states of 6 layouts, up to 9 steps from the goal")


class Unhashable(Row):
    def initial_state(self):
        return [self.start]

    def observation(self, state):
        return f"You stand at place{state[0]}: {', '.join(ways(state[0]))}."

    def valid_actions(self, state):
        return ways(state[0])

    def step(self, state, action):
        return [moved(state[0], action)]

    def is_goal(self, state):
        return state[0] == 9


class Mutable:
    def __init__(self, place):
        self.place = place

    def __repr__(self):
        return f"at {self.place}"


class Impure(Unhashable):
    """Its steps change the state that they are given."""

    def initial_state(self):
        return Mutable(self.start)

    def observation(self, state):
        return f"You stand at place{state.place}: {', '.join(ways(state.place))}."

    def valid_actions(self, state):
        return ways(state.place)

    def step(self, state, action):
        state.place = moved(state.place, action)
        return state

    def is_goal(self, state):
        return state.place == 9


class Forgetful(Row):
    """Shows a number that no two calls share."""

    numbers = itertools.count()

    def observation(self, state):
        return f"Look {next(self.numbers)}. {super().observation(state)}"


class Hidden(Row):
    """Leaves an action out of its text."""

    def observation(self, state):
        return super().observation(state).replace(LEFT, "")


class Padded(Row):
    """Has an action with a blank at its end, which no answer can hold."""

    def valid_actions(self, state):
        return tuple(f"{action} " for action in super().valid_actions(state))

    def step(self, state, action):
        return moved(state, action.removesuffix(" "))

    def optimal_actions(self, state):
        return tuple(f"{action} " for action in super().optimal_actions(state))


class Lenient(Row):
    """Takes any action."""

    def step(self, state, action):
        return super().step(state, action if action in self.valid_actions(state) else RIGHT)


class Stuck(Row):
    """Has no way on from place 4, and does not say that the episode is over."""

    def valid_actions(self, state):
        return () if state == 4 else super().valid_actions(state)


class Refusing(Row):
    """Refuses an action that it calls valid."""

    def step(self, state, action):
        if action == LEFT:
            raise InvalidAction(action)
        return super().step(state, action)


class Dithering(Row):
    """Its expert walks away from the goal."""

    def expert_action(self, state):
        return LEFT if state else RIGHT


class Mumbling(Row):
    """Gives reasons that an answer cannot hold."""

    def explain(self, state, plan):
        return "I like it.\nAction: because"


class Pessimist(Row):
    """Its distances are too long."""

    def distance(self, state):
        return 9 - state + (state < 7)


class Narrow(Row):
    """Its optimal actions are wrong near the goal."""

    def optimal_actions(self, state):
        return (LEFT,) if state == 7 else super().optimal_actions(state)


class Surrogate(Row):
    """Shows half a character."""

    def observation(self, state):
        return "\ud800" + super().observation(state)


class Exuberant(Row):
    """Has a score above 1."""

    def score(self, state):
        return 1.0 + state


class Crashing(Row):
    """Has a fault of another kind."""

    def observation(self, state):
        return super().observation(state) + {}[state]


@pytest.mark.parametrize(
    ("problem", "check", "said"),
    [
        (Unhashable, "pure", "a state cannot be hashed (unhashable type: 'list')"),
        (Impure, "pure", "changes the state that it is given: 'at 0' becomes 'at 1'"),
        (Forgetful, "deterministic", "after 0 steps observation is 'Look"),
        (Hidden, "texts", "does not list the valid actions ['Go right', 'Go left']"),
        (Padded, "texts", "'Go right ' is read back from an answer as 'Go right'"),
        (Surrogate, "texts", "a text that UTF-8 has no form for"),
        (Lenient, "episodes", "raise InvalidAction where an action is not valid"),
        (Stuck, "episodes", "no valid action"),
        (Refusing, "episodes", "a valid action, 'Go left', is refused after"),
        (Exuberant, "episodes", "a score of 2.0: give one from 0 to 1"),
        (Dithering, "expert", "the expert is not at the goal after 20 steps, the cap"),
        (Mumbling, "expert", "which a response cannot hold"),
        (Pessimist, "planner", "the planner's distance is 4, a search finds 3"),
        (Narrow, "planner", "a search finds ['Go right']"),
        (Crashing, "episodes", "KeyError at test_check.py:"),
    ],
)
def test_a_broken_problem_is_found(problem, check, said, monkeypatch) -> None:
    assert said in found(monkeypatch, problem)[check]


class Leaking(Rows):
    """Trains on a start that it tests."""

    starts = Rows.starts | {"test": (1, 6)}


class Twins(Rows):
    """Lists a start under two names in different splits."""

    starts = Rows.starts | {"validation": ("03", 4), "test": ("3", 6)}


class Vague(Rows):
    """Lists other layouts each time it is asked."""

    times = itertools.count()

    def layouts(self, task, family, *, split, count, seed=0):
        names = super().layouts(task, family, split=split, count=count, seed=seed)
        return names[::-1] if next(self.times) % 2 else names


class Scarce(Rows):
    """Gives fewer layouts than asked for without a word."""

    starts = Rows.starts | {"test": (5,)}


class Careless(Rows):
    """Makes something of any name."""

    def make(self, task, layout):
        return super().make("row", layout if layout.startswith("place") else "place0")


class Finished(Rows):
    """Lists a layout that is solved as it stands."""

    starts = Rows.starts | {"train": (9, 1)}


@pytest.mark.parametrize(
    ("environment", "check", "said"),
    [
        (Leaking, "splits disjoint", "row place1 of test and place1 of train show the same"),
        (Twins, "splits disjoint", "row place03 of validation and place3 of test show the same"),
        (Vague, "lists", "and then ['place1', 'place0']"),
        (Scarce, "lists", "'test' gives 1 of 2 layouts: raise UserError"),
        (Careless, "lists", "raise UserError where there is no such task or layout"),
        (Finished, "episodes", "row place9: no valid action at the start"),
        (object, "lists", "has neither make nor session"),
    ],
)
def test_a_broken_environment_is_found(environment, check, said, monkeypatch) -> None:
    assert said in found(monkeypatch, Row, environment)[check]


class Played:
    """A session of a row."""

    def __init__(self, problem: Row):
        self._problem = problem
        self.task, self.layout, self.goal, self.max_steps = problem.task, problem.layout, Row.goal, Row.max_steps

    def reset(self):
        self._state = self._problem.initial_state()
        return self._look()

    def step(self, action):
        self._state = self._problem.step(self._state, action)
        return self._look()

    def close(self):
        pass

    def _look(self):
        problem, state = self._problem, self._state
        at_goal = problem.is_goal(state)
        return Observed(problem.observation(state), problem.valid_actions(state), done=at_goal, success=at_goal)


class InPlace:
    """The same environment, in sessions alone, without a planner."""

    tasks, families, benchmark_layouts, layouts = Rows.tasks, Rows.families, Rows.benchmark_layouts, Rows.layouts
    starts = Rows.starts

    def session(self, task, layout):
        return Played(Row(task, layout))


def test_sessions_have_no_states_and_no_planner_to_check(monkeypatch) -> None:
    monkeypatch.setattr(envs, "_REGISTRY", {"rows": {"ours": InPlace}})
    statuses = {result.check: result.status for result in check_environment("rows", SCOPE)}
    assert [check for check, status in statuses.items() if status == NOT_APPLICABLE] == ["pure", "expert", "planner"]
    assert set(statuses.values()) == {OK, NOT_APPLICABLE}


UNSORTED = """
from stgrpo.errors import UserError
import test_check

class Problem(test_check.Row):
    def valid_actions(self, state):
        return tuple({*super().valid_actions(state), "Wait", "Sing", "Dance"}) if state < 9 else ()
    def step(self, state, action):
        return super().step(state, action) if action.startswith("Go") else state

class Environment(test_check.Rows):
    problem = Problem
"""


def test_an_order_that_only_this_process_has_is_found(tmp_path: pathlib.Path, monkeypatch) -> None:
    (tmp_path / "unsorted.py").write_text(UNSORTED, encoding="utf-8")
    (tmp_path / "test_check.py").write_text(pathlib.Path(__file__).read_text("utf-8"), encoding="utf-8")
    metadata = tmp_path / "unsorted-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: unsorted\nVersion: 1.0\n", encoding="utf-8")
    (metadata / "entry_points.txt").write_text("[stgrpo.environments]\nunsorted = unsorted:Environment\n", "utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    results = {result.check: result for result in check_environment("unsorted", SCOPE)}
    assert results["deterministic"].why.endswith("shows something else: sort what is a set")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "takes one name of an environment, such as one of"),
        (["rows", "more"], "takes one name"),
        (["row"], "environment 'row': unknown; did you mean 'rows'?"),
        (["rows", "--tasks=rwo"], "--tasks='rwo': it has none of this name; did you mean 'row'?"),
        (["rows", "--families=places"], "--families='places': it has none of this name; did you mean 'place'?"),
        (["rows", "--layouts=0"], "--layouts=0: must be at least 1"),
        (["rows", "--seeds=a"], "--seeds=a: give whole numbers"),
        (["rows", "--sates=1"], "Unknown command line flag 'sates'"),
        (["rows", "--data=here"], "reads no data"),
    ],
)
def test_a_mistake_is_one_line(words, said, monkeypatch, capsys) -> None:
    monkeypatch.setattr(envs, "_REGISTRY", {"rows": {"ours": Rows}})
    with pytest.raises(SystemExit) as stop:
        main(["check-environment", *words])
    error = capsys.readouterr().err
    assert stop.value.code == 2 and said in error and error.count("\n") == 1


@pytest.mark.parametrize(("problem", "status"), [(Row, 0), (Pessimist, 1)])
def test_the_command_prints_a_line_a_check(problem, status, monkeypatch, capsys) -> None:
    monkeypatch.setattr(envs, "_REGISTRY", {"rows": {"ours": type("Mine", (Rows,), {"problem": problem})}})
    code = 0
    try:
        main(["check-environment", "rows", "--layouts", "1", "--seeds=0,1"])
    except SystemExit as stop:
        code = stop.code
    said = capsys.readouterr()
    assert code == status and len(said.out.splitlines()) == 8 + (status == 0)
    assert said.err == ("stgrpo: rows: 1 of 8 checks failed (planner): see above\n" if status else "")


@pytest.mark.parametrize("name", ["robotouille", "alfworld", "webshop"])
def test_ours_keep_to_the_protocol(name) -> None:
    family = {"robotouille": "small", "alfworld": "small", "webshop": "made"}[name]
    task = envs.get(name).tasks()[:1]
    scope = Scope(task, (family,), layouts=1, states=200, seconds=1)
    results = list(check_environment(name, scope))
    assert [result for result in results if result.status != OK] == []
