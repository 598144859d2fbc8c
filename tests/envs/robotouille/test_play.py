"""`stgrpo play` with a script at its standard input."""

import builtins
import io

import pytest

from stgrpo.cli import main
from stgrpo.envs import get
from stgrpo.envs.robotouille import make
from stgrpo.envs.robotouille.vector import Kitchens
from stgrpo.errors import UserError

KITCHEN = ("--task=burger", "--layout=random:3")


@pytest.fixture
def run(monkeypatch, capsys):
    """`run(lines, *arguments)`: plays those lines; the exit status, what was shown, and the errors."""

    def play(lines, *arguments):
        monkeypatch.setattr("sys.stdin", io.StringIO("".join(f"{line}\n" for line in lines)))
        try:
            main(["play", *arguments])
        except SystemExit as stop:
            return stop.code, *capsys.readouterr()
        return 0, *capsys.readouterr()

    return play


def solution() -> list[str]:
    problem = make("burger", "random:3")
    planner, state, actions = get("robotouille").planner(problem), problem.initial_state(), []
    while not problem.is_goal(state):
        actions.append(planner.optimal_actions(state)[0])
        state = problem.step(state, actions[-1])
    return actions


def numbers(actions: list[str]) -> list[str]:
    problem = make("burger", "random:3")
    state, numbers = problem.initial_state(), []
    for action in actions:
        numbers.append(str(problem.valid_actions(state).index(action) + 1))
        state = problem.step(state, action)
    return numbers


@pytest.mark.parametrize("lines", [solution(), numbers(solution())])
def test_numbers_and_actions_both_play(run, lines):
    status, shown, errors = run(lines, *KITCHEN)
    assert (status, errors) == (0, "")
    assert shown.endswith(f"\nSolved in {len(lines)} steps; the fewest possible: {len(lines)}.\n")


def test_a_detour_is_counted_and_undo_takes_it_back(run):
    detour = ["Do nothing", *solution()]
    assert f"Solved in {len(detour)} steps; the fewest possible: {len(detour) - 1}." in run(detour, *KITCHEN)[1]
    assert f"Solved in {len(detour) - 1} steps" in run(["Do nothing", "undo", *solution()], *KITCHEN)[1]
    assert "There is nothing to undo." in run(["undo"], *KITCHEN)[1]


def test_the_compact_state_and_the_actions_are_shown(run):
    shown = run([], "--task=burger", "--layout=default")[1]
    assert "> table1   bottombun1\n  table2   topbun1\n  table3   patty1 (cooked)\n  in hand  -\n" in shown
    assert "  3 Pick up bottombun1 from table1 using robot1\n  4 Do nothing\n" in shown


def test_raw_is_what_an_agent_sees(run):
    problem = make("burger", "random:3")
    observation = problem.observation(problem.initial_state())
    assert f"\n{observation}\n> " in run([], *KITCHEN, "--raw")[1]
    assert f"> raw\n{observation}\n" in run(["raw"], *KITCHEN)[1]


def test_a_hint_is_the_planners(run):
    problem = make("burger", "random:3")
    planner, state = get("robotouille").planner(problem), problem.initial_state()
    shown = run(["?"], *KITCHEN)[1].partition("> ?\n")[2].splitlines()
    assert shown[0].startswith(f"{planner.distance(state)} steps to the goal at best")
    assert [line[4:] for line in shown[1 : 1 + len(planner.optimal_actions(state))]] == list(
        planner.optimal_actions(state)
    )


def test_without_a_planner_only_the_hints_are_missing(run, monkeypatch):
    def refuse(self, problem):
        raise UserError("soups are not planned")

    monkeypatch.setattr(Kitchens, "planner", refuse)
    shown = run(["?", *solution()], *KITCHEN)[1]
    assert "No hint: soups are not planned." in shown and shown.endswith(f"Solved in {len(solution())} steps.\n")


def test_the_cap_ends_it(run):
    cap = make("burger", "random:3").max_steps
    shown = run(["Do nothing"] * cap, *KITCHEN)[1]
    assert f"Not solved within {cap} steps; the fewest possible: {len(solution())}." in shown


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("99", "99 is not one of 1 to "),
        ("0", "0 is not one of 1 to "),
        ("pick up patty1 from fryer1", "did you mean 'Pick up patty1 from fryer1 using robot1'?"),
        ("xyzzy", "'xyzzy' is not a valid action here."),
        ("help", "a number or an action"),
    ],
)
def test_what_is_not_understood_is_answered(run, line, says):
    status, shown, _ = run([line], *KITCHEN)
    assert status == 0 and says in shown.partition(f"> {line}\n")[2] and shown.endswith("Left after 0 steps.\n")


@pytest.mark.parametrize("lines", [["Do nothing"], ["Do nothing", "quit"], ["Do nothing", "q", "Do nothing"]])
def test_the_end_of_the_lines_is_the_end(run, lines):
    assert run(lines, *KITCHEN)[1].endswith("\nLeft after 1 step.\n")


def test_an_interrupt_is_a_way_to_leave(run, monkeypatch):
    def interrupt(prompt):
        raise KeyboardInterrupt

    monkeypatch.setattr(builtins, "input", interrupt)
    status, shown, _ = run([], *KITCHEN)
    assert status == 0 and shown.endswith("\nLeft after 0 steps.\n")


def test_a_family_gives_any_of_its_kitchens(run):
    names = {run([], "--layout=small")[1].splitlines()[0] for _ in range(4)}
    assert len(names) > 1 and all(name.startswith("burger small:") for name in names)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--task=pizza"], "pizza"),
        (["--layout=moon:3"], "moon:3"),
        (["--layout=nowhere.json"], "nowhere.json"),
        (["--colour=red"], "colour"),
        (["burger"], "'burger' is not understood"),
    ],
)
def test_a_mistake_is_one_line_and_exit_2(run, arguments, says):
    status, shown, errors = run([], *arguments)
    assert status == 2 and shown == "" and says in errors and errors.count("\n") == 1 and errors.startswith("stgrpo: ")
