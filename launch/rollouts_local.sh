#!/usr/bin/env bash
# One host with several GPUs: vLLM on one part of them, the trainer on the other; new weights go through shared memory.
#
#   VLLM_PYTHON=vllm/bin/python TRAINER_GPUS=0,1,2,3 SERVER_GPUS=4,5,6,7 \
#     launch/rollouts_local.sh --config=configs/qwen2_5.py:1.5b,burger --workdir=runs/burger --config.model.path=MODEL
#
# One server a GPU of SERVER_GPUS; what it prints goes to PORT.log in a folder beside the work directory (runs/burger-servers).
# DRY_RUN=1 prints what would be run, and checks the experiment.
set -euo pipefail

python=${VLLM_PYTHON:?an interpreter that has vLLM, see docs/rollouts.md}
trainer_gpus=${TRAINER_GPUS:?such as 0,1,2,3}
IFS=, read -ra server_gpus <<<"${SERVER_GPUS:?such as 4,5,6,7}"
port=${PORT:-8000}

run() {
    if [[ -n ${DRY_RUN:-} ]]; then
        printf '%q ' "$@"
        printf '\n'
    else
        "$@"
    fi
}

experiment=() logs=servers
for argument in "$@"; do # what a server needs to know: the experiment, but no work directory
    if [[ $argument == --workdir=* ]]; then
        logs=${argument#--workdir=}
        logs=${logs%/}-servers
    else
        experiment+=("$argument")
    fi
done
addresses=()
for i in "${!server_gpus[@]}"; do
    addresses+=("'http://127.0.0.1:$((port + i))'")
    command=(env "CUDA_VISIBLE_DEVICES=${server_gpus[i]}" JAX_PLATFORMS=cpu stgrpo serve "${experiment[@]}"
        --config.rollout.backend=vllm "--config.rollout.python=$python" "--port=$((port + i))")
    if [[ -n ${DRY_RUN:-} ]]; then
        run "${command[@]}"
    else
        mkdir -p "$logs"
        "${command[@]}" >>"$logs/$((port + i)).log" 2>&1 &
    fi
done
trap 'kill $(jobs -p) 2>/dev/null || true' EXIT

servers="($(IFS=,; echo "${addresses[*]}"),)"
train=(stgrpo run "$@" --config.rollout.backend=vllm "--config.rollout.servers=$servers")
run env "CUDA_VISIBLE_DEVICES=$trainer_gpus" "${train[@]}"
if [[ -n ${DRY_RUN:-} ]]; then
    "${train[@]}" --dry_run
fi
