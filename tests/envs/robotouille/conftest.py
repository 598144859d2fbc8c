"""The recorded traces: what was recorded, and the kitchens that were recorded only as a run; breadth-first search."""

import gzip
import json
import pathlib
import re
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from itertools import groupby

import pytest

from stgrpo.envs.robotouille import RobotouilleProblem, State

LAYOUT_FILES = ("default_layouts", "benchmark_layouts", "layouts", "layouts_wildcard")
_GIVEN = ("iscooked", "iscookable", "iscut", "iscuttable", "isfried", "isfryable", "isfryableifcut")
Line = dict
Identity = tuple


class Traces:
    """The folder of traces."""

    def __init__(self, directory: pathlib.Path):
        self._directory = directory

    def read(self, name: str) -> list[Line]:
        with gzip.open(self._directory / f"{name}.jsonl.gz", "rt", encoding="utf-8") as file:
            return [json.loads(line) for line in file]

    def kitchens(self) -> dict[Identity, dict]:
        """Returns (task, layout, seed) -> environment JSON."""
        found = {}
        for name in LAYOUT_FILES:
            for line in self.read(name):
                layout = line.get("layout", "random" if "seed" in line else "default")
                found[line["task"], layout, line.get("seed")] = line["env_json"]
        return found

    def episodes(self, name: str) -> Iterator[tuple[dict, list[Line]]]:
        """Yields (environment JSON, lines) of each recorded episode."""
        known = self.kitchens()
        rebuilt: dict[Identity, dict] = {}

        def key(line: Line) -> Identity:
            return line["task"], line["layout"], line["seed"], line["policy"], line["ep"]

        for identity, group in groupby(self.read(f"traces_{name}"), key):
            lines, kitchen = list(group), identity[:3]
            if kitchen not in known and kitchen not in rebuilt:
                rebuilt[kitchen] = _rebuild(lines[0], known[kitchen[0], "default", None])
            yield known.get(kitchen) or rebuilt[kitchen], lines


@pytest.fixture(scope="session")
def traces(traces_dir: pathlib.Path) -> Traces:
    return Traces(traces_dir)


@pytest.fixture(scope="session")
def breadth_first() -> Callable[[RobotouilleProblem], tuple[dict[State, list[State]], dict[State, int]]]:
    """A function that gives, for a problem, the successors of every state and the least steps to the goal."""

    def search(problem: RobotouilleProblem) -> tuple[dict[State, list[State]], dict[State, int]]:
        graph = _graph(problem)
        return graph, _distances(problem, graph)

    return search


def _graph(problem: RobotouilleProblem) -> dict[State, list[State]]:
    graph: dict[State, list[State]] = {}
    stack = [problem.initial_state()]
    while stack:
        state = stack.pop()
        if state not in graph:
            graph[state] = [problem.step(state, action) for action in problem.valid_actions(state)]
            stack += graph[state]
    return graph


def _distances(problem: RobotouilleProblem, graph: dict[State, list[State]]) -> dict[State, int]:
    before = defaultdict(list)
    for state, successors in graph.items():
        for successor in successors:
            before[successor].append(state)
    distances = {state: 0 for state in graph if problem.is_goal(state)}
    queue = deque(distances)
    while queue:
        state = queue.popleft()
        for earlier in before[state]:
            if earlier not in distances:
                distances[earlier] = distances[state] + 1
                queue.append(earlier)
    return distances


def _rebuild(first: Line, goal: dict) -> dict:
    """Makes an environment JSON whose start is that of a recorded line.

    Stations go into a row of cells in the order in which they are listed; what is held has a cell between those of the
    items listed before and after it.
    """
    names = re.findall(r"^(?:Station|Item) (\w+):$", first["obs"], re.M)
    facts = [(match[1], match[2].split(",")) for match in (re.match(r"(\w+)\((.*)\)", p) for p in first["preds"])]
    at = {args[0]: args[1] for name, args in facts if name == "item_at"}
    below = {args[0]: args[1] for name, args in facts if name == "atop"}
    own = {name: [p for p, args in facts if args == [name] and p in _GIVEN] for name in names}
    stations = [name for name in names if any(name == args[-1] for p, args in facts if p in ("vacant", "loc"))]
    row = {station: 2 * number for number, station in enumerate(stations)}
    items, robot_x, last = [], -1, -1
    for name in names[len(stations) :]:
        level, under = 0, below.get(name)
        while under is not None:
            level, under = level + 1, below.get(under)
        if name in at:
            last = row[at[name]]
        else:
            robot_x = last + 1
        x, y = (last, 0) if name in at else (robot_x, 5)
        items.append({"name": name.rstrip("0123456789"), "x": x, "y": y, "stack-level": level, "predicates": own[name]})
    here = row[next(args[1] for name, args in facts if name == "loc")]
    return {
        "stations": [{"name": name.rstrip("0123456789"), "x": row[name], "y": 0} for name in stations],
        "items": items,
        "players": [{"name": "robot", "x": robot_x, "y": 5, "direction": [here - robot_x, -5]}],
        "goal": goal["goal"],
        "goal_description": goal["goal_description"],
    }
