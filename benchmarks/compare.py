"""Compares the figures of a run with those that were recorded, so that a regression is seen.

    python benchmarks/compare.py [--run=FILE.jsonl] [--baseline=benchmarks/baselines/cpu.json]
    python benchmarks/compare.py --record            # measures, and writes the values into the baseline

Without --run it measures by itself (`figures.py`, a minute or two). Each figure of a baseline has its value and its
tolerance, the share by which it may be above; none may be missing. Below its tolerance it has become better: record it
anew, in the commit that made it so. Exit 1 with the names of figures that are worse.
"""

import argparse
import datetime
import json
import os
import pathlib
import platform
import sys
from collections.abc import Iterator

BASELINE = pathlib.Path(__file__).parent / "baselines" / "cpu.json"


def compare(baseline: dict, values: dict[str, float]) -> Iterator[tuple[bool, str]]:
    """Yields whether a figure is worse, and a line about it, for each one of the baseline."""
    for name, recorded in baseline["figures"].items():
        was, share = recorded["value"], recorded["tolerance"]
        now = values.get(name)
        if now is None:
            yield True, f"WORSE   {name}: not measured, was {was:g}"
            continue
        change = f"{name}: {now:g}, was {was:g} ({now / was - 1:+.1%}, allowed {share:+.1%})"
        worse = now > was * (1 + share) or now != now
        yield worse, f"{'WORSE ' if worse else 'better' if now < was * (1 - share) else 'same  '}  {change}"


def machine() -> dict[str, str | int]:
    """Where and with what it was measured."""
    import jax

    return {
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count() or 0,
        "python": platform.python_version(),
        "jax": jax.__version__,
    }


def record(baseline: dict, values: dict[str, float]) -> dict:
    """The baseline with new values; a new figure may not be above its value by more than 2 %."""
    known = baseline.get("figures", {})
    figures = {name: {"tolerance": 0.02, **known.get(name, {}), "value": value} for name, value in values.items()}
    return {"date": datetime.date.today().isoformat(), "machine": machine(), "figures": figures}


def read_run(path: pathlib.Path) -> dict[str, float]:
    """Figure -> value of a file of JSON lines, as `figures.py` prints them."""
    lines = map(json.loads, path.read_text(encoding="utf-8").splitlines())
    return {line["figure"]: line["value"] for line in lines}


def measure() -> dict[str, float]:
    """What `figures.py` gives on this machine."""
    from figures import measure as measured

    return measured()


def main() -> int:
    """Compares or records; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=pathlib.Path, help="what figures.py printed, instead of measuring now")
    parser.add_argument("--baseline", type=pathlib.Path, default=BASELINE)
    parser.add_argument("--record", action="store_true", help="write the values into the baseline")
    args = parser.parse_args()
    values = read_run(args.run) if args.run else measure()
    baseline = json.loads(args.baseline.read_text(encoding="utf-8")) if args.baseline.is_file() else {}
    if args.record:
        args.baseline.write_text(json.dumps(record(baseline, values), indent=2) + "\n", encoding="utf-8")
        return 0
    print(f"recorded {baseline['date']} on {baseline['machine']}")
    results = list(compare(baseline, values))
    print(*(line for _, line in results), sep="\n")
    for name in sorted(values.keys() - baseline["figures"].keys()):
        print(f"new     {name}: {values[name]:g}")
    return int(any(worse for worse, _ in results))


if __name__ == "__main__":
    sys.exit(main())
