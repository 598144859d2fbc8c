"""How many different kitchens each family of layouts makes: one JSON line a task and family.

    python benchmarks/layouts.py [--seeds=20000] [--tasks=burger,potato_soup] [--families=small]

`distinct` counts kitchens among the seeds 0, 1, ... that differ by more than the names and cells of things;
`benchmark` those seeds whose kitchen equals one of the tests of the benchmark, which no split contains; `milliseconds`
is the mean time of a kitchen, wall clock, on one core.
"""

import argparse
import json
import time

from stgrpo.envs.robotouille.kitchen.tasks import TASKS, get_task
from stgrpo.envs.robotouille.layouts.generator import FAMILIES, generate
from stgrpo.envs.robotouille.layouts.layouts import canonical_key, split_of
from stgrpo.errors import UserError


def count(task: str, family: str, seeds: int) -> dict[str, object]:
    """Returns the figures of one task and family."""
    started = time.perf_counter()
    kitchens = [generate(get_task(task), family, seed) for seed in range(seeds)]
    taken = time.perf_counter() - started
    keys = [canonical_key(kitchen) for kitchen in kitchens]
    return {
        "task": task,
        "family": family,
        "seeds": seeds,
        "distinct": len(set(keys)),
        "benchmark": sum(split_of(task, key) == "benchmark" for key in keys),
        "milliseconds": round(1000 * taken / seeds, 3),
    }


def main() -> None:
    """Prints the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=20_000)
    parser.add_argument("--tasks", default=",".join(TASKS))
    parser.add_argument("--families", default=",".join(FAMILIES))
    args = parser.parse_args()
    for task in args.tasks.split(","):
        for family in args.families.split(","):
            try:
                print(json.dumps(count(task, family, args.seeds)), flush=True)
            except UserError as error:
                print(json.dumps({"task": task, "family": family, "none": str(error)}), flush=True)


if __name__ == "__main__":
    main()
