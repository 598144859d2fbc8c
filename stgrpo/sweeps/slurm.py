"""A sweep as arrays of Slurm: a script that submits one for each level of what points share, and is their job too."""

import shlex
from collections.abc import Sequence
from pathlib import Path

from stgrpo.sweeps.units import Unit

_HEAD = """\
#!/usr/bin/env bash
# Submits a sweep of {points} points to Slurm, {arrays}; each waits for the one before.
#
#   bash SCRIPT --gpus-per-node=1 --time=24:00:00 ...      with any options of sbatch but --array and --dependency
#
# Needs `stgrpo` on PATH (Slurm passes on that of the shell that submits), and a folder that all nodes see. What is done
# already ends at once, so the script may be submitted again. Before the time is up a task saves, ends with 75 and is
# queued again. DRY_RUN=1 prints what would be submitted.
set -euo pipefail
folder={folder}

if [[ ${{1:-}} == --do ]]; then # a task of an array: one of the names that follow
    shift
    names=("$@")
    status=0
    srun --ntasks=1 stgrpo sweep --workdir="$folder" --only="${{names[$SLURM_ARRAY_TASK_ID]}}" || status=$?
    if ((status == 75)); then
        scontrol requeue "$SLURM_JOB_ID"
    fi
    exit "$status"
fi

options=("$@")
script=$(realpath "$0")
before=()
submit() {{ # NAMES...: one array of them, after the one before, however that ended
    local command=(sbatch --parsable --requeue --open-mode=append --signal=TERM@120 --job-name=stgrpo-sweep
        --output="$folder/logs/slurm-%A_%a.log" "${{options[@]}}" "${{before[@]}}" --array="0-$(($# - 1)){at_once}"
        "$script" --do "$@")
    if [[ -n ${{DRY_RUN:-}} ]]; then
        printf '%q ' "${{command[@]}}"
        echo
        return
    fi
    local job
    job=$("${{command[@]}}")
    job=${{job%%;*}} # of several clusters it says which
    echo "submitted $# as job $job"
    before=(--dependency="afterany:$job")
}}

mkdir -p "$folder/logs"
"""


def slurm_script(folder: Path, units: Sequence[Unit], jobs: int = 0) -> str:
    """The script.

    Args:
        folder: of the sweep.
        units: all of it.
        jobs: tasks of an array that run at one time; 0 for as many as Slurm has room for.
    """
    levels: dict[int, list[str]] = {}
    for unit in units:
        levels.setdefault(unit.depth, []).append(unit.name)
    head = _HEAD.format(
        points=sum(unit.name.startswith("points/") for unit in units),
        arrays="as one array" if len(levels) == 1 else f"as {len(levels)} arrays",
        folder=shlex.quote(str(folder)),
        at_once=f"%{jobs}" if jobs else "",
    )
    lines = [" ".join(["submit", *map(shlex.quote, levels[depth])]) for depth in sorted(levels)]
    return head + "\n".join(lines) + "\n"
