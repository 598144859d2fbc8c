#!/usr/bin/env bash
#SBATCH --job-name=stgrpo
#SBATCH --nodes=3
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --time=24:00:00
# Slurm: the first node trains, every other one is a rollout host; new weights go through a folder that all nodes see.
#
#   VLLM_PYTHON=/shared/vllm/bin/python SHARED=/shared/weights \
#     sbatch launch/rollouts_slurm.sh --config=configs/qwen2_5.py:1.5b,burger --workdir=/shared/runs/burger \
#       --config.model.path=/shared/Qwen2.5-1.5B-Instruct
#
# One server a GPU; what it prints goes to NODE-PORT.log in a folder beside the work directory (runs/burger-servers).
# vLLM asks nobody who they are: the nodes' network must be private.
# DRY_RUN=1 NODES="a b c" prints what would be run, and checks the experiment.
set -euo pipefail

python=${VLLM_PYTHON:?an interpreter that has vLLM, see docs/rollouts.md}
shared=${SHARED:?a folder that all nodes see}
port=${PORT:-8000}
gpus=${SLURM_GPUS_ON_NODE:-8}
read -ra nodes <<<"${NODES:-$(scontrol show hostnames "$SLURM_JOB_NODELIST" | tr '\n' ' ')}"

run() {
    if [[ -n ${DRY_RUN:-} ]]; then
        printf '%q ' "$@"
        printf '\n'
    else
        "$@"
    fi
}

experiment=() logs=servers
for argument in "$@"; do
    if [[ $argument == --workdir=* ]]; then
        logs=${argument#--workdir=}
        logs=${logs%/}-servers
    else
        experiment+=("$argument")
    fi
done
addresses=()
for node in "${nodes[@]:1}"; do
    for ((gpu = 0; gpu < gpus; gpu++)); do
        addresses+=("'http://$node:$((port + gpu))'")
        command=(srun --nodes=1 --ntasks=1 --overlap "--nodelist=$node"
            env "CUDA_VISIBLE_DEVICES=$gpu" JAX_PLATFORMS=cpu stgrpo serve "${experiment[@]}"
            --config.rollout.backend=vllm "--config.rollout.python=$python" "--host=$node" "--port=$((port + gpu))")
        if [[ -n ${DRY_RUN:-} ]]; then
            run "${command[@]}"
        else
            mkdir -p "$logs"
            "${command[@]}" >>"$logs/$node-$((port + gpu)).log" 2>&1 &
        fi
    done
done
trap 'kill $(jobs -p) 2>/dev/null || true' EXIT

servers="($(IFS=,; echo "${addresses[*]}"),)"
train=(stgrpo run "$@" --config.rollout.backend=vllm "--config.rollout.servers=$servers"
    "--config.rollout.folder=$shared")
run srun --nodes=1 --ntasks=1 --overlap "--nodelist=${nodes[0]}" "${train[@]}"
if [[ -n ${DRY_RUN:-} ]]; then
    "${train[@]}" --dry_run
fi
