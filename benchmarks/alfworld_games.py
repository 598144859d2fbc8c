"""ALFWorld: time to read and to plan games, what the experts need, speed against the package: one JSON line a figure.

    python benchmarks/alfworld_games.py --data=GAMES [--split=valid_seen --split=valid_unseen]
    python benchmarks/alfworld_games.py --data=GAMES --package=5      where the package is installed: docs/alfworld.md

Reading and planning are CPU time. With --package both engines do the same walks, step by step in turn: `steps` are wall
clock, each with its text and its commands, and every text is compared.
"""

import argparse
import json
import random
import statistics
import time
from collections import defaultdict
from collections.abc import Iterator

from stgrpo.envs.alfworld import AlfworldProblem, load
from stgrpo.envs.alfworld.game.room import TASKS
from stgrpo.envs.alfworld.layouts.games import Games, open_games
from stgrpo.envs.alfworld.planner.planner import AlfworldPlanner

WALK = 30  # steps of a walk through both engines


def played(problem: AlfworldProblem, planner: AlfworldPlanner) -> list[bool] | None:
    """Returns, for each step of the expert, whether it was optimal; None where it does not win within the cap."""
    state, steps = problem.initial_state(), []
    while not problem.is_goal(state) and len(steps) < problem.max_steps:
        action = planner.expert_action(state)
        if action is None:
            return None
        steps.append(action in planner.optimal_actions(state))
        state = problem.step(state, action)
    return steps if problem.is_goal(state) else None


def milliseconds(times: list[float]) -> dict[str, float]:
    return {"ms_median": round(1e3 * statistics.median(times), 2), "ms_max": round(1e3 * max(times), 2)}


def solve(games: Games, split: str) -> None:
    """Prints how games are read and planned, and how far the expert comes, by task and in all."""
    reading, planning, optima, won = [], [], defaultdict(list), defaultdict(list)
    for number in range(len(games.names(split))):
        game = games.game(split, number)
        started = time.process_time()
        problem = load(game)
        read = time.process_time()
        planner = AlfworldPlanner(problem)
        optimum = planner.distance(problem.initial_state())
        planned = time.process_time()
        reading.append(read - started)
        planning.append(planned - read)
        for key in (problem.task, "all"):
            optima[key].append(optimum)
        steps = played(problem, planner)
        for key in (problem.task, "all"):
            won[key].append(steps)
    say(figure="read", split=split, games=len(reading), **milliseconds(reading))
    say(figure="plan", split=split, games=len(planning), **milliseconds(planning))
    for key in (*TASKS, "all"):
        solved = [steps for steps in won[key] if steps is not None]
        taken = [is_optimal for steps in solved for is_optimal in steps]
        say(
            figure="expert",
            split=split,
            task=key,
            games=len(won[key]),
            won=len(solved),
            optimum=round(statistics.mean(optima[key]), 2),
            expert=round(len(taken) / max(1, len(solved)), 2),
            optimal_actions=f"{sum(taken)} of {len(taken)}",
        )


def walks(games: Games, split: str, count: int) -> Iterator[tuple[float, float, bool]]:
    """Yields seconds of ours, seconds of the package and whether both said the same, for each step of some walks."""
    from stgrpo.envs.alfworld.upstream import UpstreamProblem, game_content

    rng = random.Random(0)
    for number in rng.sample(range(len(games.names(split))), count):
        game = games.game(split, number)
        theirs = UpstreamProblem(load(game), game_content(game))
        yield from walk(theirs, rng)


def walk(theirs, rng: random.Random) -> Iterator[tuple[float, float, bool]]:
    """One walk; the package goes on from its last state, as in play, and is not put back first."""
    ours = theirs.ours
    env, state = theirs._env, ours.initial_state()
    env.reset()
    for _ in range(WALK):
        command = rng.choice(ours.admissible_commands(state))
        started = time.perf_counter()
        state = ours.step(state, command)
        said = ours.feedback(state), ours.admissible_commands(state)
        stepped = time.perf_counter()
        seen, _, _ = env.step(command)
        yield (
            stepped - started,
            time.perf_counter() - stepped,
            said == (seen.feedback, tuple(seen["admissible_commands"])),
        )


def say(**line: object) -> None:
    print(json.dumps(line), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="", help="of the games; empty: ALFWORLD_DATA")
    parser.add_argument("--split", action="append", help="valid_seen and valid_unseen if none is given")
    parser.add_argument("--package", type=int, default=0, help="games to walk through in both engines")
    arguments = parser.parse_args()
    games = open_games(arguments.data)
    for split in arguments.split or ("valid_seen", "valid_unseen"):
        if not arguments.package:
            solve(games, split)
            continue
        steps = list(walks(games, split, arguments.package))
        ours, theirs = (sum(step[which] for step in steps) / len(steps) for which in (0, 1))
        figures = {"ours_us": round(1e6 * ours), "package_ms": round(1e3 * theirs, 1), "ratio": round(theirs / ours)}
        say(figure="steps", split=split, steps=len(steps), equal=sum(step[2] for step in steps), **figures)


if __name__ == "__main__":
    main()
