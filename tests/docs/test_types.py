"""A type checker accepts what the protocols ask of an environment of one's own, and nothing else."""

import json
import pathlib
import re
import subprocess
import sys

import pytest

from stgrpo.conformance.new import new_environment

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
USES = '''
from stgrpo.envs.robotouille.environment import Robotouille, make
from stgrpo.envs.robotouille.kitchen.engine import RobotouilleProblem, State
from stgrpo.envs.robotouille.planner.planner import RobotouillePlanner
from stgrpo.envs.robotouille.upstream import UpstreamPlanner, UpstreamProblem, UpstreamState
from stgrpo.envs.stochastic import FlakyPlanner, FlakyProblem, FlakyState
from stgrpo.protocol import Explaining, Instructing, Planner, Planning, Problem, PureEnvironment


def accepted(flaky: FlakyProblem, theirs: UpstreamProblem) -> None:
    """Environments of one's own and ours, each with its own kind of state."""
    hanoi, kitchen = Hanoi("three_disks", "start:1"), make("burger", "default")
    problems: tuple[Problem[str], Problem[State], Problem[FlakyState], Problem[UpstreamState]]
    problems = hanoi, kitchen, flaky, theirs
    environments: tuple[PureEnvironment, PureEnvironment] = HanoiEnvironment(), Robotouille()
    planning: tuple[Planning[Hanoi], Planning[RobotouilleProblem]] = HanoiEnvironment(), Robotouille()
    planners: tuple[Planner[str], Planner[State]] = hanoi, RobotouillePlanner(kitchen)
    others: tuple[Planner[FlakyState], Planner[UpstreamState]] = FlakyPlanner(hanoi), UpstreamPlanner(theirs)
    explaining: tuple[Explaining[str], Explaining[State]] = hanoi, kitchen
    instructing: tuple[Instructing, Instructing] = HanoiEnvironment(), Robotouille()
    print(problems, environments, planning, planners, others, explaining, instructing)


def refused(hanoi: Hanoi, planner: RobotouillePlanner) -> None:
    """A planner of other states, an environment that plans for other problems, a state that is none of these."""
    wrong: Planner[str] = planner
    also: Planning[RobotouilleProblem] = HanoiEnvironment()
    print(wrong, also, hanoi.step(1, "Move disk 1 to peg C"))
'''


@pytest.fixture(scope="module")
def findings(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, str]]:
    """What the checker says of what `new-environment` writes, in use: the function and the kind of each finding."""
    folder = tmp_path_factory.mktemp("types")
    example = (new_environment("hanoi", folder, ()) / "hanoi.py").read_text("utf-8")
    source = folder / "uses.py"
    source.write_text(example + USES, encoding="utf-8")
    command = [
        sys.executable,
        "-m",
        "pyrefly",
        "check",
        "--preset=default",
        "--output-format=json",
        f"--search-path={REPOSITORY}",
    ]
    command += [f"--python-interpreter-path={sys.executable}", str(source)]
    said = json.loads(subprocess.run(command, capture_output=True, text=True, cwd=folder).stdout)
    lines = source.read_text("utf-8").splitlines()
    return [(_function(lines[: found["line"]]), found["name"]) for found in said["errors"]]


def _function(lines: list[str]) -> str:
    return next((m[1] for line in reversed(lines) if (m := re.match(r"def (\w+)", line))), "example")


def test_environments_of_ones_own_are_accepted(findings: list[tuple[str, str]]) -> None:
    assert [found for found in findings if found[0] != "refused"] == []


def test_states_and_planners_of_others_are_refused(findings: list[tuple[str, str]]) -> None:
    assert [kind for where, kind in findings if where == "refused"] == [
        "bad-assignment",
        "bad-assignment",
        "bad-argument-type",
    ]
