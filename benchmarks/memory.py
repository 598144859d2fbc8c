"""Memory of a GRPO update by what is trained and how, compiled and not run: one JSON line a way of training.

    python benchmarks/memory.py [--config=configs/qwen2_5.py:1.5b,burger] [--topology=v5e:2x2] [--only=whole,lora]
        [--config.grpo.micro_batches=64 ...]

Without a topology the devices of this machine are meant. Sizes are bytes a device: the parts of the state, what XLA
plans for the update (`peak`, `temporary`), and `all`, the peak with the frozen reference.
"""

import json
import sys

from stgrpo.cli import parse
from stgrpo.errors import UserError
from stgrpo.plan.programs import compile_update, stage_programs
from stgrpo.plan.topologies import target

WAYS = {
    "whole": [],
    "bfloat16 moments": ["--config.grpo.moment_dtype=bfloat16"],
    "adafactor": ["--config.grpo.optimiser=adafactor"],
    "lora": ["--config.lora.rank=16", "--config.lora.base_dtype=bfloat16", "--config.lora.stages=('grpo',)"],
}


def figures(arguments: list[str]) -> dict[str, object]:
    """The figures of one experiment.

    Args:
        arguments: of `stgrpo plan`.
    """
    command = parse(["plan", *arguments])
    programs = stage_programs(command.config, "grpo", target(command.topology))
    compiled = compile_update(programs)
    return {
        **{name.replace(" ", "_"): size for name, size in programs.parts.items()},
        "temporary": compiled.temporary,
        "peak": compiled.peak,
        "all": compiled.peak + programs.reference,
        "tokens": programs.batch.size,
        "devices": programs.mesh.size,
        "compile_s": round(compiled.seconds, 1),
    }


def main() -> None:
    """Prints the figures."""
    only = [a.removeprefix("--only=").split(",") for a in sys.argv[1:] if a.startswith("--only=")]
    given = [a for a in sys.argv[1:] if not a.startswith("--only=")]
    if not any(a.startswith("--config=") for a in given):
        given.insert(0, "--config=configs/qwen2_5.py:1.5b,burger")
    for way in only[0] if only else WAYS:
        if way not in WAYS:
            raise UserError(f"--only={way} is unknown: use some of {','.join(WAYS)}")
        print(json.dumps({"way": way, **figures([*given, *WAYS[way]])}), flush=True)


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"memory.py: {error}")
