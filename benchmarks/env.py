"""Our engine against the benchmark's own package, in one process: one JSON line a figure.

    python benchmarks/env.py [--steps=40] [--states=1000000] [--only=steps,create,memory]

Both engines take the same random walks. Times are CPU time of this process, so other load on the machine counts less.
`text`: valid actions, text, step and goal test, as an agent needs them; the package then finds the valid actions twice,
once for the text and once to choose from them (`text_once` leaves the second out). `no_text`: valid actions, step and
goal test. `warm`: many steps in one kitchen; `fresh`: one walk in a kitchen that was just made, its making included.
Without the package (see docs/environments.md) only our figures are printed.
"""

import argparse
import gc
import json
import multiprocessing
import pathlib
import random
import resource
import statistics
import time
from collections.abc import Callable, Iterator

from stgrpo.envs.robotouille import RobotouilleProblem, make
from stgrpo.envs.robotouille.kitchen.kitchen_json import kitchen_to_json
from stgrpo.envs.robotouille.kitchen.tasks import PAPER_TASKS, TASKS
from stgrpo.envs.robotouille.upstream import UpstreamEngine, goal_conjunctions, load_engine
from stgrpo.errors import UserError

KITCHENS = (
    ("burger", "default"),
    ("double_cheese_burger", "default"),
    ("onion_soup", "default"),
    ("burger", "test:126"),
    ("double_cheese_burger", "test:42"),
    ("burger", "random:1"),
    ("cheese_sandwich", "random:2"),
    ("cheese_burger", "random:3"),
    ("double_cheese_burger", "random:4"),
)
WARM_STEPS = 20_000
SLOW = 5000
"""The package makes no kitchen whose goal it would expand into more conjunctions: it takes minutes."""
MODES = ("text", "text_once", "no_text")


def ours(problem: RobotouilleProblem, steps: int, text: bool) -> float:
    """Returns the seconds of a random walk of our engine."""
    rng, state, started = random.Random(0), problem.initial_state(), time.process_time()
    for _ in range(steps):
        actions = problem.valid_actions(state)
        if text:
            problem.observation(state)
        state = problem.step(state, actions[int(rng.random() * len(actions))])
        problem.is_goal(state)
    return time.process_time() - started


def theirs(engine: UpstreamEngine, problem: RobotouilleProblem, steps: int, mode: str) -> float:
    """Returns the seconds of a random walk of the package, its step and its functions as they are."""
    state, rng, seconds = engine.start(kitchen_to_json(problem.kitchen)), random.Random(0), 0.0
    for _ in range(steps):
        started = time.process_time()
        if mode != "no_text":
            engine.describe(state)
        between = time.process_time()
        actions, _ = state.get_valid_actions_and_str()
        chosen = time.process_time()
        state.step([actions[int(rng.random() * len(actions))]])
        seconds += time.process_time() - started - (chosen - between if mode == "text_once" else 0.0)
    return seconds


def steps_figures(engine: UpstreamEngine | None, steps: int) -> None:
    """Prints microseconds a step and the ratios, for default and generated layouts."""
    ratios: dict[str, list[float]] = {}
    for task, layout in KITCHENS:
        for mode in MODES:
            text = mode != "no_text"
            gc.collect()  # what the package left behind is not ours to clean up
            started = time.process_time()
            ours(make(task, layout), steps, text)
            fresh = (time.process_time() - started) / steps
            problem = make(task, layout)
            ours(problem, steps, text)
            warm = ours(problem, WARM_STEPS, text) / WARM_STEPS
            line = {"figure": "step", "mode": mode, "task": task, "layout": layout}
            line |= {"ours_warm_us": round(1e6 * warm, 2), "ours_fresh_us": round(1e6 * fresh, 1)}
            if engine is not None:
                package = theirs(engine, problem, steps, mode) / steps
                line |= {"package_us": round(1e6 * package), "ratio_warm": round(package / warm)}
                line["ratio_fresh"] = round(package / fresh)
                for kind in ("warm", "fresh"):
                    where = "default" if layout == "default" else "generated"
                    ratios.setdefault(f"{mode} {where} {kind}", []).append(line[f"ratio_{kind}"])
            print(json.dumps(line), flush=True)
    for name, values in ratios.items():
        result = {"figure": "ratio", "of": name, "median": statistics.median(values), "least": min(values)}
        print(json.dumps(result), flush=True)


def milliseconds(make_it: Callable[[], object], repeats: int) -> float:
    """Returns the median CPU time of a call, in milliseconds."""
    times = []
    for _ in range(repeats):
        started = time.process_time()
        make_it()
        times.append(1e3 * (time.process_time() - started))
    return statistics.median(times)


def create_figures(engine: UpstreamEngine | None) -> None:
    """Prints the time to make each built-in kitchen, to start an episode in it, and to say the first text."""
    for task in TASKS:
        problem = make(task, "default")
        kitchen, conjunctions = problem.kitchen, goal_conjunctions(problem.kitchen)
        line: dict[str, object] = {"figure": "create", "task": task, "conjunctions": conjunctions}
        line["make_ms"] = round(milliseconds(lambda task=task: make(task, "default"), 21), 3)
        line["reset_ms"] = round(milliseconds(lambda p=problem: p.is_goal(p.initial_state()), 21), 4)
        made = iter([make(task, "default") for _ in range(11)])
        line["first_text_ms"] = round(milliseconds(lambda m=made: _say(next(m)), 11), 3)
        if engine is not None and conjunctions <= SLOW:
            entry, repeats = kitchen_to_json(kitchen), 3 if conjunctions < 100 else 1
            line["package_make_ms"] = round(milliseconds(lambda entry=entry: engine.start(entry), repeats), 1)
        print(json.dumps(line), flush=True)


def _say(problem: RobotouilleProblem) -> None:
    problem.observation(problem.initial_state())


def walk_states(problem: RobotouilleProblem) -> Iterator:
    """Yields states of endless random walks, each of 2000 steps, a fifth of them of those that start an effect."""
    rng = random.Random(0)
    while True:
        state = problem.initial_state()
        for _ in range(2000):
            actions = problem.valid_actions(state)
            busy = [a for a in actions if a.startswith(("Cook", "Cut", "Fry", "Fill", "Boil", "Add"))]
            state = problem.step(state, rng.choice(busy if busy and rng.random() < 0.2 else actions))
            yield state


def memory_figure(task: str, layout: str, states: int) -> None:
    """Prints by how much a process grows that keeps so many distinct states in a set."""
    problem = make(task, layout)
    walk, kept = walk_states(problem), set()
    for _ in range(20_000):
        next(walk)
    before, started = _resident(), time.process_time()
    while len(kept) < states:
        kept.add(next(walk))
    grown, pending = _resident() - before, sum(len(state.pending) for state in kept) / len(kept)
    line = {"figure": "memory", "task": task, "layout": layout, "states": len(kept), "grown_mb": round(grown / 1e6)}
    line |= {"bytes_a_state": round(grown / len(kept)), "pending_effects_a_state": round(pending, 2)}
    line |= {"bits": len(problem.grounding.atoms), "seconds": round(time.process_time() - started, 1)}
    print(json.dumps(line), flush=True)


def _resident() -> int:
    pages = pathlib.Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
    return int(pages) * resource.getpagesize()


def main() -> None:
    """Prints all figures, or those asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=40, help="of the package, a kitchen")
    parser.add_argument("--states", type=int, default=1_000_000, help="to keep in memory")
    parser.add_argument("--only", default="steps,create,memory")
    arguments = parser.parse_args()
    wanted = arguments.only.split(",")
    try:
        engine = load_engine()
    except UserError as error:
        print(json.dumps({"figure": "package", "missing": str(error)}))
        engine = None
    if "steps" in wanted:
        steps_figures(engine, arguments.steps)
    if "create" in wanted:
        create_figures(engine)
    if "memory" in wanted:
        spawn = multiprocessing.get_context("spawn")  # a process of its own has no freed memory to use again
        for task, layout in ((PAPER_TASKS[3], "test:126"), ("soup_and_sandwich", "test:42")):
            process = spawn.Process(target=memory_figure, args=(task, layout, arguments.states))
            process.start()
            process.join()


if __name__ == "__main__":
    main()
