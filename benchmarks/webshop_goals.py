"""WebShop: what the expert reaches, and the time that pages and plans take: one JSON line a figure.

    python benchmarks/webshop_goals.py --data=PRODUCTS [--every=10]

Times are CPU seconds of this process. Without --data it is our own catalogue.
"""

import argparse
import collections
import json
import statistics
import time

from stgrpo.envs.webshop import Catalogue, ShopProblem, load
from stgrpo.envs.webshop.layouts.goals import goals
from stgrpo.envs.webshop.layouts.made import made_catalogue
from stgrpo.envs.webshop.planner.planner import ShopPlanner


def bought(problem: ShopProblem) -> tuple[float, int, str]:
    """The expert's reward and steps, and what it bought."""
    planner, state, steps = ShopPlanner(problem), problem.initial_state(), 0
    while not problem.is_over(state) and steps < problem.max_steps:
        action = planner.expert_action(state)
        if action is None:
            break
        state, steps = problem.step(state, action), steps + 1
    return problem.reward(state), steps, state.asin


def timed(catalogue: Catalogue, every: int) -> dict[str, object]:
    some = goals(catalogue.products)[::every]
    start = time.process_time()
    found = [bought(catalogue.problem(goal)) for goal in some]
    seconds = time.process_time() - start
    return {
        "goals": len(some),
        "score": round(statistics.mean(reward for reward, _, _ in found), 4),
        "success_rate": round(statistics.mean(reward == 1 for reward, _, _ in found), 4),
        "goals_own_product": round(statistics.mean(a[2] == g.asin for a, g in zip(found, some, strict=True)), 4),
        "steps": dict(sorted(collections.Counter(steps for _, steps, _ in found).items())),
        "ms_a_goal": round(1e3 * seconds / len(some), 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="", help="folder of the benchmark's products")
    parser.add_argument("--every", type=int, default=10, help="take one goal in so many")
    words = parser.parse_args()
    start = time.process_time()
    catalogue = load(words.data) if words.data else made_catalogue()
    print(json.dumps({"products": len(catalogue.products), "load_s": round(time.process_time() - start, 2)}))
    print(json.dumps(timed(catalogue, words.every)))


if __name__ == "__main__":
    main()
