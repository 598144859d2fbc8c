"""Time to plan, and engine speed: one JSON line a figure.

    python benchmarks/planner.py [--layouts=../shared/traces/layouts.jsonl.gz]
    python benchmarks/planner.py --optima [TASK ...] [--layout=default] [--seconds=60]

Times are of fresh planners (nothing cached), on one core: wall clock, but CPU time with --optima. `optimal` counts the
layouts whose distance is the known optimum; with --layouts, the recorded layouts and their numbers of optimal plans are
checked as well.
"""

import argparse
import gzip
import json
import random
import statistics
import time
from collections import defaultdict
from collections.abc import Iterable

from stgrpo import envs
from stgrpo.envs.robotouille import RobotouilleProblem, load, make
from stgrpo.envs.robotouille.kitchen.benchmark import TESTING_SEEDS
from stgrpo.envs.robotouille.kitchen.tasks import PAPER_TASKS, get_task
from stgrpo.envs.robotouille.layouts.generator import generate
from stgrpo.envs.robotouille.layouts.layouts import canonical_key
from stgrpo.errors import UserError

OPTIMA = {
    "cheese_sandwich": (7, 8, 10, 11, 8, 14, 8, 8, 8, 5),
    "burger": (8, 12, 14, 8, 8, 10, 8, 8, 8, 8),
    "cheese_burger": (12, 12, 18, 18, 12, 13, 12, 12, 12, 10),
    "double_cheese_burger": (20, 20, 26, 22, 20, 30, 20, 26, 23, 25),
}
ROBOTOUILLE = envs.get("robotouille")


def plan(problem: RobotouilleProblem) -> tuple[int, float, float]:
    """Returns the optimum, the seconds to find it, and those to find the optimal set of every state on one plan."""
    started = time.perf_counter()
    planner, state = ROBOTOUILLE.planner(problem), problem.initial_state()
    optimum = planner.distance(state)
    planned = time.perf_counter()
    while actions := planner.optimal_actions(state):
        state = problem.step(state, actions[0])
    return optimum, planned - started, time.perf_counter() - planned


def figure(name: str, task: str, problems: Iterable[RobotouilleProblem], optima: Iterable[int] | None) -> None:
    """Prints the plan times of some kitchens."""
    results = [plan(problem) for problem in problems]
    times = [seconds for _, seconds, _ in results]
    line = {
        "figure": name,
        "task": task,
        "layouts": len(results),
        "plan_ms_median": round(1e3 * statistics.median(times), 2),
        "plan_ms_max": round(1e3 * max(times), 2),
        "sets_along_plan_ms_max": round(1e3 * max(sets for _, _, sets in results), 2),
    }
    if optima is not None:
        line["optimal"] = sum(found == known for (found, _, _), known in zip(results, optima, strict=True))
    print(json.dumps(line), flush=True)


def recorded(path: str) -> None:
    """Prints how many recorded layouts have the recorded optimum and number of optimal plans."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        lines = [json.loads(line) for line in file]
    right, times = 0, []
    for line in lines:
        problem = load(line["env_json"])
        started = time.perf_counter()
        planner, layer = ROBOTOUILLE.planner(problem), {problem.initial_state(): 1}
        optimum = planner.distance(problem.initial_state())
        times.append(time.perf_counter() - started)
        for _ in range(optimum):
            after: dict = defaultdict(int)
            for state, plans in layer.items():
                for action in planner.optimal_actions(state):
                    after[problem.step(state, action)] += plans
            layer = after
        right += (optimum, sum(layer.values())) == (line["optimal_steps"], line["n_optimal_plans"])
    result = {"figure": "recorded_layouts", "layouts": len(lines), "optimum_and_plan_count_equal": right}
    print(json.dumps({**result, "plan_ms_max": round(1e3 * max(times), 2)}), flush=True)


def optimum(task: str, layout: str, seconds: float) -> None:
    """Prints the best plan's steps and the proved bound of one kitchen, and the CPU time they took."""
    problem, started = make(task, layout), time.process_time()
    line = {"figure": "optimum", "task": task, "layout": layout, "cap": problem.max_steps}
    try:
        plan = ROBOTOUILLE.planner(problem).solve(problem.initial_state(), seconds=seconds)
        line |= {"steps": len(plan.actions), "bound": plan.bound}
    except UserError as error:
        line |= {"error": str(error)}
    print(json.dumps({**line, "cpu_s": round(time.process_time() - started, 2)}), flush=True)


def engine(task: str, layout: str, steps: int = 20_000) -> None:
    """Prints the time of a step of a random walk: valid actions, text, step and goal test."""
    problem, rng = make(task, layout), random.Random(0)
    state, started = problem.initial_state(), time.perf_counter()
    for _ in range(steps):
        actions = problem.valid_actions(state)
        problem.observation(state)
        state = problem.step(state, rng.choice(actions))
        problem.is_goal(state)
    seconds = time.perf_counter() - started
    line = {"figure": "engine", "task": task, "layout": layout, "step_with_text_us": round(1e6 * seconds / steps, 1)}
    print(json.dumps(line), flush=True)


def distinct(task: str, family: str, seeds: int) -> None:
    """Prints how many kitchens of so many seeds are distinct up to renaming."""
    keys = {canonical_key(generate(get_task(task), family, seed)) for seed in range(seeds)}
    print(json.dumps({"figure": "distinct", "task": task, "family": family, "seeds": seeds, "distinct": len(keys)}))


def main() -> None:
    """Prints all figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layouts", help="recorded layouts with their optima")
    parser.add_argument("--optima", nargs="*", metavar="TASK", help="only the optima of these tasks, or of all")
    parser.add_argument("--layout", default="", help="with --optima: one layout instead of the default and test ones")
    parser.add_argument("--seconds", type=float, default=60.0, help="with --optima: the time a kitchen may take")
    arguments = parser.parse_args()
    if arguments.optima is not None:
        for task in arguments.optima or ROBOTOUILLE.tasks():
            every = ("default", *ROBOTOUILLE.benchmark_layouts(task))
            for layout in (arguments.layout,) if arguments.layout else every:
                optimum(task, layout, arguments.seconds)
        return
    for task in PAPER_TASKS:
        tests = [make(task, f"test:{seed}") for seed in TESTING_SEEDS]
        figure("benchmark_layouts", task, tests, OPTIMA[task])
        for family in ("small", "random"):
            layouts = ROBOTOUILLE.layouts(task, family, split="test", count=50)
            figure(f"{family}_layouts", task, [make(task, layout) for layout in layouts], None)
    if arguments.layouts:
        recorded(arguments.layouts)
    for task, layout in (("burger", "default"), ("burger", "test:126"), ("double_cheese_burger", "test:42")):
        engine(task, layout)
    for family in ("small", "random"):
        distinct("burger", family, 20_000)


if __name__ == "__main__":
    main()
