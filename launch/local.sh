#!/usr/bin/env bash
# One machine, several processes of one run: one a GPU, or some on the CPU of a laptop.
#
#   PROCESSES=2 launch/local.sh --config=configs/tiny.py:smoke --workdir=runs/smoke
#   GPUS=0,1,2,3 launch/local.sh --config=configs/qwen2_5.py:1.5b,burger --workdir=runs/burger --config.model.path=MODEL
#
# Needs `stgrpo` on PATH. A stage before the options is done instead of `run`. PORT is where the processes meet (any that is
# free). This process becomes process 0, which speaks for all: signals go to it, and its exit status is the run's.
# DRY_RUN=1 prints what would be run, and checks the experiment.
set -euo pipefail

refuse() {
    echo "launch: $*" >&2
    exit 2
}

free_port() {
    local port
    while port=$((10000 + RANDOM % 20000)) && (: <"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do :; done
    echo "$port"
}

stage=run
if [[ ${1:-} == [a-z]* ]]; then
    stage=$1
    shift
fi
gpus=()
if [[ -n ${GPUS:-} ]]; then
    [[ $GPUS =~ ^[^,\ ]+(,[^,\ ]+)*$ ]] || refuse "GPUS=$GPUS is no list: give one such as GPUS=0,1,2,3"
    [[ -z ${PROCESSES:-} ]] || refuse "GPUS and PROCESSES are both set: each GPU has one process, leave PROCESSES out"
    IFS=, read -ra gpus <<<"$GPUS"
    count=${#gpus[@]}
else
    count=${PROCESSES:-2}
    [[ $count =~ ^[1-9][0-9]{0,3}$ ]] || refuse "PROCESSES=$count is no number of processes: give one such as PROCESSES=2"
fi
port=${PORT:-$(free_port)}
[[ $port =~ ^[1-9][0-9]{0,4}$ ]] || refuse "PORT=$port is no port: give one such as PORT=1234, or leave it out"

process() { # puts the command of process number $1 into `command`
    local number=$1
    shift
    command=(env JAX_PLATFORMS=cpu)
    if [[ -n ${GPUS:-} ]]; then
        command=(env "CUDA_VISIBLE_DEVICES=${gpus[number]}")
    fi
    command+=(stgrpo "$stage" --distributed_timeout=120 "$@" "--distributed=127.0.0.1:$port,$count,$number")
}

if [[ -n ${DRY_RUN:-} ]]; then
    for ((number = 0; number < count; number++)); do
        process "$number" "$@"
        printf '%q ' "${command[@]}"
        echo
    done
    exec stgrpo "$stage" "$@" --dry_run
fi
for ((number = 1; number < count; number++)); do
    process "$number" "$@"
    "${command[@]}" &
done
process 0 "$@"
exec "${command[@]}"
