#!/usr/bin/env bash
# The trainer and vLLM servers on GPUs of their own, of one host or of several that ssh reaches.
#
#   VLLM_PYTHON=vllm/bin/python TRAINER_GPUS=0,1,2,3 SERVER_GPUS=4,5,6,7 \
#     launch/gpu_hosts.sh --config=configs/qwen2_5.py:1.5b,burger --workdir=runs/burger --config.model.path=MODEL
#
#   TRAINER_HOSTS="gpu1 gpu2" SERVER_HOSTS="gpu3 gpu4" VLLM_PYTHON=/shared/vllm/bin/python \
#     TRAINER_GPUS=0,1,2,3,4,5,6,7 SERVER_GPUS=0,1,2,3,4,5,6,7 launch/gpu_hosts.sh --config=... --workdir=/shared/runs/burger
#
# Needs `stgrpo` on PATH. On several hosts: the same paths and files on all, a private network, since vLLM asks nobody who
# they are, and ssh that asks for no password; begin it on the first of TRAINER_HOSTS. One trainer process a host, one server
# a GPU. What they print goes to HOST-PORT.log and HOST-trainer.log in a folder beside the work directory
# (runs/burger-servers). New weights go through shared memory, or, where a server is on another host, through SHARED (a
# folder in that same one). PORT (8000) is that of the first server of a host, MEET (1234) where trainers meet.
# This process becomes the first trainer: signals go to it, its exit status is the run's, and the servers end with it.
# DRY_RUN=1 prints what would be run and where, and checks the experiment.
set -euo pipefail

refuse() {
    echo "launch: $*" >&2
    exit 2
}

[[ -n ${VLLM_PYTHON:-} ]] || refuse "VLLM_PYTHON is missing: give an interpreter that has vLLM (docs/rollouts.md)"
list='^[^, ]+(,[^, ]+)*$'
[[ ${TRAINER_GPUS:-} =~ $list ]] || refuse "TRAINER_GPUS=${TRAINER_GPUS:-} is no list: give one such as TRAINER_GPUS=0,1,2,3"
[[ ${SERVER_GPUS:-} =~ $list ]] || refuse "SERVER_GPUS=${SERVER_GPUS:-} is no list: give one such as SERVER_GPUS=4,5,6,7"
IFS=, read -ra server_gpus <<<"$SERVER_GPUS"
read -ra trainers <<<"${TRAINER_HOSTS:-127.0.0.1}"
read -ra server_hosts <<<"${SERVER_HOSTS:-${trainers[0]}}"
program=$(command -v stgrpo) || refuse "stgrpo is not on PATH: install it, or activate its environment"
first_port=${PORT:-8000}
[[ $first_port =~ ^[1-9][0-9]{0,4}$ ]] || refuse "PORT=$first_port is no port: give one such as PORT=8000, or leave it out"

stage=run
if [[ ${1:-} == [a-z]* ]]; then
    stage=$1
    shift
fi
experiment=() workdir=
split() { # what a server needs to know: the experiment, but no work directory
    while (($#)); do
        case $1 in
        --workdir=*) workdir=${1#*=} ;;
        --workdir | --distributed | --distributed_timeout) # its value is the next argument
            [[ $1 != --workdir ]] || workdir=${2:-}
            (($# == 1)) || shift
            ;;
        --dry_run) DRY_RUN=1 ;;
        --distributed*=*) ;;
        *) experiment+=("$1") ;;
        esac
        shift
    done
}
split "$@"
[[ -n $workdir ]] || refuse "--workdir is missing: give a folder for this run, such as --workdir=runs/burger"
logs=${workdir%/}-servers
[[ $logs == /* ]] || logs=$PWD/$logs

beside() { # HOST LOG COMMAND...: on a host, until this process ends: then what the shell there reads is closed
    local host=$1 log=$2 text
    shift 2
    if [[ -n ${DRY_RUN:-} ]]; then
        printf 'on %s: ' "$host"
        printf '%q ' "$@"
        echo
        return
    fi
    printf -v text '%q ' "$@"
    text="$text & cat >/dev/null; kill \$! 2>/dev/null; wait"
    printf -v text 'cd %q && exec bash -c %q' "$PWD" "$text"
    local there=(bash -c "$text")
    if [[ $host != "${trainers[0]}" ]]; then
        there=(ssh -o BatchMode=yes "$host" "$text")
    fi
    "${there[@]}" >>"$logs/$log.log" 2>&1 < <(while kill -0 $$; do sleep 1; done 2>/dev/null) &
}

[[ -n ${DRY_RUN:-} ]] || mkdir -p "$logs"
addresses=() options=()
for host in "${server_hosts[@]}"; do
    for i in "${!server_gpus[@]}"; do
        port=$((first_port + i))
        addresses+=("'http://$host:$port'")
        beside "$host" "$host-$port" env "CUDA_VISIBLE_DEVICES=${server_gpus[i]}" JAX_PLATFORMS=cpu \
            "$program" serve "${experiment[@]}" --config.rollout.backend=vllm "--config.rollout.python=$VLLM_PYTHON" \
            "--host=$host" "--port=$port"
    done
    if [[ $host != "${trainers[0]}" ]]; then
        options=("--config.rollout.folder=${SHARED:-$logs/weights}")
    fi
done

servers="($(IFS=,; echo "${addresses[*]}"),)"
train=("$program" "$stage" --distributed_timeout=300 "$@" --config.rollout.backend=vllm "--config.rollout.servers=$servers"
    "${options[@]}")
place=(env "CUDA_VISIBLE_DEVICES=$TRAINER_GPUS")
meet="${trainers[0]}:${MEET:-1234},${#trainers[@]}"
for ((number = 1; number < ${#trainers[@]}; number++)); do
    host=${trainers[number]}
    beside "$host" "$host-trainer" "${place[@]}" "${train[@]}" "--distributed=$meet,$number"
done
command=("${place[@]}" "${train[@]}" "--distributed=$meet,0")
if [[ -n ${DRY_RUN:-} ]]; then
    printf '%q ' "${command[@]}"
    echo
    exec "${train[@]}" --dry_run
fi
exec "${command[@]}"
