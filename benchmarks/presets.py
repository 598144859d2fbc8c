"""Plans the places of configs/qwen2_5.py: docs/plan.md's table is made of what this writes. It needs the compilers.

    python benchmarks/presets.py [--compile] [--file=docs/results/presets.jsonl] [PLACE,SIZE ...]
    python benchmarks/presets.py --table
    python benchmarks/presets.py --scaling

Each PLACE,SIZE (all of them, if none is named) becomes a line of the file, in place of the one that it has. Without
--compile memory is by formula, with it by XLA's compilers; a formula does not take the place of a compiled line.
"""

import argparse
import importlib.util
import json
import pathlib
import time

from stgrpo.cli import parse
from stgrpo.errors import UserError
from stgrpo.models.shapes import named_shapes
from stgrpo.plan import communication, estimate
from stgrpo.plan.programs import StagePrograms, stage_programs
from stgrpo.plan.report import compile_all
from stgrpo.plan.sampling import host_count
from stgrpo.plan.schedule import schedule_of
from stgrpo.plan.step import grpo_step, sft_step
from stgrpo.plan.topologies import target
from stgrpo.plan.work import longest_tokens

ROOT = pathlib.Path(__file__).resolve().parents[1]
CONFIG = ROOT / "configs" / "qwen2_5.py"
RESULTS = ROOT / "docs" / "results" / "presets.jsonl"
SIZES = [name.removeprefix("qwen2.5-") for name in named_shapes() if name.startswith("qwen2.5-")][:5]
UTILISATION = 0.4
PROGRAMS = {"sft": "SFT", "update": "update", "logprobs": "log-probabilities", "rollout": "rollout"}


def places() -> list[str]:
    """Of the config."""
    spec = importlib.util.spec_from_file_location("qwen2_5", CONFIG)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return list(module.PLACES)


def figures(place: str, size: str, *, compiled: bool) -> dict[str, object]:
    """A line of the file."""
    try:
        config = parse(["plan", f"--config={CONFIG}:{size},burger,{place}"]).config
    except UserError as error:
        return {"place": place, "size": size, "error": str(error)}
    started, there = time.perf_counter(), target(place)
    sft, grpo = (stage_programs(config, stage, there) for stage in ("sft", "grpo"))
    formula = _estimated(sft, grpo)
    memory = _compiled(config, there) if compiled else formula
    step, update = grpo_step(grpo, UTILISATION), sft_step(sft, UTILISATION)
    rollout, steps = sum(timed.seconds for timed in step), schedule_of(config)
    seconds = steps.sft * update[0].seconds + steps.grpo * rollout
    tokens = config.grpo.minibatches * longest_tokens(config, "grpo").tokens
    return {
        "place": place,
        "size": size,
        "mesh": "x".join(str(n) for n in grpo.mesh.shape.values()),
        "hosts": host_count(grpo.mesh),
        "trained": _way(config),
        "parts": grpo.micro_batches,
        "memory_gib": {name: round(x / 2**30, 1) for name, x in memory.items()},
        "formula_gib": {name: round(x / 2**30, 1) for name, x in formula.items()},
        "has_gib": round(there.memory / 2**30, 1),
        "compiled": compiled,
        "seconds": round(time.perf_counter() - started),
        "bound": {timed.part.name: timed.time.bound for timed in step},
        "rollout_s": float(f"{rollout:.3g}"),
        "tokens_s": float(f"{tokens / rollout:.3g}"),
        "device_hours": float(f"{seconds / 3600 * grpo.mesh.size:.3g}"),
    }


def _way(config) -> str:
    if config.lora.rank:
        return "adapters"
    return "bfloat16 moments" if config.grpo.moment_dtype == "bfloat16" else "whole"


def _estimated(sft: StagePrograms, grpo: StagePrograms) -> dict[str, float]:
    return {
        "sft": estimate.update_memory(sft),
        "update": estimate.update_memory(grpo),
        "logprobs": estimate.logprobs_memory(grpo),
        "rollout": estimate.rollout_memory(grpo),
    }


def _compiled(config, there) -> dict[str, float]:
    found = compile_all(config, there)
    grpo, peak = found.grpo, {name: c.peak for name, c in found.compiled.items()}
    return {
        "sft": peak["sft"],
        "update": peak["grpo"] + grpo.reference,
        "logprobs": peak["reference"] + grpo.beside_reference,
        "rollout": grpo.state + found.sampling.peak,
    }


def scaling() -> str:
    """A table: the update of Qwen2.5-1.5B on 8 to 256 devices with four rows of 4096 tokens each, by formula."""
    rows: list[list[object]] = [["devices", "mesh", "hosts", "GB sent", "off a host", "arithmetic s", "network s"]]
    rows.append(["---"] * len(rows[0]))
    for chip in ("v5e", "h100"):
        for count in (8, 16, 32, 64, 128, 256):
            data = count // 8 if chip == "h100" else 1
            given = [
                f"--config.mesh.data={data}",
                "--config.grpo.micro_batches=1",
                f"--config.grpo.prompts={4 * count}",
            ]
            config = parse(["plan", f"--config={CONFIG}:1.5b,burger", *given]).config
            programs = stage_programs(config, "grpo", target(f"{chip}-8" if count == 8 else _form(chip, count)))
            update, mesh = grpo_step(programs, UTILISATION)[-1], programs.mesh
            moved = (f(update.part.traffic, mesh) for f in (communication.sent, communication.leaving))
            times = (update.time.arithmetic, update.time.network)
            form = f"{data}x{mesh.shape['fsdp']}x1"
            cells = [f"{count} {chip}", form, host_count(mesh), *(f"{1e-9 * x:.3g}" for x in moved)]
            rows.append([*cells, *(f"{x:.3g}" for x in times)])
    return _markdown(rows)


def _form(chip: str, count: int) -> str:
    return f"{chip}:{count // 8}x8" if chip == "h100" else f"{chip}-{count}"


def _markdown(rows: list[list[object]]) -> str:
    return "\n".join(f"| {' | '.join(map(str, row))} |" for row in rows)


def read(file: pathlib.Path) -> dict[tuple[str, str], dict]:
    """The lines of a file by place and size."""
    lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
    return {(line["place"], line["size"]): line for line in map(json.loads, lines)}


def table(lines: dict[tuple[str, str], dict]) -> str:
    """As Markdown, in the order of the config."""
    head = ["place", "model", "trained", "mesh", "hosts", "parts", *PROGRAMS.values(), "has", "s a rollout"]
    head += ["tokens/s", "device-hours"]
    rows = [head, ["---"] * len(head)]
    for place in places():
        for size in SIZES:
            if (place, size) in lines:
                rows.append(_row(lines[place, size]))
    return _markdown(rows)


def _row(line: dict) -> list[object]:
    if "error" in line:
        return [line["place"], line["size"], "does not fit", *["-"] * 11]
    about = "" if line["compiled"] else "~"
    memory = [f"{about}{line['memory_gib'][name]}" for name in PROGRAMS]
    cells = [line[name] for name in ("place", "size", "trained", "mesh", "hosts", "parts")]
    times = [f"{line[name]:,g}" for name in ("rollout_s", "tokens_s", "device_hours")]
    return [*cells, *memory, line["has_gib"], *times]


def main() -> None:
    """Plans, or prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="PLACE,SIZE")
    parser.add_argument("--compile", action="store_true", help="ask XLA's compilers for the memory")
    parser.add_argument("--file", type=pathlib.Path, default=RESULTS, help="of results")
    parser.add_argument("--table", action="store_true", help="print the table of the file, plan nothing")
    parser.add_argument("--scaling", action="store_true", help="print the table of weak scaling")
    arguments = parser.parse_args()
    if arguments.scaling:
        print(scaling())
        return
    if arguments.table:
        print(table(read(arguments.file)))
        return
    arguments.file.parent.mkdir(parents=True, exist_ok=True)
    every = [f"{place},{size}" for place in places() for size in SIZES]
    for name in arguments.names or every:
        place, size = name.split(",")
        if read(arguments.file).get((place, size), {}).get("compiled") and not arguments.compile:
            continue
        line = figures(place, size, compiled=arguments.compile)
        lines = read(arguments.file) | {(place, size): line}
        text = "".join(json.dumps(line) + "\n" for line in lines.values())
        arguments.file.write_text(text, encoding="utf-8")
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
