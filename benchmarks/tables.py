"""Writes the tables of results in README and docs from the published result files, docs/results/*.json.

    python benchmarks/tables.py             writes them
    python benchmarks/tables.py --check     exits with 1, and names the file, where one is not what the files give

A table stands between `<!-- table NAME -->` and `<!-- end of table -->`. Files are of three kinds: counts of runs, as
quick_start.json, what `stgrpo compare --json=FILE` writes, and outcomes (`--outcomes=FILE`). Rates, intervals and tests
are worked out here. The tables in the paper's form are made of cross_task.jsonl.
"""

import argparse
import json
import pathlib
import re
import sys
from collections.abc import Iterable, Mapping, Sequence

from stgrpo.comparison.compare import compare
from stgrpo.comparison.load import read_runs
from stgrpo.comparison.paper import paper_tables
from stgrpo.comparison.runs import Group, Run, groups_of
from stgrpo.evaluation.metrics import mcnemar, wilson_interval
from stgrpo.evaluation.records import STAGE_LABELS
from stgrpo.evaluation.statistics.crossed import Interval
from stgrpo.evaluation.statistics.paired import Difference, paired_difference

ROOT = pathlib.Path(__file__).resolve().parents[1]
RESULTS = ROOT / "docs" / "results"
PAGES = (
    "README.md",
    *(
        f"docs/{name}.md"
        for name in ("alfworld", "benchmarks", "experiments", "losses", "paper", "pretrained", "webshop")
    ),
)
TABLE = re.compile(r"(<!-- table (.+?) -->\n)(.*?)(<!-- end of table -->)", re.S)


def tables() -> dict[str, str]:
    """Every table by its name."""
    runs = {run["name"]: run for run in read("quick_start.json")["runs"]}
    layouts = read("quick_start.json")["layouts"]
    found = {f"quick start, {name}": one_run(run, layouts) for name, run in runs.items()}
    found |= {f"paper, {number}": text for number, text in enumerate(paper(), 1)}
    found |= {"algorithms": algorithms(), "ablations": ablations(), "quick start, three seeds": three_seeds()}
    for name in ("experiment", "alfworld_tiny", "webshop_tiny", "smollm2"):
        compared = read(f"{name}.json")
        found |= {f"{name}, rates": rates(compared), f"{name}, differences": differences(compared)}
    return found


def paper() -> list[str]:
    """The main table, the matrix of tasks for each figure, and the claims; of several sets of layouts the first."""
    groups = groups_of(read_runs([RESULTS / "cross_task.jsonl"]))
    return [markdown(table.headings, table.rows) for table in paper_tables(compare(groups), groups)[:5]]


def three_seeds() -> str:
    """A row a training of the quick start's recipe, and all of them together."""
    runs = [run for run in read_runs([RESULTS / "algorithms.jsonl"]) if run.name.startswith("tiny_")]
    (group,) = groups_of(runs)
    found = compare([group])
    sft, grpo = (next(row for row in found.rows if row.policy == policy) for policy in ("sft", "grpo"))
    rows = [one_seed(run) for run in group.runs]
    (contrast,) = found.contrasts
    rates = (f"{short(row.sr)} {interval(*(row.over_both or row.over_layouts))}" for row in (sft, grpo))
    alone = (str(sum(int(row[column]) for row in rows)) for column in (4, 5))
    rows.append((f"all {len(rows)}", *rates, difference(contrast.difference), *alone))
    headings = ("seed", "SFT, SR [95 %]", "SFT + GRPO", "above SFT, paired [95 %]", "by GRPO alone", "by SFT alone")
    return markdown(headings, rows)


def one_seed(run: Run) -> tuple[str, ...]:
    """Its rates, by how much GRPO is above SFT, and the layouts that one of them alone solves."""
    played = (run.data.evaluations[f"{policy}_unseen"].episodes for policy in ("sft", "grpo"))
    sft, grpo = ([episode.success for episode in episodes] for episodes in played)
    rates = (f"{short(sum(x) / len(x))} {interval(*wilson_interval(sum(x), len(x)))}" for x in (sft, grpo))
    test = mcnemar(sft, grpo)
    gain = f"{difference(paired_difference(sft, grpo))}, p = {test.p_value:.2g}"
    return str(run.seed), *rates, gain, str(test.only_b), str(test.only_a)


def algorithms() -> str:
    """One row an algorithm: its rate, how far it is above the SFT policies that all begin with, and what it took."""
    groups = groups_of(read_runs([RESULTS / "algorithms.jsonl"]))
    costs = read("algorithms_costs.json")["runs"]
    rows = []
    for group, row in zip(groups, against_first(groups), strict=True):
        mine = [cost for cost in costs if cost["config"] == config_name(group)]
        took = (f"{sum(cost[key] for cost in mine) / len(mine):,.0f}" for key in ("updates", "tokens", "cpu_seconds"))
        rows.append((*row, *took))
    return markdown((*AGAINST_FIRST, "updates", "tokens in them", "CPU s"), rows)


def ablations() -> str:
    """One row an ablation, after the quick start's recipe itself, of which each differs in one thing."""
    recipe = [run for run in read_runs([RESULTS / "algorithms.jsonl"]) if run.name.startswith("tiny_")]
    groups = [*groups_of(recipe), *groups_of(read_runs([RESULTS / "ablations.jsonl"]))]
    return markdown(AGAINST_FIRST, against_first(groups))


AGAINST_FIRST = ("config", "seeds", "SR [95 %]", "above SFT", "above GRPO", "ASAT")


def against_first(groups: Sequence[Group]) -> list[tuple[str, ...]]:
    """Of each group the rate after GRPO, and how far that is above its SFT policies and above the first group's."""
    found, rows = compare(groups), []
    for group in groups:
        (row,) = (row for row in found.rows if (row.policy, row.group) == ("grpo", group.label))
        above = {c.a: c.difference for c in found.contrasts if c.b == f"{STAGE_LABELS['grpo']}, {group.label}"}
        others = (("sft", group.label), ("grpo", groups[0].label))
        gains = (above.get(f"{STAGE_LABELS[policy]}, {label}") for policy, label in others)
        shown = ("-" if gain is None else difference(gain) for gain in gains)
        rate = f"{short(row.sr)} {interval(*(row.over_both or row.over_layouts))}"
        rows.append((f"`{config_name(group)}`", ", ".join(map(str, row.seeds)), rate, *shown, f"{row.asat:.2f}"))
    return rows


def config_name(group: Group) -> str:
    """The config of its runs: they are named NAME_SEED or, as points of a sweep, config=NAME,seed=SEED in any order."""
    parts = [[part for part in run.name.split(",") if not part.startswith("seed=")] for run in group.runs]
    (name,) = {re.sub(r"_\d+$", "", ",".join(part)).removeprefix("config=") for part in parts}
    return name


def read(name: str) -> dict:
    return json.loads((RESULTS / name).read_text(encoding="utf-8"))


def one_run(run: Mapping, n: int) -> str:
    """The two policies of one run, with what failed where that is known."""
    what = f"burger, `small:` kitchens, split `test`, seed {run['seed']}, greedy, first unusable answer ends"
    headings = [what, "SR [95 %, Wilson]", "above SFT, paired [95 %, Tango]", "ASAT", "ASST"]
    lengths = {"sft": f"{run['updates']} updates", "grpo": f"{run['rollouts']} rollouts"}
    rows = []
    for stage in ("sft", "grpo"):
        k, told = run[stage]["successes"], run[stage].get("failures")
        rate = f"{short(k / n)} {interval(*wilson_interval(k, n))}, n = {n}"
        gain = paired(run, n) if stage == "grpo" else ""
        row = [
            f"{STAGE_LABELS[stage]} ({lengths[stage]})",
            rate,
            gain,
            f"{run[stage]['asat']:.2f}",
            f"{run[stage]['asst']:.2f}",
        ]
        rows.append(row + ([", ".join(f"{count} {kind}" for kind, count in told.items())] if told else []))
    return markdown(headings + (["failures"] if "failures" in run["sft"] else []), rows)


def paired(run: Mapping, n: int) -> str:
    """The difference with its interval and its test."""
    a = [True] * run["only_sft"] + [False] * (n - run["only_sft"])
    b = [False] * run["only_sft"] + [True] * run["only_grpo"] + [False] * (n - run["only_sft"] - run["only_grpo"])
    found, p = paired_difference(a, b), mcnemar(a, b).p_value
    return f"{difference(found)}, p = {p:.2g}"


def rates(comparison: Mapping) -> str:
    """The rows of `stgrpo compare`."""
    headings = (
        "policy",
        "config",
        "seeds",
        "n",
        "SR [95 %, other layouts]",
        "SD over seeds",
        "[95 %, other seeds too]",
    )
    rows = []
    for row in comparison["rows"]:
        both = interval(*row["over_both"]) if row["over_both"] else "-"
        sd = short(row["over_seeds"]["sd"]) if row["over_seeds"] else "-"
        rate = f"{short(row['sr'])} {interval(*row['over_layouts'])}"
        seeds = ", ".join(map(str, row["seeds"]))
        steps = ("-" if row[key] is None else f"{row[key]:.2f}" for key in ("asat", "asst", "spl"))
        failures = ", ".join(f"{count} {kind}" for kind, count in row["failures"].items())
        policy = STAGE_LABELS.get(row["policy"], row["policy"])
        rows.append((policy, row["group"], seeds, str(row["layouts"]), rate, sd, both, *steps, failures or "-"))
    return markdown((*headings, "ASAT", "ASST", "SPL", "failures"), rows)


def differences(comparison: Mapping) -> str:
    """The contrasts of `stgrpo compare`."""
    rows = []
    for found in comparison["contrasts"]:
        by = difference(Interval(**found["difference"]))
        p = ("-" if found[key] is None else f"{found[key]:.2g}" for key in ("p_value", "p_holm"))
        rows.append((found["b"], found["a"], by, str(found["layouts"]), *p))
    return markdown(("", "is above", "by [95 %]", "n", "p", "p (Holm)"), rows)


def markdown(headings: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    lines = [tuple(headings), *map(tuple, rows)]
    lines.insert(1, ("---",) * len(lines[0]))
    return "".join("|" + "|".join(f" {cell} " if cell != "---" else cell for cell in line) + "|\n" for line in lines)


def short(rate: float) -> str:
    """As .700, and 1.000."""
    return f"{rate:.3f}".removeprefix("0")


def difference(found: Interval | Difference) -> str:
    """As +.053 [+.017, +.090]."""
    return f"{signed(found.estimate)} [{signed(found.low)}, {signed(found.high)}]"


def signed(rate: float) -> str:
    return f"{rate:+.3f}".replace("0.", ".", 1)


def interval(low: float, high: float) -> str:
    return f"[{short(low)}, {short(high)}]"


def with_tables(text: str, known: Mapping[str, str]) -> str:
    """A page with its tables written anew."""
    return TABLE.sub(lambda found: f"{found[1]}{known[found[2]]}{found[4]}", text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing")
    check = parser.parse_args().check
    known, wrong = tables(), []
    for name in PAGES:
        page = ROOT / name
        old = page.read_text(encoding="utf-8")
        if (new := with_tables(old, known)) != old:
            wrong.append(name)
            if not check:
                page.write_text(new, encoding="utf-8")
    if check and wrong:
        sys.exit(f"{', '.join(wrong)}: not what docs/results gives; run python benchmarks/tables.py")
    print(f"written: {', '.join(wrong) or 'nothing, all is so already'}")


if __name__ == "__main__":
    main()
